//! What happens to errors in `drop`: they are kept here, since nothing can be returned there.
//!
//! Each is logged through `tracing` at level `ERROR` and counted; the latest are kept for
//! [`take_drop_errors`]. At process exit the driver may already be gone
//! (`CUDA_ERROR_DEINITIALIZED`, `CUDA_ERROR_CONTEXT_IS_DESTROYED`): its memory went with it, so that is no error.

use crate::error::DriverError;
use crate::error::code::CudaErrorCode;
use crate::location::DeviceId;
use std::collections::VecDeque;
use std::fmt::Display;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread::{self, ThreadId};

const KEPT: usize = 64;

static LISTENERS: Mutex<Vec<Weak<Heard>>> = Mutex::new(Vec::new());

static ERRORS: Mutex<VecDeque<String>> = Mutex::new(VecDeque::new());

/// Takes the errors that dropped values of this process could not return, oldest first; the latest 64.
pub fn take_drop_errors() -> Vec<String> {
    ERRORS.lock().unwrap_or_else(PoisonError::into_inner).drain(..).collect()
}

/// Counts what is recorded about the devices of a machine, on whichever thread, until it goes.
#[derive(Debug)]
pub struct Listener(Arc<Heard>);

#[derive(Debug)]
struct Heard {
    machine: DeviceId,
    /// Who counts for errors that do not know their device.
    thread: ThreadId,
    errors: AtomicU64,
}

impl Listener {
    /// Starts to count for the machine that `machine` belongs to.
    pub fn new(machine: DeviceId) -> Self {
        let heard = Arc::new(Heard { machine, thread: thread::current().id(), errors: AtomicU64::new(0) });
        let mut listeners = LISTENERS.lock().unwrap_or_else(PoisonError::into_inner);
        listeners.retain(|listener| listener.strong_count() > 0);
        listeners.push(Arc::downgrade(&heard));
        Self(heard)
    }

    /// Returns the number of errors so far.
    pub fn heard(&self) -> u64 {
        self.0.errors.load(Ordering::Relaxed)
    }
}

fn tell_listeners(device: Option<DeviceId>) {
    let listeners = LISTENERS.lock().unwrap_or_else(PoisonError::into_inner);
    for listener in listeners.iter().filter_map(Weak::upgrade) {
        let own_thread = || listener.thread == thread::current().id();
        if device.map_or_else(own_thread, |device| device.same_machine(listener.machine)) {
            listener.errors.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Records what the drop of `what` could not return. Never panics.
pub fn record_drop_error<E: DropError>(what: &str, result: Result<(), E>) {
    let Err(error) = result else { return };
    if error.driver_is_gone() {
        return;
    }
    tracing::error!(%error, "{what} could not be released");
    tell_listeners(error.device());
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

    /// The device that it is about, where it knows.
    fn device(&self) -> Option<DeviceId> {
        None
    }
}

impl DropError for DriverError {
    fn driver_is_gone(&self) -> bool {
        matches!(self.code(), Some(CudaErrorCode::DEINITIALIZED | CudaErrorCode::CONTEXT_IS_DESTROYED))
    }

    fn device(&self) -> Option<DeviceId> {
        Self::device(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_hears_its_own_machine() {
        let [one, two] = [1 << 30, 1 << 31].map(|machine| DeviceId::simulated(machine, 0));
        let listener = Listener::new(one);
        let failed = |device| DriverError::Call { call: "cuStreamDestroy", device, code: CudaErrorCode::UNKNOWN };
        let record = |error| record_drop_error("a test's stream", Err(error));
        record(failed(two));
        record(DriverError::Call { call: "cuStreamDestroy", device: one, code: CudaErrorCode::DEINITIALIZED });
        assert_eq!(listener.heard(), 0);
        record(failed(one.sibling(1)));
        thread::spawn(move || record(failed(one))).join().unwrap();
        assert_eq!(listener.heard(), 2);
        let unknown = || record(DriverError::NoSuchDevice { ordinal: 9, count: 1 });
        unknown();
        thread::scope(|scope| scope.spawn(unknown).join()).unwrap();
        assert_eq!(listener.heard(), 3);
    }
}
