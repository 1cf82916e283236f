//! [`BiasedLock`]: for sections that are nearly always a few dozen instructions, and nearly always of one thread.
//!
//! `std::sync::Mutex` makes an atomic exchange at both ends, a spin lock at one; each takes 6 to 11 ns, where a whole
//! hit of the pool should take 30. But a stream is mostly driven by one thread. So a lock learns who takes it: a thread
//! that has had it [`PATIENCE`] times in a row *owns* it, and from then on enters with plain stores and loads. Another
//! thread that comes takes the ownership away first, which is dear. The first owner can get it back, but has to be twice
//! as patient each time, so that this stays rare however threads take turns. No other thread can: the first may
//! be late, and still write to `inside` what nobody waits for any more.
//!
//! Why only one thread is inside: the owner writes `inside` and then reads `owner`; who takes the ownership away
//! writes `owner` and then reads `inside`. With a full barrier between the two on both sides, one of them sees what
//! the other wrote. The rare side pays for both ([`barrier`]). Where the system cannot do that, nobody ever owns a lock,
//! and it is a spin lock.
//!
//! Nobody sleeps on it: neither the driver nor an upstream is called under it. The longest sections walk or grow the
//! bookkeeping of one stream, or take a snapshot of all; who waits for them yields.

mod barrier;
mod primitives;

#[cfg(all(loom, test))]
mod interleavings;

use primitives::{AtomicU32, AtomicU64, Flag, this_thread, this_thread_if_known};
use std::cell::UnsafeCell;
use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::Ordering::Relaxed;

/// So many sections in a row make a thread the owner, at first. Twice as many each time that the ownership is taken away.
const PATIENCE: u32 = if cfg!(all(loom, test)) { 1 } else { 64 };
const PATIENCE_MAX: u32 = 1 << 16;
/// The number of no thread.
const NOBODY: u64 = u64::MAX;

/// A value that one thread at a time may use.
pub(crate) struct BiasedLock<T> {
    /// Who enters without `held`. Only changed by the thread that has `held`.
    owner: AtomicU64,
    /// The owner is in its section.
    inside: Flag,
    /// Somebody else is in a section, or is about to be.
    held: Flag,
    // Of the thread that has `held`:
    /// The only thread that may be the owner, once there was one.
    first_owner: AtomicU64,
    last: AtomicU64,
    in_a_row: AtomicU32,
    patience: AtomicU32,
    value: UnsafeCell<T>,
}

// SAFETY: the value is only reached through a guard, of which there is one at a time: sharing the lock sends
// the value from thread to thread, and sharing the guard shares it.
unsafe impl<T: Send + Sync> Sync for BiasedLock<T> {}

impl<T> BiasedLock<T> {
    pub(crate) fn new(value: T) -> Self {
        Self {
            owner: AtomicU64::new(NOBODY),
            inside: Flag::new(),
            held: Flag::new(),
            first_owner: AtomicU64::new(NOBODY),
            last: AtomicU64::new(NOBODY),
            in_a_row: AtomicU32::new(0),
            patience: AtomicU32::new(PATIENCE),
            value: UnsafeCell::new(value),
        }
    }

