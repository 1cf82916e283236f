//! What happens to errors in `drop`: they are kept here, since nothing can be returned there.
//!
//! Each is logged through `tracing` at level `ERROR` and counted; the latest are kept for
//! [`take_drop_errors`]. At process exit the driver may already be gone
//! (`CUDA_ERROR_DEINITIALIZED`, `CUDA_ERROR_CONTEXT_IS_DESTROYED`): its memory went with it, so that is no error.

use crate::code::CudaErrorCode;
use crate::error::{DeallocError, DeallocReason, DriverError};
use std::collections::VecDeque;
use std::fmt::Display;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

const KEPT: usize = 64;

static RECORDED: AtomicU64 = AtomicU64::new(0);

static ERRORS: Mutex<VecDeque<String>> = Mutex::new(VecDeque::new());

/// Takes the errors that dropped values of this process could not return, oldest first; the latest 64.
pub fn take_drop_errors() -> Vec<String> {
    ERRORS.lock().unwrap_or_else(PoisonError::into_inner).drain(..).collect()
}

/// How many errors of this process were recorded so far.
pub(crate) fn drop_errors_recorded() -> u64 {
    RECORDED.load(Ordering::Relaxed)
}

/// Records what the drop of `what` could not return. Never panics.
pub fn record_drop_error<E: DropError>(what: &str, result: Result<(), E>) {
    let Err(error) = result else { return };
    if error.driver_is_gone() {
        return;
    }
    tracing::error!(%error, "{what} could not be released");
    RECORDED.fetch_add(1, Ordering::Relaxed);
    let mut errors = ERRORS.lock().unwrap_or_else(PoisonError::into_inner);
    if errors.len() == KEPT {
        errors.pop_front();
    }
    errors.push_back(format!("{what} could not be released: {error}"));
}

/// An error that a drop can meet.
pub trait DropError: Display {
    /// Whether it only says that the driver has been shut down.
    fn driver_is_gone(&self) -> bool;
}

impl DropError for DriverError {
    fn driver_is_gone(&self) -> bool {
        matches!(self.code(), Some(CudaErrorCode::DEINITIALIZED | CudaErrorCode::CONTEXT_IS_DESTROYED))
    }
}

impl DropError for DeallocError {
    fn driver_is_gone(&self) -> bool {
        matches!(&self.reason, DeallocReason::Driver(error) if error.driver_is_gone())
    }
}
