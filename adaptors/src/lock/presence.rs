//! [`Presence`]: a word in which a thread publishes which lock it is inside of as its owner.
//!
//! The word belongs to the thread and not to the lock: a thread that lost a lock and does not know it yet writes where
//! no other thread writes. A presence is never freed, so any thread that finds one in a lock may read it. A thread that
//! ends leaves its presence, and the ownership of its locks, to a later thread. There are therefore as many presences
//! as there were threads at one time.

use super::primitives::{InsideMark, Mutex, thread_local};
use std::cell::Cell;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// The number of presences that were created.
static PRESENCES: AtomicUsize = AtomicUsize::new(0);

/// See the [module](self). Aligned to two cache lines, because some processors fetch lines in pairs.
#[derive(Debug)]
#[repr(align(128))]
pub(super) struct Presence {
    /// Written only by the thread that this presence belongs to.
    pub(super) inside: InsideMark,
    /// Presences are numbered from 0, in the order of their creation.
    pub(super) number: usize,
}

// Separate from `LEASE`, because a thread local that has to be dropped takes longer to find.
#[cfg(not(all(loom, test)))]
thread_local! {
    static MINE: Cell<Option<&'static Presence>> = const { Cell::new(None) };
}

#[cfg(all(loom, test))]
thread_local! {
    static MINE: Cell<Option<&'static Presence>> = Cell::new(None);
}

thread_local! {
    static LEASE: Lease = Lease::new();
}

/// Returns the calling thread's presence, if `mine` has been called on this thread.
#[inline]
pub(super) fn mine_if_known() -> Option<&'static Presence> {
    MINE.try_with(Cell::get).ok().flatten()
}

/// Returns the calling thread's presence, or `None` while the thread ends.
pub(super) fn mine() -> Option<&'static Presence> {
    mine_if_known().or_else(|| {
        let mine = LEASE.try_with(|lease| lease.presence).ok()?;
        MINE.try_with(|place| place.set(Some(mine))).ok()?;
        Some(mine)
    })
}

/// Returns the calling thread's presence. While the thread ends, returns one that owns no lock.
#[cfg(not(all(loom, test)))]
#[cold]
pub(super) fn mine_or_shared() -> &'static Presence {
    static SHARED: Presence = Presence { inside: InsideMark::new(), number: 0 };
    mine().unwrap_or(&SHARED)
}

/// A presence that a thread uses until it ends.
struct Lease {
    presence: &'static Presence,
    retired: Retired,
}

impl Lease {
    fn new() -> Self {
        let retired = retired();
        let reused = retired.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let presence = reused.unwrap_or_else(|| {
            let number = PRESENCES.fetch_add(1, Relaxed);
            Box::leak(Box::new(Presence { inside: InsideMark::new(), number }))
        });
        Self { presence, retired }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // If `MINE` has been destroyed already, no code will read it.
        let _ = MINE.try_with(Cell::take);
        self.retired.lock().unwrap_or_else(PoisonError::into_inner).push(self.presence);
    }
}

/// The presences of threads that have ended.
#[cfg(not(all(loom, test)))]
type Retired = &'static Mutex<Vec<&'static Presence>>;

#[cfg(not(all(loom, test)))]
fn retired() -> Retired {
    static RETIRED: Mutex<Vec<&'static Presence>> = Mutex::new(Vec::new());
    &RETIRED
}

/// The same for one run of a model, because loom drops statics before the thread locals of its threads.
#[cfg(all(loom, test))]
type Retired = loom::sync::Arc<Mutex<Vec<&'static Presence>>>;

#[cfg(all(loom, test))]
fn retired() -> Retired {
    loom::lazy_static! {
        static ref RETIRED: Retired = Retired::default();
    }
    Retired::clone(&RETIRED)
}
