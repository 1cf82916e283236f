//! The counters, all behind one lock: exact at any moment, for one atomic exchange per call.

use super::scope::{Scope, Scopes};
use crate::lock::BiasedLock;
use std::fmt;

/// The counters of a [`Statistics`](super::Statistics). A block of zero bytes counts as a block.
#[derive(Debug)]
pub struct StatisticsState {
    counts: BiasedLock<Counts>,
    scopes: Scopes,
}

/// The counts of a [`StatisticsState`] or a [`Scope`], all read at one moment.
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

impl StatisticsState {
    pub(super) fn new() -> Self {
        Self { counts: BiasedLock::new(Counts::default()), scopes: Scopes::new() }
    }

    /// Returns all counts, read at one moment.
    pub fn counts(&self) -> Counts {
        *self.counts.lock()
    }

    /// Begins a scope that counts the calls of all threads from now on, until it is dropped.
    /// Scopes may nest and overlap in any order.
    pub fn scope(&self) -> Scope<'_> {
        self.scopes.begin(None)
    }

    /// Begins a scope that counts the calls of the calling thread from now on, until it is dropped.
    pub fn thread_scope(&self) -> Scope<'_> {
        self.scopes.begin(Some(std::thread::current().id()))
    }

    #[inline]
    pub(super) fn allocated(&self, bytes: usize) {
        let bytes = bytes as i64;
        self.counts.lock().allocated(bytes);
        self.scopes.each(|counts| counts.allocated(bytes));
    }

    /// Counts a free. If the block cannot be one of those counted, returns the bytes that are allocated instead.
    #[inline]
    pub(super) fn freed(&self, bytes: usize) -> Result<(), usize> {
        let bytes = bytes as i64;
        {
            let mut counts = self.counts.lock();
            if bytes > counts.current_bytes || counts.current_blocks < 1 {
                return Err(counts.current_bytes as usize);
            }
            counts.freed(bytes, 1);
        }
        self.scopes.each(|counts| counts.freed(bytes, 1));
        Ok(())
    }

    /// Undoes a counted free.
    #[cold]
    pub(super) fn not_freed(&self, bytes: usize) {
        let bytes = bytes as i64;
        self.counts.lock().freed(-bytes, -1);
        self.scopes.each(|counts| counts.freed(-bytes, -1));
    }

    #[cold]
    pub(super) fn failed(&self) {
        self.counts.lock().failures += 1;
        self.scopes.each(|counts| counts.failures += 1);
    }
}

impl Counts {
    #[inline]
    fn allocated(&mut self, bytes: i64) {
        self.current_bytes += bytes;
        self.current_blocks += 1;
        self.total_bytes += bytes as u64;
        self.total_blocks += 1;
        self.peak_bytes = self.peak_bytes.max(self.current_bytes);
        self.peak_blocks = self.peak_blocks.max(self.current_blocks);
    }

    #[inline]
    fn freed(&mut self, bytes: i64, blocks: i64) {
        self.current_bytes -= bytes;
        self.current_blocks -= blocks;
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} bytes in {} blocks now, {} in {} at most, {} in {} in all, {} failures",
            self.current_bytes,
            self.current_blocks,
            self.peak_bytes,
            self.peak_blocks,
            self.total_bytes,
            self.total_blocks,
            self.failures
        )
    }
}
