//! The counters: two additions per call, everything else derived.

use super::scope::{Scope, Scopes};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// What a [`Statistics`](super::Statistics) counted. Zero-byte blocks count as blocks.
///
/// Only sums that grow are kept, so that one thread's free can never take away what another thread's
/// allocation is about to add; what is current is their difference. With several threads a peak is that of one
/// possible order of their calls.
#[derive(Debug)]
pub struct Counters {
    allocated_bytes: AtomicU64,
    allocated_blocks: AtomicU64,
    freed_bytes: AtomicU64,
    freed_blocks: AtomicU64,
    peak_bytes: AtomicU64,
    peak_blocks: AtomicU64,
    failures: AtomicU64,
    pub(super) scopes: Scopes,
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
        Self {
            allocated_bytes: AtomicU64::new(0),
            allocated_blocks: AtomicU64::new(0),
            freed_bytes: AtomicU64::new(0),
            freed_blocks: AtomicU64::new(0),
            peak_bytes: AtomicU64::new(0),
            peak_blocks: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            scopes: Scopes::new(),
        }
    }

    /// All figures.
    pub fn counts(&self) -> Counts {
        let (freed_bytes, freed_blocks) = (self.freed_bytes.load(Relaxed), self.freed_blocks.load(Relaxed));
        let (total_bytes, total_blocks) = (self.allocated_bytes.load(Relaxed), self.allocated_blocks.load(Relaxed));
        Counts {
            current_bytes: total_bytes.saturating_sub(freed_bytes) as i64,
            peak_bytes: self.peak_bytes.load(Relaxed) as i64,
            total_bytes,
            current_blocks: total_blocks.saturating_sub(freed_blocks) as i64,
            peak_blocks: self.peak_blocks.load(Relaxed) as i64,
            total_blocks,
            failures: self.failures.load(Relaxed),
        }
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
        let bytes = bytes as u64;
        let total = self.allocated_bytes.fetch_add(bytes, Relaxed) + bytes;
        raise(&self.peak_bytes, total.saturating_sub(self.freed_bytes.load(Relaxed)));
        let total = self.allocated_blocks.fetch_add(1, Relaxed) + 1;
        raise(&self.peak_blocks, total.saturating_sub(self.freed_blocks.load(Relaxed)));
        self.scopes.each(|scope| scope.change(bytes as i64, 1));
    }

    /// Counts a free, or answers how many bytes are out if that is less than `bytes`.
    #[inline]
    pub(super) fn freed(&self, bytes: usize) -> Result<(), usize> {
        let bytes = bytes as u64;
        let freed_before = self.freed_bytes.fetch_add(bytes, Relaxed);
        let allocated = self.allocated_bytes.load(Relaxed);
        let blocks_before = self.freed_blocks.fetch_add(1, Relaxed);
        if freed_before + bytes > allocated || blocks_before >= self.allocated_blocks.load(Relaxed) {
            self.freed_bytes.fetch_sub(bytes, Relaxed);
            self.freed_blocks.fetch_sub(1, Relaxed);
            return Err(allocated.saturating_sub(freed_before) as usize);
        }
        self.scopes.each(|scope| scope.change(-(bytes as i64), -1));
        Ok(())
    }

    /// Takes a counted free back.
    #[cold]
    pub(super) fn not_freed(&self, bytes: usize) {
        self.freed_bytes.fetch_sub(bytes as u64, Relaxed);
        self.freed_blocks.fetch_sub(1, Relaxed);
        self.scopes.each(|scope| scope.take_back_free(bytes as i64));
    }

    #[cold]
    pub(super) fn failed(&self) {
        self.failures.fetch_add(1, Relaxed);
        self.scopes.each(|scope| scope.counts.failures += 1);
    }
}

#[inline]
fn raise(peak: &AtomicU64, value: u64) {
    // Nearly always lower: a load is far cheaper than an unconditional maximum.
    if value > peak.load(Relaxed) {
        peak.fetch_max(value, Relaxed);
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
