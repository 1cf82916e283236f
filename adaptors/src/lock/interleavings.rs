//! Loom runs the interleavings of a few threads that take one lock: one owns it, others revoke the ownership. The value
//! in the lock is a cell of loom's. It detects two threads inside at once, and sections that do not see each other's
//! writes.

use super::BiasedLock;
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread::{self, JoinHandle};

type Lock = BiasedLock<UnsafeCell<u32>>;

fn add(lock: &Lock, times: u32) {
    for _ in 0..times {
        let value = lock.lock();
        // SAFETY: the lock is held. Loom checks that this is enough.
        value.with_mut(|value| unsafe { *value += 1 });
    }
}

fn spawn(lock: &Arc<Lock>, times: u32) -> JoinHandle<()> {
    let lock = Arc::clone(lock);
    thread::spawn(move || add(&lock, times))
}

fn value(lock: &Lock) -> u32 {
    let value = lock.lock();
    // SAFETY: as above.
    value.with(|value| unsafe { *value })
}

/// Runs every interleaving with at most `preemptions` points where a runnable thread is stopped.
fn model(preemptions: usize, body: fn()) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(preemptions);
    model.max_branches = 20_000;
    // Not on loom's own first thread, because its thread locals are dropped after all statics.
    model.check(move || thread::spawn(body).join().unwrap());
}

fn new() -> Arc<Lock> {
    Arc::new(BiasedLock::new(UnsafeCell::new(0)))
}

/// The first thread owns the lock when the second one starts. Then each takes the lock the given number of times.
fn count<const OWNER: u32, const GUEST: u32>() {
    model(4, || {
        let lock = new();
        add(&lock, 2);
        let guest = spawn(&lock, GUEST);
        add(&lock, OWNER);
        guest.join().unwrap();
        assert_eq!(value(&lock), 2 + OWNER + GUEST);
    });
}

#[test]
fn another_thread_revokes_the_ownership_of_a_lock() {
    count::<2, 1>();
}

/// The guest takes the lock often enough to own it, and the first owner may be late.
#[test]
fn the_revoking_thread_becomes_the_owner_of_a_lock() {
    count::<1, 5>();
}

/// The first owner owns the lock again.
#[test]
fn the_ownership_of_a_lock_can_be_acquired_again() {
    count::<4, 1>();
}

/// The third thread revokes the ownership that the second one took over from the first.
#[test]
fn three_threads_pass_the_ownership_of_a_lock_in_turn() {
    model(3, || {
        let lock = new();
        add(&lock, 2);
        let others = [spawn(&lock, 4), spawn(&lock, 1)];
        others.into_iter().for_each(|other| other.join().unwrap());
        assert_eq!(value(&lock), 7);
    });
}

/// One of two threads that start after the owner has ended reuses the owner's presence.
#[test]
fn the_owner_thread_of_a_lock_may_end() {
    model(3, || {
        let lock = new();
        spawn(&lock, 3).join().unwrap();
        let other = spawn(&lock, 3);
        add(&lock, 3);
        other.join().unwrap();
        assert_eq!(value(&lock), 9);
    });
}

/// A thread that owns two locks holds both at a time, while another thread takes each of them.
#[test]
fn two_locks_have_one_owner() {
    model(4, || {
        let locks = Arc::new([new(), new()]);
        let [outer, inner] = &*locks;
        add(outer, 2);
        add(inner, 2);
        let guest = thread::spawn({
            let locks = Arc::clone(&locks);
            move || locks.iter().for_each(|lock| add(lock, 1))
        });
        {
            let value = outer.lock();
            add(inner, 1);
            // SAFETY: as above.
            value.with_mut(|value| unsafe { *value += 1 });
        }
        add(inner, 1);
        guest.join().unwrap();
        assert_eq!((value(outer), value(inner)), (4, 5));
    });
}
