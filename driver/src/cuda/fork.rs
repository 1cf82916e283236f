//! Whether this process is a forked child of the process that loaded the driver. CUDA cannot be used there: calls of the
//! driver fail or wait for ever.

use crate::error::DriverError;
use crate::location::DeviceId;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

static FORKED: AtomicBool = AtomicBool::new(false);

/// Makes [`check`] return an error in all children that this process forks from now on.
pub(super) fn watch() {
    #[cfg(unix)]
    {
        extern "C" fn in_child() {
            FORKED.store(true, Relaxed);
        }
        // SAFETY: the handler stores to an atomic and does nothing else, which is permitted after a fork.
        unsafe { libc::pthread_atfork(None, None, Some(in_child)) };
    }
}

/// Returns an error in a forked child.
#[inline]
pub(super) fn check(device: DeviceId) -> Result<(), DriverError> {
    if FORKED.load(Relaxed) { Err(DriverError::Forked { device }) } else { Ok(()) }
}
