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
