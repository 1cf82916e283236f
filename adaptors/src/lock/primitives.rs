//! What the lock is made of. One seam, so that loom can take their place and go through the interleavings
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
/// Between two looks, at the most.
const PAUSES_MAX: u32 = if cfg!(all(loom, test)) { 1 } else { 128 };

/// A word that says which lock somebody is inside of, if any. Locks are told apart by a number, which is never 0.
#[derive(Debug)]
pub(super) struct InsideMark(AtomicUsize);

impl InsideMark {
    pub(super) fn new() -> Self {
        Self(AtomicUsize::new(FREE))
    }

    #[inline]
    pub(super) fn is_free(&self) -> bool {
        self.0.load(Relaxed) == FREE
    }

    /// Says so, where nobody else does. Who finds this lock here has seen what was written in the one before.
    #[inline]
    pub(super) fn enter(&self, lock: usize) {
        self.0.store(lock, Release);
    }

    /// Says so once nobody else does.
    ///
    /// Each look takes the line from who is inside, and of all that see it leave only one comes in: so who came in vain
    /// steps back, for longer each time, and then lets other threads run.
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

    /// What was written before is seen by who enters next, or has waited for it.
    #[inline]
    pub(super) fn leave(&self) {
        self.0.store(FREE, Release);
    }

    /// Spins for about as long as a section takes, then lets other threads run: the one that is waited for may be one
    /// of them.
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
