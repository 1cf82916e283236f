//! What the lock is made of. One seam, so that loom can take its place and go through the interleavings
//! (`lock/interleavings.rs`).

#[cfg(not(all(loom, test)))]
pub(super) use std::sync::atomic::{AtomicU32, AtomicU64};

#[cfg(all(loom, test))]
pub(super) use loom::sync::atomic::{AtomicU32, AtomicU64};

#[cfg(not(all(loom, test)))]
use std::sync::atomic::AtomicBool;

#[cfg(all(loom, test))]
use loom::sync::{Notify, atomic::AtomicBool};

use std::cell::Cell;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

const UNKNOWN: u64 = 0;

#[cfg(not(all(loom, test)))]
std::thread_local! {
    static NUMBER: Cell<u64> = const { Cell::new(UNKNOWN) };
}

#[cfg(all(loom, test))]
loom::thread_local! {
    static NUMBER: Cell<u64> = Cell::new(UNKNOWN);
}

/// The number of the calling thread, if it was ever asked for: unlike an address or the system's number, no thread
/// will have it again.
#[inline]
pub(super) fn this_thread_if_known() -> u64 {
    NUMBER.with(Cell::get)
}

/// The number of the calling thread.
pub(super) fn this_thread() -> u64 {
    static LAST: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(UNKNOWN);
    NUMBER.with(|number| {
        if number.get() == UNKNOWN {
            number.set(LAST.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + 1);
        }
        number.get()
    })
}

/// Up while a thread is in a section.
#[derive(Debug)]
pub(super) struct Flag {
    up: AtomicBool,
    // Who spins has no end in a model that may always let another thread run first: under loom, who waits sleeps.
    #[cfg(all(loom, test))]
    lowered: Notify,
}

impl Flag {
    pub(super) fn new() -> Self {
        Self {
            up: AtomicBool::new(false),
            #[cfg(all(loom, test))]
            lowered: Notify::new(),
        }
    }

    #[inline]
    pub(super) fn is_up(&self) -> bool {
        self.up.load(Relaxed)
    }

    #[inline]
    pub(super) fn raise(&self) {
        self.up.store(true, Relaxed);
    }

    /// Raises it, unless it is up.
    #[inline]
    pub(super) fn try_raise(&self) -> bool {
        self.up.compare_exchange(false, true, Acquire, Relaxed).is_ok()
    }

    /// What was written before is seen by who raises it next, or has waited for it.
    #[inline]
    pub(super) fn lower(&self) {
        self.up.store(false, Release);
        #[cfg(all(loom, test))]
        self.lowered.notify();
    }

    /// Spins for about as long as a section takes, then lets other threads run: the one that is waited for may be one
    /// of them.
    #[cfg(not(all(loom, test)))]
    #[cold]
    pub(super) fn wait_until_down(&self) {
        let mut turns = 0;
        while self.up.load(Acquire) {
            turns += 1;
            if turns < 100 {
                std::hint::spin_loop();
            } else {
                std::thread::yield_now();
            }
        }
    }

    #[cfg(all(loom, test))]
    pub(super) fn wait_until_down(&self) {
        while self.up.load(Acquire) {
            self.lowered.wait();
        }
    }
}
