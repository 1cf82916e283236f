//! [`Usage`]: the memory of a suballocator at the moment when it was out of memory, for its error.

use crate::device::stream_ids::StreamId;
use crate::human_bytes::HumanBytes;
use cumem_driver::Plural;
use std::fmt;

/// The memory of a suballocator, such as a pool, at the moment when it was out of memory.
///
/// `allocated + free = reserved`. The classes together contain all live blocks. In a pool, the streams do as well.
///
/// # Examples
///
/// ```
/// use cumem::sim::Profile;
/// use cumem::{AllocError, Buffer, CudaResource, Device, Stream};
/// use cumem_adaptors::{PoolOptions, ResourceExt};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let device = Device::simulated(Profile::default())?;
/// let stream = Stream::new(&device)?;
/// let pool = CudaResource::new(&device).pool(PoolOptions::new().initial(4 << 20).maximum(4 << 20))?;
/// let _live = Buffer::<u8, _>::zeroed(1 << 20, &stream, &pool)?;
/// let error = Buffer::<u8, _>::zeroed(8 << 20, &stream, &pool).unwrap_err();
/// let AllocError::Exhausted { held, .. } = error else { panic!("the pool is at its maximum") };
/// assert_eq!((held.reserved, held.allocated, held.free), (4 << 20, 1 << 20, 3 << 20));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Usage {
    /// Bytes that the suballocator has reserved from its upstream.
    pub reserved: usize,
    /// Bytes in live blocks.
    pub allocated: usize,
    /// Bytes that were requested for the live blocks. The rest of `allocated` was added by rounding.
    pub requested: usize,
    /// The number of live blocks.
    pub blocks: usize,
    /// Reserved bytes that are in no live block.
    pub free: usize,
    /// Bytes of `free` that only the stream that freed them can allocate.
    pub cached: usize,
    /// Bytes of the largest free piece.
    pub largest_free: usize,
    /// The most bytes that the suballocator may reserve, or `None` if there is no maximum.
    pub maximum: Option<usize>,
    /// The live blocks by size, in ascending order, without sizes that no block has.
    pub classes: Vec<SizeClass>,
    /// The memory of each stream.
    pub streams: Vec<StreamStats>,
    /// Only `reserved` and `maximum` are filled in, because the caller of the allocation does not report its refusal
    /// ([`unreported`](crate::error::unreported)).
    pub partial: bool,
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
    /// Creates a class of `blocks` blocks. Each has at most `at_most` bytes, and together they have `bytes` bytes.
    pub const fn new(at_most: usize, blocks: usize, bytes: usize) -> Self {
        Self { at_most, blocks, bytes }
    }
}

/// The memory of a suballocator that belongs to one stream.
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
    /// Free bytes that only this stream can allocate.
    pub cached: usize,
    /// Bytes of the largest of these free pieces.
    pub largest_free: usize,
    /// The number of live blocks.
    pub blocks: usize,
}

impl Usage {
    /// Returns the share of `allocated` that rounding added: 0.25 if a quarter of the bytes in live blocks was not
    /// requested. Returns 0 if there are no live blocks.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem::error::Usage;
    ///
    /// let mut usage = Usage::default();
    /// (usage.allocated, usage.requested) = (1024, 768);
    /// assert_eq!(usage.internal_fragmentation(), 0.25);
    /// ```
    pub fn internal_fragmentation(&self) -> f64 {
        share(self.allocated.saturating_sub(self.requested), self.allocated)
    }

    /// Returns the share of the free memory that is outside of its largest piece. Returns 0 if there is no free memory.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem::error::Usage;
    ///
    /// let mut usage = Usage::default();
    /// (usage.free, usage.largest_free) = (1024, 256);
    /// assert_eq!(usage.external_fragmentation(), 0.75);
    /// ```
    pub fn external_fragmentation(&self) -> f64 {
        share(self.free.saturating_sub(self.largest_free), self.free)
    }
}

fn share(part: usize, whole: usize) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

/// The number of streams that an error lists. The error gives only the number of the others.
const NAMED: usize = 4;

/// `{}` displays the sums. `{:#}` also displays the fragmentation, the live blocks by size, and the streams with the
/// most memory.
impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { reserved, allocated, free, largest_free, maximum, .. } = self;
        let [held, used, unused, largest] = [*reserved, *allocated, *free, *largest_free].map(HumanBytes);
        write!(f, "it holds {held}")?;
        if !self.partial {
            write!(f, ": {used} in use, {unused} free, of which the largest piece is {largest}")?;
        }
        if let Some(maximum) = maximum {
            write!(f, "; it may hold at most {}", HumanBytes(*maximum))?;
        }
        if f.alternate() && !self.partial { self.fmt_details(f) } else { Ok(()) }
    }
}

impl Usage {
    fn fmt_details(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "; {} of {} requested ({:.1} % lost to rounding); {:.1} % of the free memory is outside of its \
             largest piece, and {} of it can only serve the stream that freed it",
            Plural(self.blocks, "live block"),
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
            write!(f, "{used} in {}, {cached} cached", Plural(own.blocks, "block"))?;
        }
        match streams.len().saturating_sub(NAMED) {
            0 => Ok(()),
            more => write!(f, "; and {} with less", Plural(more, "stream")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fragmentation_is_a_share_of_the_allocated_or_free_memory() {
        let none = Usage::default();
        assert_eq!((none.internal_fragmentation(), none.external_fragmentation()), (0.0, 0.0));
        let some = Usage { reserved: 4096, allocated: 2048, requested: 1536, free: 2048, largest_free: 512, ..none };
        assert_eq!((some.internal_fragmentation(), some.external_fragmentation()), (0.25, 0.75));
    }

    #[test]
    fn display_shows_the_sums_and_the_alternate_form_all_figures() {
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
            partial: false,
        };
        let sums =
            "it holds 8 KiB: 4 KiB in use, 4 KiB free, of which the largest piece is 1 KiB; it may hold at most 16 KiB";
        assert_eq!(usage.to_string(), sums);
        let details = "; 9 live blocks of 3.9 KiB requested (2.3 % lost to rounding); 75.0 % of the free memory is outside of \
                       its largest piece, and 1.3 KiB of it can only serve the stream that freed it; live blocks by size: 8 \
                       of up to 256 bytes, 1 of up to 2 KiB; a stream that was dropped: 2 KiB in 1 block, 256 bytes cached; \
                       a stream that was dropped: 1 KiB in 4 blocks, 256 bytes cached; a stream that was dropped: 512 bytes \
                       in 2 blocks, 256 bytes cached; a stream that was dropped: 256 bytes in 1 block, 256 bytes cached; \
                       and 1 stream with less";
        assert_eq!(format!("{usage:#}"), format!("{sums}{details}"));
    }
}
