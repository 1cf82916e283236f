//! [`Held`]: what a suballocator had when it ran out, as its error carries it.

use crate::stream::StreamId;
use std::fmt;

/// What a suballocator had when it ran out, all of it at one moment. Bytes, unless it says otherwise.
///
/// `allocated + free = reserved`. The blocks of all classes are the blocks, and in a pool those of all streams too.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Held {
    /// Had from the upstream.
    pub reserved: usize,
    /// In live blocks.
    pub allocated: usize,
    /// Asked for in live blocks: the rest of them is lost to rounding.
    pub wanted: usize,
    /// Live blocks (a number).
    pub blocks: usize,
    /// In no live block.
    pub free: usize,
    /// Of `free`: kept for one stream.
    pub cached: usize,
    /// The largest free block: what is free beyond it is in pieces.
    pub largest_free: usize,
    /// The most that it may have from the upstream.
    pub maximum: Option<usize>,
    /// Its live blocks by size, from the smallest; sizes that no block has are left out.
    pub classes: Vec<SizeClass>,
    /// What each stream has.
    pub streams: Vec<StreamStats>,
}

/// The live blocks of a size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SizeClass {
    /// A power of two: blocks of this many bytes, and of more than half as many.
    pub at_most: usize,
    /// How many blocks.
    pub blocks: usize,
    /// Bytes in them.
    pub bytes: usize,
}

/// What a suballocator keeps together for one stream. Bytes, unless it says otherwise.
///
/// In a pool, a block counts for the stream it was allocated on. If the pool has given that stream's place to another
/// since, for that one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StreamStats {
    /// The stream; none if it is gone, and left live blocks.
    pub stream: Option<StreamId>,
    /// In live blocks.
    pub allocated: usize,
    /// Asked for in live blocks.
    pub requested: usize,
    /// Free, and kept for this stream.
    pub cached: usize,
    /// The largest piece of that.
    pub largest_free: usize,
    /// Live blocks (a number).
    pub blocks: usize,
}

impl Held {
    /// The share of the memory in live blocks that nobody asked for: what rounding up costs. 0 if there is none.
    pub fn internal_fragmentation(&self) -> f64 {
        share(self.allocated.saturating_sub(self.wanted), self.allocated)
    }

    /// The share of the free memory that is not in its largest piece. 0 if there is none.
    pub fn external_fragmentation(&self) -> f64 {
        share(self.free.saturating_sub(self.largest_free), self.free)
    }
}

fn share(part: usize, whole: usize) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

/// How many streams an error names before it only counts them.
const NAMED: usize = 4;

/// In one line: the sums, the live blocks by size, and the streams that have the most.
impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { reserved, allocated, wanted, blocks, free, cached, largest_free, .. } = self;
        let percent = |share: f64| share * 100.0;
        write!(
            f,
            "{reserved}, of which {allocated} are in {blocks} blocks that asked for {wanted} ({:.1} % lost to rounding), \
             and {free} are free, {cached} of that kept for one stream each; \
             largest free block {largest_free} ({:.1} % of what is free is outside of it), maximum ",
            percent(self.internal_fragmentation()),
            percent(self.external_fragmentation()),
        )?;
        match self.maximum {
            Some(bytes) => write!(f, "{bytes}")?,
            None => f.write_str("none")?,
        }
        for (i, class) in self.classes.iter().enumerate() {
            write!(f, "{} {} of up to {}", if i == 0 { "; blocks:" } else { "," }, class.blocks, class.at_most)?;
        }
        let mut streams: Vec<_> = self.streams.iter().collect();
        streams.sort_by_key(|own| std::cmp::Reverse(own.allocated + own.cached));
        for own in streams.iter().take(NAMED) {
            match own.stream {
                Some(stream) => write!(f, "; stream {}: ", stream.as_u64())?,
                None => f.write_str("; streams that are gone: ")?,
            }
            write!(f, "{} in {} blocks, {} kept", own.allocated, own.blocks, own.cached)?;
        }
        match streams.len().saturating_sub(NAMED) {
            0 => Ok(()),
            more => write!(f, "; and {more} streams with less"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fragmentation_is_a_share_of_what_there_is() {
        let none = Held::default();
        assert_eq!((none.internal_fragmentation(), none.external_fragmentation()), (0.0, 0.0));
        let some = Held { reserved: 4096, allocated: 2048, wanted: 1536, free: 2048, largest_free: 512, ..none };
        assert_eq!((some.internal_fragmentation(), some.external_fragmentation()), (0.25, 0.75));
    }

    #[test]
    fn it_is_told_in_one_line() {
        let class = |at_most, blocks| SizeClass { at_most, blocks, bytes: at_most * blocks };
        let own = |allocated, blocks| StreamStats { allocated, blocks, cached: 256, ..StreamStats::default() };
        let held = Held {
            reserved: 8192,
            allocated: 4096,
            wanted: 4000,
            blocks: 9,
            free: 4096,
            cached: 1280,
            largest_free: 1024,
            maximum: Some(16384),
            classes: vec![class(256, 8), class(2048, 1)],
            streams: vec![own(256, 1), own(2048, 1), own(512, 2), own(256, 1), own(1024, 4)],
        };
        assert_eq!(
            held.to_string(),
            "8192, of which 4096 are in 9 blocks that asked for 4000 (2.3 % lost to rounding), and 4096 are free, 1280 of \
             that kept for one stream each; largest free block 1024 (75.0 % of what is free is outside of it), maximum \
             16384; blocks: 8 of up to 256, 1 of up to 2048; streams that are gone: 2048 in 1 blocks, 256 kept; streams \
             that are gone: 1024 in 4 blocks, 256 kept; streams that are gone: 512 in 2 blocks, 256 kept; streams that are \
             gone: 256 in 1 blocks, 256 kept; and 1 streams with less"
        );
    }
}
