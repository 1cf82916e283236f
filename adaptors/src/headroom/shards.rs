//! [`Shards`]: the shards of all threads, and which of them were ever used.

use super::shard::{Place, Shard};
use super::sync::{AtomicU64, Guard, ThisThread};
use std::sync::atomic::Ordering::Relaxed;

/// The number of shards, a power of two. Each has 128 bytes. Threads share shards only if more threads exist at a time.
pub(super) const SHARDS: usize = if cfg!(all(loom, test)) { 2 } else { 64 };

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Shards<const D: usize, T> {
    places: Box<[Place<D, T>; SHARDS]>,
    /// One bit per shard that was ever used. Changed only under the lock of the rest. All other shards are empty.
    used: AtomicU64,
}

impl<const D: usize, T: Default> Shards<D, T> {
    pub(super) fn new() -> Self {
        Self { places: Box::new(std::array::from_fn(Place::new)), used: AtomicU64::new(0) }
    }
}

impl<const D: usize, T> Shards<D, T> {
    /// Returns the shard of a thread.
    #[inline]
    pub(super) fn of(&self, thread: ThisThread) -> &Place<D, T> {
        &self.places[Self::number(thread)]
    }

    /// Returns the number of the shard of a thread.
    #[inline]
    pub(super) fn number(thread: ThisThread) -> usize {
        thread.number() % SHARDS
    }

    pub(super) fn lock(&self, number: usize) -> Guard<'_, Shard<D, T>> {
        self.places[number].lock_as(ThisThread::get())
    }

    /// Locks the shards `a` and `b`, the lower number first. The result is in the order of the arguments.
    pub(super) fn lock_both(&self, a: usize, b: usize) -> [Guard<'_, Shard<D, T>>; 2] {
        let [first, second] = [a.min(b), a.max(b)].map(|number| self.lock(number));
        if a < b { [first, second] } else { [second, first] }
    }

    /// Records that the shard of a thread is used. The caller has the lock of the rest.
    pub(super) fn mark_used(&self, thread: ThisThread) {
        self.used.fetch_or(1 << Self::number(thread), Relaxed);
    }

    /// Returns the set of the used shards.
    pub(super) fn used(&self) -> Used {
        Used(self.used.load(Relaxed))
    }
}

/// A set of shards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Used(u64);

impl Used {
    /// Returns the number of shards in the set.
    pub(super) fn len(self) -> u64 {
        u64::from(self.0.count_ones())
    }

    /// Iterates over the shards in ascending order, which is the order in which several shards are locked.
    pub(super) fn iter(self) -> impl Iterator<Item = usize> {
        self.starting_at(0)
    }

    /// Iterates over the shards from `first` upwards, and then over those below. After the last shard comes the first.
    pub(super) fn starting_at(self, first: usize) -> impl Iterator<Item = usize> {
        let first = first % SHARDS;
        (first..SHARDS).chain(0..first).filter(move |&number| self.0 & (1 << number) != 0)
    }
}
