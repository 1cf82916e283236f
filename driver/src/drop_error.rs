//! Errors that a `drop` could not return.
//!
//! Each error is logged through `tracing` at level `ERROR` and counted. The latest ones are kept for
//! [`take_drop_errors`]. At the exit of the process the driver may be shut down already
//! (`CUDA_ERROR_DEINITIALIZED`, `CUDA_ERROR_CONTEXT_IS_DESTROYED`). The driver has then freed all memory, so these two
//! codes are not recorded.

use crate::deferral::after_locks;
use crate::error::DriverError;
use crate::error::code::CudaErrorCode;
use crate::location::DeviceId;
use crate::panics::{drop_caught, panic_message};
use std::collections::VecDeque;
use std::fmt::{self, Display};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread::{self, ThreadId};

/// Number of errors that are kept. If there are more, the oldest is dropped.
const KEPT: usize = 64;

static COUNTERS: Mutex<Vec<Weak<Count>>> = Mutex::new(Vec::new());

static ERRORS: Mutex<VecDeque<String>> = Mutex::new(VecDeque::new());

/// Returns the errors that were recorded since the last call, oldest first; at most the latest 64.
///
/// # Examples
///
/// ```
/// use cumem_driver::DriverError;
/// use cumem_driver::drop_error::{record_drop_error, take_drop_errors};
///
/// record_drop_error("a stream", Err(DriverError::NoSuchDevice { ordinal: 1, count: 1 }));
/// assert_eq!(take_drop_errors(), ["a stream could not be released: there is no device 1: the driver lists 1"]);
/// assert!(take_drop_errors().is_empty(), "each error is returned once");
/// ```
pub fn take_drop_errors() -> Vec<String> {
    ERRORS.lock().unwrap_or_else(PoisonError::into_inner).drain(..).collect()
}

/// A counter of the errors that are recorded about the devices of one machine while the counter exists.
///
/// An error that names no device counts if the thread that created the counter records it.
///
/// # Examples
///
/// ```
/// use cumem_driver::drop_error::{DropErrorCounter, record_drop_error};
/// use cumem_driver::{CudaErrorCode, DeviceId, DriverError};
///
/// let (device, other) = (DeviceId::cuda(0), DeviceId::simulated(1, 0));
/// let counter = DropErrorCounter::new(device);
/// for device in [device, other] {
///     let error = DriverError::Call { call: "cuStreamDestroy", device, code: CudaErrorCode::UNKNOWN };
///     record_drop_error("a stream", Err(error));
/// }
/// assert_eq!(counter.count(), 1, "the error of the other machine does not count");
/// ```
#[derive(Debug)]
pub struct DropErrorCounter(Arc<Count>);

#[derive(Debug)]
struct Count {
    machine: DeviceId,
    /// The thread that created the counter.
    thread: ThreadId,
    errors: AtomicU64,
}

impl DropErrorCounter {
    /// Creates a counter for the machine of a device.
    pub fn new(device: DeviceId) -> Self {
        let count = Arc::new(Count { machine: device, thread: thread::current().id(), errors: AtomicU64::new(0) });
        let mut counters = COUNTERS.lock().unwrap_or_else(PoisonError::into_inner);
        counters.retain(|count| count.strong_count() > 0);
        counters.push(Arc::downgrade(&count));
        Self(count)
    }

    /// Returns the number of errors so far.
    pub fn count(&self) -> u64 {
        self.0.errors.load(Ordering::Relaxed)
    }
}

