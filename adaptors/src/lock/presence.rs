//! [`Presence`]: where a thread says which lock it is inside of as its owner, for all others to see.
//!
//! It is the thread's and not the lock's: a thread that lost a lock and does not know yet writes where nobody else
//! does. A presence is never freed, so whoever finds one in a lock may look at it. The thread that ends leaves its own
//! to a later one, with the locks that it owns; so there are as many as there were threads at a time.

use super::primitives::{InsideMark, Mutex, thread_local};
use std::cell::Cell;
use std::sync::PoisonError;

/// See the [module](self). Two lines: some processors fetch them in pairs.
#[derive(Debug)]
#[repr(align(128))]
pub(super) struct Presence {
    /// Only written by the thread whose presence it is.
    pub(super) inside: InsideMark,
}

// Apart from what has to be dropped, which takes longer to find.
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

/// The calling thread's presence, if it was ever asked for.
#[inline]
pub(super) fn mine_if_known() -> Option<&'static Presence> {
    MINE.try_with(Cell::get).ok().flatten()
}

/// The calling thread's presence. None while the thread ends.
pub(super) fn mine() -> Option<&'static Presence> {
    mine_if_known().or_else(|| {
        let mine = LEASE.try_with(|lease| lease.presence).ok()?;
        MINE.try_with(|place| place.set(Some(mine))).ok()?;
        Some(mine)
    })
}

/// A presence until the thread ends.
struct Lease {
    presence: &'static Presence,
    retired: Retired,
}

impl Lease {
    fn new() -> Self {
        let retired = retired();
        let reused = retired.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let presence = reused.unwrap_or_else(|| Box::leak(Box::new(Presence { inside: InsideMark::new() })));
        Self { presence, retired }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // Where that is gone already, nobody will read it.
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

/// The same for one run of a model: loom's statics go before the locals of its threads.
#[cfg(all(loom, test))]
type Retired = loom::sync::Arc<Mutex<Vec<&'static Presence>>>;

#[cfg(all(loom, test))]
fn retired() -> Retired {
    loom::lazy_static! {
        static ref RETIRED: Retired = Retired::default();
    }
    Retired::clone(&RETIRED)
}