    #[inline]
    pub(crate) fn lock(&self) -> Guard<'_, T> {
        let me = this_thread_if_known();
        // An owner that is inside already waits for itself for ever, as with any lock.
        if self.owner.load(Relaxed) == me && !self.inside.is_up() {
            self.inside.raise();
            barrier::light();
            if self.owner.load(Relaxed) == me {
                return self.guard(&self.inside);
            }
            self.inside.lower();
        }
        self.lock_among_others()
    }

    #[inline(never)]
    fn lock_among_others(&self) -> Guard<'_, T> {
        while !self.held.try_raise() {
            self.held.wait_until_down();
        }
        if self.owner.load(Relaxed) != NOBODY {
            self.take_ownership_away();
        } else if self.learn() {
            return self.guard(&self.inside);
        }
        self.guard(&self.held)
    }

    #[inline]
    fn guard<'a>(&'a self, flag: &'a Flag) -> Guard<'a, T> {
        Guard { lock: self, flag, _of_this_thread: PhantomData }
    }

    #[cold]
    fn take_ownership_away(&self) {
        self.owner.store(NOBODY, Relaxed);
        barrier::heavy();
        self.inside.wait_until_down();
        self.last.store(NOBODY, Relaxed);
        self.patience.store((self.patience.load(Relaxed) * 2).min(PATIENCE_MAX), Relaxed);
    }

    /// Counts a section of this thread. Whether the lock is its own now, and it is inside.
    fn learn(&self) -> bool {
        let me = this_thread();
        let before = if self.last.load(Relaxed) == me { self.in_a_row.load(Relaxed) } else { 0 };
        let first = self.first_owner.load(Relaxed);
        let may_own = (first == NOBODY || first == me) && before >= self.patience.load(Relaxed);
        if !may_own || !barrier::is_available() {
            self.last.store(me, Relaxed);
            self.in_a_row.store(before.saturating_add(1), Relaxed);
            return false;
        }
        self.first_owner.store(me, Relaxed);
        self.inside.raise();
        self.owner.store(me, Relaxed);
        self.held.lower();
        true
    }
}

impl<T> fmt::Debug for BiasedLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BiasedLock(..)")
    }
}

/// The right to use the value, until dropped.
pub(crate) struct Guard<'a, T> {
    lock: &'a BiasedLock<T>,
    /// What says that this guard is there.
    flag: &'a Flag,
    /// An owner sees its own last section only if it ended on its own thread.
    _of_this_thread: PhantomData<*const ()>,
}

impl<T> Deref for Guard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the lock is taken for as long as the guard is there, so no other reference exists.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T> DerefMut for Guard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as for `deref`; the guard itself is borrowed exclusively.
        unsafe { &mut *self.lock.value.get() }
    }
}

impl<T> Drop for Guard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.flag.lower();
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::thread;

    const ROUNDS: u32 = if cfg!(miri) { 50 } else { 20_000 };

    fn add_one(lock: &BiasedLock<u32>) {
        let mut value = lock.lock();
        let seen = *value;
        *value = seen + 1;
    }

    #[test]
    fn threads_take_turns() {
        let lock = BiasedLock::new(0_u32);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..ROUNDS).for_each(|_| add_one(&lock)));
            }
        });
        assert_eq!(*lock.lock(), 4 * ROUNDS);
    }

    #[test]
    fn a_thread_that_keeps_coming_owns_the_lock_until_another_comes() {
        let lock = BiasedLock::new(0_u32);
        let owned = || lock.owner.load(Relaxed) != NOBODY;
        let come = |times: u32| (0..times).for_each(|_| add_one(&lock));
        come(PATIENCE);
        assert!(!owned());
        come(1);
        assert_eq!(owned(), barrier::is_available());
        come(10);
        thread::scope(|scope| scope.spawn(|| come(1)).join().unwrap());
        assert!(!owned());
        // Now it takes twice as long.
        come(2 * PATIENCE);
        assert!(!owned());
        come(1);
        assert_eq!(owned(), barrier::is_available());
        assert_eq!(*lock.lock(), 3 * PATIENCE + 13);
    }

    /// The owner is evicted in the middle of its sections, again and again.
    #[test]
    fn an_owner_and_a_guest_are_never_inside_together() {
        let lock = BiasedLock::new((0_u64, 0_u64));
        let owners = u64::from(100 * ROUNDS);
        let guests = u64::from(ROUNDS / 10);
        let work = |times: u64| {
            for _ in 0..times {
                let mut pair = lock.lock();
                assert_eq!(pair.0, pair.1);
                pair.0 += 1;
                std::hint::black_box(&mut *pair);
                pair.1 += 1;
                lock.patience.store(1, Relaxed);
            }
        };
        thread::scope(|scope| {
            scope.spawn(|| work(owners));
            scope.spawn(|| {
                for _ in 0..guests {
                    work(1);
                    thread::yield_now();
                }
            });
        });
        assert_eq!(lock.lock().0, owners + guests);
    }
}
