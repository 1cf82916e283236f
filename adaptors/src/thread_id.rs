//! The number of a thread, as the system counts threads, and its name.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::thread;

thread_local! {
    static ID: Cell<u32> = const { Cell::new(0) };
    /// `None` until the name is looked up.
    static NAME: RefCell<Option<Option<Arc<str>>>> = const { RefCell::new(None) };
}

/// Returns the name of the calling thread, or `None` if the thread has none or is ending.
pub(crate) fn thread_name() -> Option<Arc<str>> {
    let look_up = || thread::current().name().map(Arc::from);
    NAME.try_with(|name| name.borrow_mut().get_or_insert_with(look_up).clone()).ok().flatten()
}

/// Returns the id of the calling thread.
#[inline]
pub(crate) fn thread_id() -> u32 {
    match ID.get() {
        0 => look_up(),
        id => id,
    }
}

#[cold]
fn look_up() -> u32 {
    let id = of_the_system();
    ID.set(id);
    id
}

#[cfg(target_os = "linux")]
fn of_the_system() -> u32 {
    // SAFETY: the call has no arguments and always succeeds.
    unsafe { libc::gettid() as u32 }
}

#[cfg(not(target_os = "linux"))]
fn of_the_system() -> u32 {
    use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
    static NEXT: AtomicU32 = AtomicU32::new(1);
    NEXT.fetch_add(1, Relaxed)
}