fn count_error(device: Option<DeviceId>) {
    let counters = COUNTERS.lock().unwrap_or_else(PoisonError::into_inner);
    for count in counters.iter().filter_map(Weak::upgrade) {
        let own_thread = || count.thread == thread::current().id();
        if device.map_or_else(own_thread, |device| device.same_machine(count.machine)) {
            count.errors.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Records the error of `result`, if it is one, for `take_drop_errors`. `what` names the dropped value, for example
/// "a stream". Never panics.
pub fn record_drop_error<E: DropError>(what: &str, result: Result<(), E>) {
    let Err(error) = result else { return };
    if error.is_driver_shut_down() {
        return;
    }
    let message = format!("{what} could not be released: {error}");
    count_error(error.device());
    let mut errors = ERRORS.lock().unwrap_or_else(PoisonError::into_inner);
    if errors.len() == KEPT {
        errors.pop_front();
    }
    errors.push_back(message);
    drop(errors);
    let (what, error) = (what.to_owned(), error.to_string());
    after_locks(move || {
        // A subscriber is a user's code and may panic.
        let event = catch_unwind(AssertUnwindSafe(|| tracing::error!(%error, "{what} could not be released")));
        event.unwrap_or_else(drop_caught);
    });
}

/// Calls `release` for a `drop`, which must not panic. If `release` panics, for example in a memory resource of a user,
/// the panic is recorded for `take_drop_errors`. Reports whether `release` returned.
///
/// # Examples
///
/// ```
/// use cumem_driver::drop_error::{catch_drop_panic, take_drop_errors};
///
/// assert!(catch_drop_panic("a buffer", None, || ()));
/// assert!(!catch_drop_panic("a buffer", None, || panic!("too late")));
/// assert_eq!(take_drop_errors(), ["a buffer could not be released: a resource panicked: too late"]);
/// ```
pub fn catch_drop_panic(what: &str, device: Option<DeviceId>, release: impl FnOnce()) -> bool {
    let Err(panic) = catch_unwind(AssertUnwindSafe(release)) else { return true };
    let text = panic_message(&*panic).unwrap_or("without a text").into();
    record_drop_error(what, Err(Panicked { device, text }));
    drop_caught(panic);
    false
}

struct Panicked {
    device: Option<DeviceId>,
    text: String,
}

impl Display for Panicked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a resource panicked: {}", self.text)
    }
}

impl DropError for Panicked {
    fn device(&self) -> Option<DeviceId> {
        self.device
    }
}

/// An error that can be recorded in a `drop`.
pub trait DropError: Display {
    /// Reports whether the error means only that the driver was shut down at the exit of the process. False unless an
    /// error of the driver is the cause.
    fn is_driver_shut_down(&self) -> bool {
        false
    }

    /// Returns the device that the error is about, or `None` if the error does not name it.
    fn device(&self) -> Option<DeviceId> {
        None
    }
}

impl DropError for DriverError {
    fn is_driver_shut_down(&self) -> bool {
        let shut_down = [CudaErrorCode::DEINITIALIZED, CudaErrorCode::CONTEXT_IS_DESTROYED];
        // In a forked child the objects are the parent's.
        matches!(self, Self::Forked { .. }) || self.code().is_some_and(|code| shut_down.contains(&code))
    }

    fn device(&self) -> Option<DeviceId> {
        Self::device(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_counts_errors_of_its_own_machine() {
        let [one, two] = [1 << 30, 1 << 31].map(|machine| DeviceId::simulated(machine, 0));
        let counter = DropErrorCounter::new(one);
        let failed = |device| DriverError::Call { call: "cuStreamDestroy", device, code: CudaErrorCode::UNKNOWN };
        let record = |error| record_drop_error("a test's stream", Err(error));
        record(failed(two));
        record(DriverError::Call { call: "cuStreamDestroy", device: one, code: CudaErrorCode::DEINITIALIZED });
        assert_eq!(counter.count(), 0);
        record(failed(one.sibling(1)));
        thread::spawn(move || record(failed(one))).join().unwrap();
        assert_eq!(counter.count(), 2);
        let unknown = || record(DriverError::NoSuchDevice { ordinal: 9, count: 1 });
        unknown();
        thread::scope(|scope| scope.spawn(unknown).join()).unwrap();
        assert_eq!(counter.count(), 3);
    }
}
