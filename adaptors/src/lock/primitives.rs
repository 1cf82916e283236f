//! The synchronization primitives of the lock. Loom replaces them in this one place and runs the interleavings
//! (`lock/interleavings.rs`).

#[cfg(not(all(loom, test)))]
pub(super) use std::{
    hint::spin_loop,
    sync::{
        Mutex,
        atomic::{AtomicPtr, AtomicU32},
    },
    thread::yield_now,
    thread_local,
};

#[cfg(all(loom, test))]
pub(super) use loom::{
    sync::{
        Mutex,
        atomic::{AtomicPtr, AtomicU32},
    },
    thread::{yield_now, yield_now as spin_loop},
    thread_local,
};

#[cfg(not(all(loom, test)))]
use std::sync::atomic::AtomicUsize;

#[cfg(all(loom, test))]
use loom::sync::atomic::AtomicUsize;

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

const FREE: usize = 0;
/// The most pauses between two attempts.
const PAUSES_MAX: u32 = if cfg!(all(loom, test)) { 1 } else { 128 };

/// A word that names the lock that a thread is inside of, if any. A lock's number is never 0.
#[derive(Debug)]
pub(super) struct InsideMark(AtomicUsize);

impl InsideMark {
    #[cfg(not(all(loom, test)))]
    pub(super) const fn new() -> Self {
        Self(AtomicUsize::new(FREE))
    }

    #[cfg(all(loom, test))]
    pub(super) fn new() -> Self {
        Self(AtomicUsize::new(FREE))
    }

    #[inline]
    pub(super) fn is_free(&self) -> bool {
        self.0.load(Relaxed) == FREE
    }

    /// Marks the calling thread as inside `lock`; the mark must be free. A thread that reads this mark with `Acquire`
    /// also sees everything written before it.
    #[inline]
    pub(super) fn enter(&self, lock: usize) {
        self.0.store(lock, Release);
    }

    /// Marks the calling thread as inside `lock` as soon as the mark is free.
    ///
    /// Every failed attempt pulls the cache line away from the holder, and only one waiter can win. Waiters therefore
    /// back off exponentially, then yield.
    #[inline]
    pub(super) fn enter_when_free(&self, lock: usize) {
        let mut pauses = 1;
        while self.0.compare_exchange(FREE, lock, Acquire, Relaxed).is_err() {
            (0..pauses).for_each(|_| spin_loop());
            match pauses < PAUSES_MAX {
                true => pauses *= 2,
                false => yield_now(),
            }
        }
    }

    /// Clears the mark. The next thread that enters, or that has waited for this, sees everything written before.
    #[inline]
    pub(super) fn leave(&self) {
        self.0.store(FREE, Release);
    }

    /// Waits while the mark names `lock`. The thread spins for about as long as a section takes, and then yields,
    /// because the thread that it waits for may need the processor.
    #[cold]
    pub(super) fn wait_while_in(&self, lock: usize) {
        let mut turns = 0;
        while self.0.load(Acquire) == lock {
            turns += 1;
            if turns < 100 {
                spin_loop();
            } else {
                yield_now();
            }
        }
    }
}
