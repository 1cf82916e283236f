//! [`Generation`]: how often this process was forked from the one that a value was made in.
#![forbid(unsafe_op_in_unsafe_fn)]

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

static FORKS: AtomicU32 = AtomicU32::new(0);

/// Returns the number of forks between the first simulator's process and this one.
pub(super) fn generation() -> u32 {
    FORKS.load(Relaxed)
}

/// Counts the forks of this process and of its children from now on.
pub(super) fn watch() {
    #[cfg(unix)]
    {
        static WATCHED: std::sync::Once = std::sync::Once::new();
        extern "C" fn in_child() {
            FORKS.fetch_add(1, Relaxed);
        }
        // SAFETY: the handler changes an atomic and does nothing else, which is permitted after a fork.
        WATCHED.call_once(|| _ = unsafe { libc::pthread_atfork(None, None, Some(in_child)) });
    }
}
