//! [`Counts`]: bytes, blocks and failures.

use cumem::error::Plural;
use std::fmt;

/// The counts of a [`StatisticsState`](super::StatisticsState) or a [`Scope`](super::Scope), all read at one moment.
///
/// # Examples
///
/// ```
/// use cumem_adaptors::Counts;
///
/// let none = Counts::default();
/// assert_eq!(none.to_string(), "0 bytes in 0 blocks now, 0 in 0 at most, 0 in 0 in all, 0 failures");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Counts {
    /// Bytes of live blocks. In a scope, the change since it began, negative if more was freed than allocated.
    pub current_bytes: i64,
    /// The largest value that [`current_bytes`](Self::current_bytes) has had.
    pub peak_bytes: i64,
    /// Bytes of all blocks that were allocated.
    pub total_bytes: u64,
    /// Live blocks. In a scope, the change since it began.
    pub current_blocks: i64,
    /// The largest value that [`current_blocks`](Self::current_blocks) has had.
    pub peak_blocks: i64,
    /// Blocks that were allocated.
    pub total_blocks: u64,
    /// Allocations that failed.
    pub failures: u64,
}

impl Counts {
    /// Returns what has changed since an earlier reading: the differences of all counts. The peaks are those of this
    /// reading less those of the earlier one, so they tell how far a peak has risen.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem::sim::Profile;
    /// use cumem::{Buffer, CudaResource, Device, Stream};
    /// use cumem_adaptors::ResourceExt;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let device = Device::simulated(Profile::default())?;
    /// let stream = Stream::new(&device)?;
    /// let memory = CudaResource::new(&device).statistics();
    /// let first = Buffer::<u8, _>::zeroed(1000, &stream, &memory)?;
    /// let before = memory.state().counts();
    /// let second = Buffer::<u8, _>::zeroed(24, &stream, &memory)?;
    /// drop(first);
    /// let change = memory.state().counts().since(&before);
    /// assert_eq!((change.current_bytes, change.total_bytes, change.peak_bytes), (-976, 24, 24));
    /// # drop(second);
    /// # Ok(())
    /// # }
    /// ```
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            current_bytes: self.current_bytes - earlier.current_bytes,
            peak_bytes: self.peak_bytes - earlier.peak_bytes,
            total_bytes: self.total_bytes.saturating_sub(earlier.total_bytes),
            current_blocks: self.current_blocks - earlier.current_blocks,
            peak_blocks: self.peak_blocks - earlier.peak_blocks,
            total_blocks: self.total_blocks.saturating_sub(earlier.total_blocks),
            failures: self.failures.saturating_sub(earlier.failures),
        }
    }

    #[inline]
    pub(super) fn allocated(&mut self, bytes: i64) {
        self.current_bytes += bytes;
        self.current_blocks += 1;
        self.total_bytes += bytes as u64;
        self.total_blocks += 1;
        self.peak_bytes = self.peak_bytes.max(self.current_bytes);
        self.peak_blocks = self.peak_blocks.max(self.current_blocks);
    }

    #[inline]
    pub(super) fn freed(&mut self, bytes: i64, blocks: i64) {
        self.current_bytes -= bytes;
        self.current_blocks -= blocks;
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} in {} now, {} in {} at most, {} in {} in all, {}",
            Plural(self.current_bytes, "byte"),
            Plural(self.current_blocks, "block"),
            self.peak_bytes,
            self.peak_blocks,
            self.total_bytes,
            self.total_blocks,
            Plural(self.failures, "failure")
        )
    }
}
