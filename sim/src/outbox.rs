//! [`Outbox`]: calls of user code that a machine makes after its lock is released.
//!
//! A watcher, or a subscriber of `tracing`, may call the machine. The machine therefore collects these calls while it is
//! locked.
#![forbid(unsafe_code)]

use cumem_driver::deferral::after_locks;
use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};

type Event = Box<dyn FnOnce() + Send>;

/// The calls that wait for the release of the lock, in order.
#[derive(Default)]
pub(super) struct Outbox {
    /// False if `events` is empty. A thread sees at least its own posts.
    waiting: AtomicBool,
    events: Mutex<VecDeque<Event>>,
}

/// Delivers the events of an outbox when it is dropped, which has to be after the machine's lock is released.
#[derive(Debug)]
pub(super) struct Delivery<'a>(pub(super) &'a Outbox);

impl Outbox {
    pub(super) fn post(&self, event: impl FnOnce() + Send + 'static) {
        let mut events = self.lock();
        events.push_back(Box::new(event));
        self.waiting.store(true, Relaxed);
    }

    /// Reports whether a thread uses the list at this moment.
    pub(super) fn is_locked(&self) -> bool {
        matches!(self.events.try_lock(), Err(TryLockError::WouldBlock))
    }

    fn next(&self) -> Option<Event> {
        let mut events = self.lock();
        let event = events.pop_front();
        self.waiting.store(!events.is_empty(), Relaxed);
        event
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Event>> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Delivery<'_> {
    fn drop(&mut self) {
        while self.0.waiting.load(Relaxed) {
            self.0.next().into_iter().for_each(after_locks);
        }
    }
}

impl fmt::Debug for Outbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbox").finish_non_exhaustive()
    }
}
