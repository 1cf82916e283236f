//! [`Usage`]: the memory of a suballocator when it ran out, for its error.

use crate::device::stream::StreamId;
use crate::human_bytes::HumanBytes;
use std::fmt;

/// The memory of a suballocator when it ran out, all of it at one moment. Numbers are bytes unless they say otherwise.
///
/// `allocated + free = reserved`. The classes together hold all live blocks, and in a pool so do the streams.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Usage {
    /// Bytes that it has from its upstream.
    pub reserved: usize,
    /// Bytes in live blocks.
    pub allocated: usize,
    /// Bytes that were requested for the live blocks; rounding costs the rest of `allocated`.
    pub requested: usize,
    /// The number of live blocks.
    pub blocks: usize,
    /// Bytes in no live block.
    pub free: usize,
    /// Bytes of `free` that only one stream can be served from.
    pub cached: usize,
    /// Bytes of the largest free piece.
    pub largest_free: usize,
    /// The most bytes that it may have from its upstream, if there is a maximum.
    pub maximum: Option<usize>,
    /// The live blocks by size, in ascending order, without sizes that no block has.
    pub classes: Vec<SizeClass>,
    /// The memory of each stream.
    pub streams: Vec<StreamStats>,
}

/// The live blocks of one size class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct SizeClass {
    /// A power of two: the class holds blocks of more than half of it and at most all of it, in bytes.
    pub at_most: usize,
    /// The number of blocks.
    pub blocks: usize,
    /// Bytes in the blocks.
    pub bytes: usize,
}

impl SizeClass {
    /// A class of `blocks` blocks of together `bytes` bytes, each of at most `at_most` bytes.
    pub const fn new(at_most: usize, blocks: usize, bytes: usize) -> Self {
        Self { at_most, blocks, bytes }
    }
}

/// The memory that a suballocator keeps together for one stream. Numbers are bytes unless they say otherwise.
///
/// A pool counts a block under the stream that allocated it. If that stream's slot has been reassigned since, the block
/// counts under the slot's new stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct StreamStats {
    /// The stream; `None` if it was dropped while blocks of it were live.
    pub stream: Option<StreamId>,
    /// Bytes in live blocks.
    pub allocated: usize,
    /// Bytes that were requested for the live blocks.
    pub requested: usize,
    /// Bytes that are free, and that only this stream can be served from.
    pub cached: usize,
    /// Bytes of the largest of these free pieces.
    pub largest_free: usize,
    /// The number of live blocks.
    pub blocks: usize,
}

impl Usage {
    /// Returns the share of the memory in live blocks that was not requested, which rounding costs. 0 without live blocks.
    pub fn internal_fragmentation(&self) -> f64 {
        share(self.allocated.saturating_sub(self.requested), self.allocated)
    }

    /// Returns the share of the free memory that is not in its largest piece. 0 without free memory.
    pub fn external_fragmentation(&self) -> f64 {
        share(self.free.saturating_sub(self.largest_free), self.free)
    }
}

fn share(part: usize, whole: usize) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

/// How many streams an error names before it only counts them.
const NAMED: usize = 4;

/// `{}` displays the sums, `{:#}` also the fragmentation, the live blocks by size, and the streams that have the most.
impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { reserved, allocated, free, largest_free, maximum, .. } = self;
        let [held, used, unused, largest] = [*reserved, *allocated, *free, *largest_free].map(HumanBytes);
        write!(f, "it holds {held}: {used} in use, {unused} free, of which the largest piece is {largest}")?;
        if let Some(maximum) = maximum {
            write!(f, "; it may hold at most {}", HumanBytes(*maximum))?;
        }
        if f.alternate() { self.fmt_details(f) } else { Ok(()) }
    }
}

impl Usage {
    fn fmt_details(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "; {} live blocks of {} requested ({:.1} % lost to rounding); {:.1} % of the free memory is outside of its \
             largest piece, and {} of it can only serve the stream that freed it",
            self.blocks,
            HumanBytes(self.requested),
            self.internal_fragmentation() * 100.0,
            self.external_fragmentation() * 100.0,
            HumanBytes(self.cached),
        )?;
        for (i, class) in self.classes.iter().enumerate() {
            let before = if i == 0 { "; live blocks by size:" } else { "," };
            write!(f, "{before} {} of up to {}", class.blocks, HumanBytes(class.at_most))?;
        }
        let mut streams: Vec<_> = self.streams.iter().collect();
        streams.sort_by_key(|own| std::cmp::Reverse(own.allocated + own.cached));
        for own in streams.iter().take(NAMED) {
            match own.stream {
                Some(stream) => write!(f, "; stream {}: ", stream.as_u64())?,
                None => f.write_str("; a stream that was dropped: ")?,
            }
            let [used, cached] = [own.allocated, own.cached].map(HumanBytes);
            write!(f, "{used} in {} blocks, {cached} cached", own.blocks)?;
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
        let none = Usage::default();
        assert_eq!((none.internal_fragmentation(), none.external_fragmentation()), (0.0, 0.0));
        let some = Usage { reserved: 4096, allocated: 2048, requested: 1536, free: 2048, largest_free: 512, ..none };
        assert_eq!((some.internal_fragmentation(), some.external_fragmentation()), (0.25, 0.75));
    }

    #[test]
    fn the_sums_are_short_and_the_whole_account_is_on_request() {
        let class = |at_most, blocks| SizeClass { at_most, blocks, bytes: at_most * blocks };
        let own = |allocated, blocks| StreamStats { allocated, blocks, cached: 256, ..StreamStats::default() };
        let usage = Usage {
            reserved: 8192,
            allocated: 4096,
            requested: 4000,
            blocks: 9,
            free: 4096,
            cached: 1280,
            largest_free: 1024,
            maximum: Some(16384),
            classes: vec![class(256, 8), class(2048, 1)],
            streams: vec![own(256, 1), own(2048, 1), own(512, 2), own(256, 1), own(1024, 4)],
        };
        let sums =
            "it holds 8 KiB: 4 KiB in use, 4 KiB free, of which the largest piece is 1 KiB; it may hold at most 16 KiB";
        assert_eq!(usage.to_string(), sums);
        let details = "; 9 live blocks of 3.9 KiB requested (2.3 % lost to rounding); 75.0 % of the free memory is outside of \
                       its largest piece, and 1.3 KiB of it can only serve the stream that freed it; live blocks by size: 8 \
                       of up to 256 bytes, 1 of up to 2 KiB; a stream that was dropped: 2 KiB in 1 blocks, 256 bytes cached; \
                       a stream that was dropped: 1 KiB in 4 blocks, 256 bytes cached; a stream that was dropped: 512 bytes \
                       in 2 blocks, 256 bytes cached; a stream that was dropped: 256 bytes in 1 blocks, 256 bytes cached; \
                       and 1 streams with less";
        assert_eq!(format!("{usage:#}"), format!("{sums}{details}"));
    }
}
