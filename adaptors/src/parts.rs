//! [`Parts`]: a value in one part per thread, each behind a lock of its own.
#![forbid(unsafe_code)]

use crate::per_thread::{PARTS, thread_number};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Aligned to two cache lines, because some processors fetch lines in pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Part<T>(Mutex<T>);

impl<T> Part<T> {
    fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A value in parts. Each thread uses its own part, so two threads wait for each other only if one of them reads all
/// parts, or if more threads exist than parts.
#[derive(Debug)]
pub(crate) struct Parts<T>(Box<[Part<T>]>);

impl<T: Default> Default for Parts<T> {
    fn default() -> Self {
        Self((0..PARTS).map(|_| Part::default()).collect())
    }
}

impl<T> Parts<T> {
    /// Locks the part of the calling thread.
    #[inline]
    pub(crate) fn mine(&self) -> MutexGuard<'_, T> {
        self.0[thread_number() % PARTS].lock()
    }

    /// Locks the part that belongs to `key`, for values that any thread must find.
    #[inline]
    pub(crate) fn of(&self, key: u64) -> MutexGuard<'_, T> {
        // The upper bits of the product depend on all bits of the key (Fibonacci hashing).
        self.0[(key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize % PARTS].lock()
    }

    /// Locks one part after the other.
    pub(crate) fn each(&self) -> impl Iterator<Item = MutexGuard<'_, T>> {
        self.0.iter().map(Part::lock)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::thread;

    #[test]
    fn threads_add_to_parts_and_nothing_is_lost() {
        let parts = Parts::<Vec<u32>>::default();
        thread::scope(|scope| {
            for thread in 0..8 {
                let parts = &parts;
                scope.spawn(move || (0..100).for_each(|_| parts.mine().push(thread)));
            }
        });
        let mut all: Vec<u32> = parts.each().flat_map(|mut part| std::mem::take(&mut *part)).collect();
        all.sort_unstable();
        assert_eq!(all, (0..8).flat_map(|thread| [thread; 100]).collect::<Vec<_>>());
    }

    #[test]
    fn a_key_has_one_part_and_keys_have_many() {
        let parts = Parts::<usize>::default();
        (0..1000).for_each(|key| *parts.of(key * 256) += 1);
        (0..1000).for_each(|key| *parts.of(key * 256) += 1);
        let counts: Vec<usize> = parts.each().map(|part| *part).collect();
        assert_eq!(counts.iter().sum::<usize>(), 2000);
        assert!(counts.iter().all(|count| count % 2 == 0 && *count < 200), "{counts:?}");
    }
}
