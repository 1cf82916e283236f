//! [`PoolStats`]: how much memory a pool has, and what it is used for.

use super::streams::{Slot, StreamHeap};
use super::units::UNIT;
use cumem::device::KeptStream;
use cumem::error::{Plural, StreamStats, Usage};
use std::fmt;

/// The memory of a pool at one moment, in bytes unless stated otherwise.
///
/// Always, `allocated + free = reserved` and `requested <= allocated`.
///
/// # Examples
///
/// ```
/// use cumem::sim::Profile;
/// use cumem::{Buffer, CudaResource, Device, Stream};
/// use cumem_adaptors::{PoolOptions, ResourceExt};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let device = Device::simulated(Profile::default())?;
/// let stream = Stream::new(&device)?;
/// let pool = CudaResource::new(&device).pool(PoolOptions::new().step(1 << 20))?;
/// let _buffer = Buffer::<u8, _>::zeroed(1000, &stream, &pool)?;
/// let stats = pool.stats();
/// assert_eq!(stats.allocated + stats.free, stats.reserved);
/// println!("{stats}"); // two lines: what is reserved and allocated, and what is free
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct PoolStats {
    /// Bytes that the pool holds from its upstream.
    pub reserved: usize,
    /// Bytes in live blocks, each rounded up to a multiple of 256 or to a size of
    /// [`divisions`](super::PoolOptions::divisions).
    pub allocated: usize,
    /// Bytes that were requested for the live blocks.
    pub requested: usize,
    /// Bytes in no live block.
    pub free: usize,
    /// The part of `free` that is kept for the stream that freed it last, which needs no event to reuse it.
    pub cached: usize,
    /// The size of the largest free piece. The piece may be kept for one stream.
    pub largest_free: usize,
    /// The part of `reserved` that has been given to a stream at some time. Over unified (managed) memory, the rest of
    /// `reserved` has no pages yet. Over other memory, there is no rest.
    pub touched: usize,
    /// The largest value that `touched` has had.
    pub peak_touched: usize,
    /// The largest value that `reserved` has had.
    pub peak_reserved: usize,
    /// A bound that `allocated` has never exceeded: the sum of the peaks of the pool's streams, and at most
    /// `peak_reserved`. The bound is the peak itself if one stream has used the pool. The peaks of several streams may
    /// lie at different times, so the peak of all streams together may be lower.
    /// [`Statistics`](crate::Statistics) counts an exact peak.
    pub peak_allocated_at_most: usize,
    /// A bound that `requested` has never exceeded, in the same way.
    pub peak_requested_at_most: usize,
    /// The number of live blocks.
    pub blocks: usize,
    /// The number of chunks that the pool holds from its upstream.
    pub chunks: usize,
    /// The number of streams for which the pool keeps memory, or did recently.
    pub streams: usize,
}

impl PoolStats {
    /// Returns the share of the bytes in live blocks that no caller requested, which is the cost of rounding up.
    /// Returns 0 if there are none.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem::sim::Profile;
    /// use cumem::{Buffer, CudaResource, Device, Stream};
    /// use cumem_adaptors::{PoolOptions, ResourceExt};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let device = Device::simulated(Profile::default())?;
    /// let stream = Stream::new(&device)?;
    /// let pool = CudaResource::new(&device).pool(PoolOptions::new())?;
    /// let _buffer = Buffer::<u8, _>::zeroed(768 + 128, &stream, &pool)?; // takes 1024 bytes
    /// assert_eq!(pool.stats().internal_fragmentation(), 0.125);
    /// # Ok(())
    /// # }
    /// ```
    pub fn internal_fragmentation(&self) -> f64 {
        self.held().internal_fragmentation()
    }

    /// Returns the share of the free memory that is outside its largest piece. Returns 0 if there is none.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem::sim::Profile;
    /// use cumem::{CudaResource, Device};
    /// use cumem_adaptors::{PoolOptions, ResourceExt};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let device = Device::simulated(Profile::default())?;
    /// let pool = CudaResource::new(&device).pool(PoolOptions::new().initial(1 << 20))?;
    /// assert_eq!(pool.stats().external_fragmentation(), 0.0); // the free memory is one piece
    /// # Ok(())
    /// # }
    /// ```
    pub fn external_fragmentation(&self) -> f64 {
        self.held().external_fragmentation()
    }

    /// Returns the statistics as an error carries them, without the maximum, the block sizes and the streams.
    pub(super) fn held(&self) -> Usage {
        let mut usage = Usage::default();
        usage.reserved = self.reserved;
        usage.allocated = self.allocated;
        usage.requested = self.requested;
        usage.blocks = self.blocks;
        usage.free = self.free;
        usage.cached = self.cached;
        usage.largest_free = self.largest_free;
        usage
    }
}

/// Returns the memory of one stream, or `None` for a slot without a stream and without a block.
pub(super) fn of_stream(slot: &Slot, stream_heap: &mut StreamHeap) -> Option<StreamStats> {
    let mut own = StreamStats::default();
    own.stream = stream_heap.stream().map(KeptStream::id);
    own.allocated = stream_heap.heap.live_units() as usize * UNIT;
    own.requested = slot.requested() as usize;
    own.cached = stream_heap.heap.free_units() as usize * UNIT;
    own.largest_free = stream_heap.heap.largest_free() as usize * UNIT;
    own.blocks = slot.blocks(stream_heap) as usize;
    (own.stream.is_some() || own.blocks > 0).then_some(own)
}

/// Writes two lines of readable text.
impl fmt::Display for PoolStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = |share: f64| share * 100.0;
        write!(f, "{} reserved in {}", Bytes(self.reserved), Plural(self.chunks, "chunk"))?;
        if self.touched < self.reserved {
            write!(f, ", {} of it touched", Bytes(self.touched))?;
        }
        writeln!(
            f,
            ": {} in {} ({} requested, {:.1}% lost to rounding)",
            Bytes(self.allocated),
            Plural(self.blocks, "block"),
            Bytes(self.requested),
            percent(self.internal_fragmentation()),
        )?;
        write!(
            f,
            "{} free: {} cached for {}, largest piece {} ({:.1}% outside of it)",
            Bytes(self.free),
            Bytes(self.cached),
            Plural(self.streams, "stream"),
            Bytes(self.largest_free),
            percent(self.external_fragmentation()),
        )
    }
}

/// A number of bytes as text: two decimals, in the largest binary unit that is at most that number.
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
    fn fragmentation_is_a_share_of_the_allocated_or_free_memory() {
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
    fn bytes_are_displayed_with_units() {
        let text = |bytes| Bytes(bytes).to_string();
        assert_eq!(text(0), "0 B");
        assert_eq!(text(1023), "1023 B");
        assert_eq!(text(1 << 10), "1.00 KiB");
        assert_eq!(text(3 << 29), "1.50 GiB");
    }
}
