//! The counters, all behind one lock: exact at any moment, for one atomic exchange per call.

use super::scope::{Scope, Scopes};
use crate::lock::BiasedLock;
use std::fmt;

/// What a [`Statistics`](super::Statistics) counted. Zero-byte blocks count as blocks.
#[derive(Debug)]
pub struct Counters {
    counts: BiasedLock<Counts>,
    scopes: Scopes,
}

/// Figures of a [`Counters`] or a [`Scope`], taken together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Counts {
    /// Bytes in live blocks; in a scope, since it began, and negative if more was freed than allocated.
    pub current_bytes: i64,
    /// The most that [`current_bytes`](Self::current_bytes) has been.
    pub peak_bytes: i64,
    /// Bytes of all blocks allocated.
    pub total_bytes: u64,
    /// Live blocks; in a scope, since it began.
    pub current_blocks: i64,
    /// The most that [`current_blocks`](Self::current_blocks) has been.
    pub peak_blocks: i64,
    /// Blocks allocated.
    pub total_blocks: u64,
    /// Allocations that failed.
    pub failures: u64,
}

impl Counters {
    pub(super) fn new() -> Self {
        Self { counts: BiasedLock::new(Counts::default()), scopes: Scopes::new() }
    }

    /// All figures, of one moment.
    pub fn counts(&self) -> Counts {
        *self.counts.lock()
    }

    /// Counts what every thread does from now on, until the scope goes. Scopes nest and overlap freely.
    pub fn scope(&self) -> Scope<'_> {
        self.scopes.begin(None)
    }

    /// Counts what the calling thread does from now on.
    pub fn thread_scope(&self) -> Scope<'_> {
        self.scopes.begin(Some(std::thread::current().id()))
    }

    #[inline]
    pub(super) fn allocated(&self, bytes: usize) {
        let bytes = bytes as i64;
        self.counts.lock().allocated(bytes);
        self.scopes.each(|counts| counts.allocated(bytes));
    }

    /// Counts a free, or answers how many bytes are out if the block cannot be one of them.
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

    /// Takes a counted free back.
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
