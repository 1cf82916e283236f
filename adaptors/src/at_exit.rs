//! Work at the end of the process, for resources that are never dropped: the default resources of GPUs
//! (`cumem::current`), and stacks in statics.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, Once, PoisonError, Weak};

/// A value that has work at the end of the process.
pub(crate) trait AtExit: Send + Sync {
    /// Called at the end of the process if the value still exists then, in the function that ends the process.
    fn at_exit(&self);
}

static HOOKS: Mutex<Vec<Weak<dyn AtExit>>> = Mutex::new(Vec::new());

/// Calls [`AtExit::at_exit`] of `value` when the process ends by a return of `main` or by `exit`. A value that is
/// dropped earlier is not called.
pub(crate) fn at_exit(value: Weak<dyn AtExit>) {
    static REGISTERED: Once = Once::new();
    REGISTERED.call_once(register);
    let mut hooks = HOOKS.lock().unwrap_or_else(PoisonError::into_inner);
    hooks.retain(|hook| hook.strong_count() > 0);
    hooks.push(value);
}

fn register() {
    extern "C" fn ended() {
        run();
    }
    // Miri has no `atexit`.
    if !cfg!(miri) {
        // SAFETY: `ended` is a function of this program, which is loaded until the process ends. It does not unwind.
        unsafe { libc::atexit(ended) };
    }
}

fn run() {
    let hooks = std::mem::take(&mut *HOOKS.lock().unwrap_or_else(PoisonError::into_inner));
    for hook in hooks.iter().filter_map(Weak::upgrade) {
        // A panic must not leave a function that C code calls. Its payload is leaked, because its drop may panic too.
        let work = AssertUnwindSafe(|| call(hook));
        catch_unwind(work).unwrap_or_else(std::mem::forget);
    }
}

/// Calls the hook. The last reference may be this one, so the value may be dropped here.
fn call(hook: Arc<dyn AtExit>) {
    hook.at_exit();
}
