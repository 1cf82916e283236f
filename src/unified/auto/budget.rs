//! [`Budget`]: bytes that were prefetched ahead and have not been used yet.
#![forbid(unsafe_code)]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Limits the bytes that were prefetched ahead, or are on their way, and have not been used yet.
#[derive(Debug)]
pub(super) struct Budget {
    limit: usize,
    taken: AtomicUsize,
}

/// Bytes taken from the budget until this value is dropped.
#[derive(Debug)]
pub(super) struct Reservation {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Budget {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, taken: AtomicUsize::new(0) }
    }

    /// Takes `bytes` bytes of the budget, if it has as many left.
    pub(super) fn reserve(self: &Arc<Self>, bytes: usize) -> Option<Reservation> {
        let within = |taken: usize| taken.checked_add(bytes).filter(|sum| *sum <= self.limit);
        self.taken.fetch_update(Relaxed, Relaxed, within).ok()?;
        Some(Reservation { budget: Arc::clone(self), bytes })
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.budget.taken.fetch_sub(self.bytes, Relaxed);
    }
}
