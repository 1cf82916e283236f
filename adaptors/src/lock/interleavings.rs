//! Loom goes through the interleavings of a few threads that take one lock: one owns it, others take that away. What
//! is in the lock is a cell of loom's, which notices two threads inside at once, and sections that do not see each other.

use super::BiasedLock;
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;

fn add_one(lock: &BiasedLock<UnsafeCell<u32>>) {
    let value = lock.lock();
    // SAFETY: the lock is taken; that this is enough is what loom looks at.
    value.with_mut(|value| unsafe { *value += 1 });
}

/// The first thread owns the lock when the second comes; then each takes it so many times.
fn count(owner: u32, guest: u32) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(4);
    model.check(move || {
        let lock = Arc::new(BiasedLock::new(UnsafeCell::new(0)));
        add_one(&lock);
        add_one(&lock);
        let shared = Arc::clone(&lock);
        let thread = thread::spawn(move || (0..guest).for_each(|_| add_one(&shared)));
        (0..owner).for_each(|_| add_one(&lock));
        thread.join().unwrap();
        let value = lock.lock();
        // SAFETY: as above.
        assert_eq!(value.with(|value| unsafe { *value }), 2 + owner + guest);
    });
}

#[test]
fn the_ownership_is_taken_away() {
    count(2, 1);
}

/// The guest has the lock often enough to own it, if it could.
#[test]
fn a_guest_stays() {
    count(1, 4);
}

/// The owner gets it back.
#[test]
fn the_ownership_is_given_again() {
    count(4, 1);
}
