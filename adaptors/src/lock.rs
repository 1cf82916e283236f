//! [`BiasedLock`]: a lock for critical sections that nearly always run a few dozen instructions, on the same thread.
//!
//! `std::sync::Mutex` performs an atomic exchange at both ends of a section, and a spin lock at one end. Even one
//! exchange is a large part of a pool hit (`benches/README.md`: a pair on a stream that another
//! thread used before). One thread drives most streams, so the lock records which thread takes it. A thread that takes it
//! [`SECTIONS_TO_OWN`] times in a row *owns* the lock. From then on it enters with plain stores and loads. Any other
//! thread first revokes the ownership, which is expensive. After that any thread can become the owner, but each
//! revocation doubles the number of sections that this takes, up to [`SECTIONS_TO_OWN_MAX`]. Revocations therefore stay
//! rare, however the threads alternate.
//!
//! Why only one thread is inside: the owner writes into its own [`Presence`] which lock it is inside of, and then reads
//! the lock's `owner`. A revoking thread writes `owner`, and then reads the owner's presence. Both sides have a full
//! barrier between the two steps, so at least one of them sees what the other wrote. Either the owner leaves and queues
//! with the other threads, or the revoking thread waits for the owner. The revoking side pays for both barriers
//! ([`barrier`]). If the system does not support this, no thread ever owns a lock, and the lock is a spin lock.
//!
//! Why a lock can have one owner after another: a thread that lost the ownership may be late, and may still write for a
//! moment that it is inside. It writes to its own presence, which is separate from the new owner's. If that word were
//! in the lock, the late write would overwrite the new owner's. A presence has room for one lock. A thread that is
//! inside one lock as its owner therefore enters other locks through `held`.
//!
//! No thread sleeps on the lock, and neither the driver nor an upstream is called under it. The longest sections walk
//! or grow the bookkeeping of one stream, or take a snapshot of all streams. Threads that wait for them yield.

mod barrier;
mod presence;
mod primitives;

#[cfg(all(loom, test))]
mod interleavings;

use presence::Presence;
use primitives::{AtomicPtr, AtomicU32, InsideMark};
use std::cell::UnsafeCell;
use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::ptr;
use std::sync::atomic::Ordering::Relaxed;

/// This many sections in a row make a thread the owner, at first. Each revocation doubles the number.
const SECTIONS_TO_OWN: u32 = if cfg!(all(loom, test)) { 1 } else { 64 };
/// This many sections with the spin lock cost ten times as much as one revocation.
const SECTIONS_TO_OWN_MAX: u32 = 1 << 14;
const NO_OWNER: *mut Presence = ptr::null_mut();

/// The calling thread, for [`BiasedLock::lock_as`].
#[cfg(not(all(loom, test)))]
#[derive(Debug, Clone, Copy)]
pub(crate) struct ThisThread {
    presence: &'static Presence,
    _of_this_thread: PhantomData<*const ()>,
}

#[cfg(not(all(loom, test)))]
impl ThisThread {
    #[inline]
    pub(crate) fn get() -> Self {
        let presence = presence::mine_if_known().unwrap_or_else(presence::mine_or_shared);
        Self { presence, _of_this_thread: PhantomData }
    }

    /// Returns the number of the thread. Threads are numbered from 0. No two threads that exist at the same time have
    /// the same number, except that each thread has the number 0 while it ends.
    #[inline]
    pub(crate) fn number(self) -> usize {
        self.presence.number
    }
}

/// A value that one thread at a time may use.
// In this order, because the address of `owner` is used as often as the value.
#[repr(C)]
pub(crate) struct BiasedLock<T> {
    /// The thread that enters without `held`. Changed only by the thread that has `held`.
    owner: AtomicPtr<Presence>,
    /// Marked while a thread that is not the owner is in a section, or is about to be.
    held: InsideMark,
    // Used only by the thread that has `held`:
    last: AtomicPtr<Presence>,
    in_a_row: AtomicU32,
    sections_to_own: AtomicU32,
    value: UnsafeCell<T>,
}

// SAFETY: the value is reached only through a guard, and only one guard exists at a time. Sharing the lock sends the
// value between threads, and sharing the guard shares the value.
unsafe impl<T: Send + Sync> Sync for BiasedLock<T> {}

impl<T> BiasedLock<T> {
    pub(crate) fn new(value: T) -> Self {
        Self {
            owner: AtomicPtr::new(NO_OWNER),
            held: InsideMark::new(),
            last: AtomicPtr::new(NO_OWNER),
            in_a_row: AtomicU32::new(0),
            sections_to_own: AtomicU32::new(SECTIONS_TO_OWN),
            value: UnsafeCell::new(value),
        }
    }

