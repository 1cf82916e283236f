//! [`PoolStats`]: how much memory a pool has, and what it is doing.

use super::streams::StreamHeap;
use super::units::UNIT;
use cumem::{Held, Stream, StreamStats};
use std::fmt;

/// A pool's memory at one moment. Bytes, unless it says otherwise.
///
/// `allocated + free = reserved` and `requested <= allocated`, always.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct PoolStats {
    /// Had from the upstream.
    pub reserved: usize,
    /// In live blocks, each rounded up to 256.
    pub allocated: usize,
    /// Asked for in live blocks.
    pub requested: usize,
    /// In no live block.
    pub free: usize,
    /// Of `free`: kept for the stream that freed it last, for which it needs no event.
    pub cached: usize,
    /// The largest free piece that is in one place, and kept for one stream or for none.
    pub largest_free: usize,
    /// Of `reserved`: has been given to a stream at some time. All of it, but over unified memory, where the rest has
    /// no pages yet.
    pub touched: usize,
    /// The most that `touched` ever was.
    pub peak_touched: usize,
    /// Live blocks (a number).
    pub blocks: usize,
    /// Chunks had from the upstream (a number).
    pub chunks: usize,
    /// Streams that the pool keeps memory for or has lately (a number).
    pub streams: usize,
}

impl PoolStats {
    /// The share of the memory in live blocks that nobody asked for: what rounding up costs. 0 if there is none.
    pub fn internal_fragmentation(&self) -> f64 {
        self.held().internal_fragmentation()
    }

    /// The share of the free memory that is not in its largest piece. 0 if there is none.
    pub fn external_fragmentation(&self) -> f64 {
        self.held().external_fragmentation()
    }

    /// The same as an error carries it, but for the maximum, the blocks' sizes and the streams.
    pub(super) fn held(&self) -> Held {
        let Self { reserved, allocated, requested: wanted, free, cached, largest_free, blocks, .. } = *self;
        Held { reserved, allocated, wanted, blocks, free, cached, largest_free, ..Held::default() }
    }
}

/// What one stream has; nothing of a slot that no stream has and that has no block.
pub(super) fn of_stream(stream_heap: &mut StreamHeap) -> Option<StreamStats> {
    let own = StreamStats {
        stream: stream_heap.stream().map(Stream::id),
        allocated: stream_heap.heap.live_units() as usize * UNIT,
        requested: stream_heap.requested as usize,
        cached: stream_heap.heap.free_units() as usize * UNIT,
        largest_free: stream_heap.heap.largest_free() as usize * UNIT,
        blocks: stream_heap.blocks as usize,
    };
    (own.stream.is_some() || own.blocks > 0).then_some(own)
}

/// Two lines for people.
impl fmt::Display for PoolStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = |share: f64| share * 100.0;
        write!(f, "{} reserved in {} chunks", Bytes(self.reserved), self.chunks)?;
        if self.touched < self.reserved {
            write!(f, ", {} of it touched", Bytes(self.touched))?;
        }
        writeln!(
            f,
            ": {} in {} blocks ({} requested, {:.1}% lost to rounding)",
            Bytes(self.allocated),
            self.blocks,
            Bytes(self.requested),
            percent(self.internal_fragmentation()),
        )?;
        write!(
            f,
            "{} free: {} cached for {} streams, largest piece {} ({:.1}% outside of it)",
            Bytes(self.free),
            Bytes(self.cached),
            self.streams,
            Bytes(self.largest_free),
            percent(self.external_fragmentation()),
        )
    }
}

/// Bytes for people: two decimals, in the largest binary unit that leaves a whole.
pub(super) struct Bytes(pub(super) usize);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit =
            [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)].into_iter().find(|(_, bits)| self.0 >> bits > 0);
        match unit {
            Some((name, bits)) => write!(f, "{:.2} {name}", self.0 as f64 / (1_u64 << bits) as f64),
            None => write!(f, "{} B", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fragmentation_is_a_share_of_what_there_is() {
        let none = PoolStats::default();
        assert_eq!((none.internal_fragmentation(), none.external_fragmentation()), (0.0, 0.0));
        let some = PoolStats {
            reserved: 4096,
            allocated: 2048,
            requested: 1536,
            free: 2048,
            largest_free: 512,
            ..PoolStats::default()
        };
        assert_eq!((some.internal_fragmentation(), some.external_fragmentation()), (0.25, 0.75));
    }

    #[test]
    fn bytes_as_people_read_them() {
        let text = |bytes| Bytes(bytes).to_string();
        assert_eq!(text(0), "0 B");
        assert_eq!(text(1023), "1023 B");
        assert_eq!(text(1 << 10), "1.00 KiB");
        assert_eq!(text(3 << 29), "1.50 GiB");
    }
}
