//! The number of a thread, as the system counts threads.

use std::cell::Cell;

thread_local! {
    static ID: Cell<u32> = const { Cell::new(0) };
}

/// Returns the id of the calling thread.
#[inline]
pub(super) fn thread_id() -> u32 {
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