    #[inline]
    pub(crate) fn lock(&self) -> Guard<'_, T> {
        match presence::mine_if_known() {
            Some(me) => self.lock_with(me),
            None => self.guard(self.lock_without_ownership()),
        }
    }

    /// As `lock`, for a caller that has looked up the thread already.
    #[cfg(not(all(loom, test)))]
    #[inline]
    pub(crate) fn lock_as(&self, thread: ThisThread) -> Guard<'_, T> {
        self.lock_with(thread.presence)
    }

    #[inline]
    fn lock_with(&self, me: &'static Presence) -> Guard<'_, T> {
        if me.inside.is_free() {
            // Also by a thread that does not own the lock: the mark of such a thread has no effect, and the owner needs
            // only one comparison.
            me.inside.enter(self.id());
            barrier::light();
            if ptr::eq(self.owner.load(Relaxed), me) {
                return self.guard(&me.inside);
            }
            me.inside.leave();
        }
        // The guard is made here, so that the compiler sees which lock it belongs to: a caller then needs one pointer for
        // the lock, its value and what lies beside it.
        self.guard(self.lock_without_ownership())
    }

    #[inline(never)]
    fn lock_without_ownership(&self) -> &InsideMark {
        self.held.enter_when_free(self.id());
        let owner = self.owner.load(Relaxed);
        if owner != NO_OWNER {
            // SAFETY: a presence is never freed.
            self.revoke_ownership(unsafe { &*owner });
        } else if let Some(inside) = self.count_section() {
            return inside;
        }
        &self.held
    }

    /// Returns the lock's number for an [`InsideMark`]. No two locks that exist at the same time have this field at one
    /// address.
    #[inline]
    fn id(&self) -> usize {
        (&raw const self.owner).addr()
    }

    #[inline]
    fn guard<'a>(&'a self, mark: &'a InsideMark) -> Guard<'a, T> {
        Guard { lock: self, mark, _of_this_thread: PhantomData }
    }

    #[cold]
    fn revoke_ownership(&self, owner: &Presence) {
        self.owner.store(NO_OWNER, Relaxed);
        // A thread that owns this lock and is inside another one gives up this lock just once: `last` and `in_a_row`
        // stay.
        if !presence::mine_if_known().is_some_and(|me| ptr::eq(me, owner)) {
            barrier::heavy();
            self.last.store(NO_OWNER, Relaxed);
            self.sections_to_own.store((self.sections_to_own.load(Relaxed) * 2).min(SECTIONS_TO_OWN_MAX), Relaxed);
        }
        // An owner that is already inside waits for itself forever, as with any lock.
        owner.inside.wait_while_in(self.id());
    }

    /// Counts a section of the calling thread. If the thread owns the lock now, returns the mark in its presence.
    fn count_section(&self) -> Option<&'static InsideMark> {
        if !barrier::is_available() {
            return None;
        }
        let me = presence::mine()?;
        let before = if ptr::eq(self.last.load(Relaxed), me) { self.in_a_row.load(Relaxed) } else { 0 };
        if before < self.sections_to_own.load(Relaxed) || !me.inside.is_free() {
            self.last.store(ptr::from_ref(me).cast_mut(), Relaxed);
            self.in_a_row.store(before.saturating_add(1), Relaxed);
            return None;
        }
        me.inside.enter(self.id());
        self.owner.store(ptr::from_ref(me).cast_mut(), Relaxed);
        self.held.leave();
        Some(&me.inside)
    }
}

impl<T> fmt::Debug for BiasedLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BiasedLock(..)")
    }
}

/// The right to use the value, until it is dropped.
pub(crate) struct Guard<'a, T> {
    lock: &'a BiasedLock<T>,
    /// The mark that is set while this guard exists.
    mark: &'a InsideMark,
    /// An owner sees its own last section only if that section ended on the same thread.
    _of_this_thread: PhantomData<*const ()>,
}

impl<T> Deref for Guard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the lock is held for as long as the guard exists, so no other reference exists.
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
        self.mark.leave();
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
    fn a_thread_that_locks_repeatedly_owns_the_lock_until_another_locks() {
        let lock = BiasedLock::new(0_u32);
        let owned = || lock.owner.load(Relaxed) != NO_OWNER;
        let come = |times: u32| (0..times).for_each(|_| add_one(&lock));
        come(SECTIONS_TO_OWN);
        assert!(!owned());
        come(1);
        assert_eq!(owned(), barrier::is_available());
        come(10);
        thread::scope(|scope| scope.spawn(|| come(1)).join().unwrap());
        assert!(!owned());
        // Now it takes twice as many sections.
        come(2 * SECTIONS_TO_OWN);
        assert!(!owned());
        come(1);
        assert_eq!(owned(), barrier::is_available());
        assert_eq!(*lock.lock(), 3 * SECTIONS_TO_OWN + 13);
    }

    #[test]
    fn a_lock_whose_owner_thread_ended_gets_another_owner() {
        let lock = BiasedLock::new(0_u32);
        let keep_coming = || {
            add_one(&lock);
            (0..=lock.sections_to_own.load(Relaxed)).for_each(|_| add_one(&lock));
        };
        for _ in 0..3 {
            thread::scope(|scope| scope.spawn(keep_coming).join().unwrap());
            assert_eq!(lock.owner.load(Relaxed) != NO_OWNER, barrier::is_available());
        }
    }

    /// The thread loses the second lock, and owns it again at once.
    #[test]
    fn a_thread_may_hold_two_locks_that_it_owns() {
        let locks = [(); 2].map(|()| BiasedLock::new(0_u32));
        let owned = || locks.each_ref().map(|lock| lock.owner.load(Relaxed) != NO_OWNER);
        let come = |times: u32| locks.iter().for_each(|lock| (0..times).for_each(|_| add_one(lock)));
        come(SECTIONS_TO_OWN + 1);
        assert_eq!(owned(), [barrier::is_available(); 2]);
        {
            let _both = locks.each_ref().map(BiasedLock::lock);
            assert_eq!(owned(), [barrier::is_available(), false]);
        }
        come(1);
        assert_eq!(owned(), [barrier::is_available(); 2]);
    }

    /// The ownership is revoked in the middle of the owner's sections, again and again.
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
                lock.sections_to_own.store(1, Relaxed);
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
