//! [`entry`]: what every exported function does around its work.

use crate::failure::Failure;
use crate::status::{CumemError, CumemStatus};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

static FORKED: AtomicBool = AtomicBool::new(false);

/// Makes all functions fail in children that this process forks from now on. A child has copies of the library's locks,
/// some of which may be locked for ever, and cannot use CUDA.
pub(crate) fn watch_forks() {
    extern "C" fn in_child() {
        FORKED.store(true, Relaxed);
    }
    static WATCH: Once = Once::new();
    WATCH.call_once(|| {
        // SAFETY: the handler stores to an atomic and does nothing else, which is permitted after a fork.
        unsafe { libc::pthread_atfork(None, None, Some(in_child)) };
    });
}

/// Returns whether this process is a forked child.
#[inline]
pub(crate) fn is_forked() -> bool {
    FORKED.load(Relaxed)
}

/// Runs the work of an exported function: refuses it in a forked child, and turns a panic and a failure into a status.
#[inline]
pub(crate) fn entry(error: *mut CumemError, work: impl FnOnce() -> Result<(), Failure>) -> CumemStatus {
    match attempt(work) {
        Ok(()) => CumemStatus::Success,
        Err(failure) => report(failure, error),
    }
}

/// Does the same for a function that returns a value.
#[inline]
pub(crate) fn attempt<T>(work: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    if is_forked() {
        return Err(forked());
    }
    // A panic leaves the library's own state as after an error: adaptors keep their counters right.
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| Err(panicked(panic)))
}

#[cold]
fn forked() -> Failure {
    Failure::new(CumemStatus::Forked, "this process is a forked child, and memory of its parent cannot be used in it")
}

#[cold]
fn panicked(panic: Box<dyn std::any::Any + Send>) -> Failure {
    let text = format!("the library panicked: {}", cumem::error::panic_message(&*panic).unwrap_or("without a message"));
    // The drop of the payload may panic too.
    let _ = catch_unwind(AssertUnwindSafe(|| drop(panic)));
    Failure::new(CumemStatus::Panic, text)
}

#[cold]
fn report(failure: Failure, error: *mut CumemError) -> CumemStatus {
    // SAFETY: by the contract of every exported function, `error` is null or points to an error of the caller.
    failure.report(unsafe { error.as_mut() })
}
