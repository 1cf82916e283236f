//! [`OnFailureState`]: how often memory ran out, and with which result.
#![forbid(unsafe_code)]

use std::cell::RefCell;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

thread_local! {
    /// The adaptors whose function runs on this thread.
    static WITHIN: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
}

/// The counts of an [`OnFailure`](super::OnFailure).
///
/// # Examples
///
/// ```
/// use cumem::sim::Profile;
/// use cumem::{AnyResource, Buffer, CudaResource, Device, LayerExt, Stream};
/// use cumem_adaptors::{OnFailureState, Reaction, ResourceExt};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let device = Device::simulated(Profile::default())?;
/// let stack = AnyResource::new(CudaResource::new(&device).limit(1000).on_failure(|_| Reaction::GiveUp));
/// assert!(Buffer::<u8, _>::zeroed(4096, &Stream::new(&device)?, &stack).is_err());
/// assert_eq!(stack.find::<OnFailureState>().unwrap().gave_up(), 1);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Default)]
pub struct OnFailureState {
    calls: AtomicU64,
    recovered: AtomicU64,
    gave_up: AtomicU64,
    not_called: AtomicU64,
}

impl OnFailureState {
    /// Returns the number of calls of the function.
    pub fn calls(&self) -> u64 {
        self.calls.load(Relaxed)
    }

    /// Returns the number of requests that succeeded after at least one call of the function.
    pub fn recovered(&self) -> u64 {
        self.recovered.load(Relaxed)
    }

    /// Returns the number of requests that failed after at least one attempt to recover.
    pub fn gave_up(&self) -> u64 {
        self.gave_up.load(Relaxed)
    }

    /// Returns the number of failures at which the function was not called, because the caller held a lock of the
    /// library: this adaptor is the upstream of a pool.
    pub fn not_called(&self) -> u64 {
        self.not_called.load(Relaxed)
    }

    pub(super) fn called(&self) {
        self.calls.fetch_add(1, Relaxed);
    }

    pub(super) fn has_recovered(&self) {
        self.recovered.fetch_add(1, Relaxed);
    }

    pub(super) fn gave_up_one(&self) {
        self.gave_up.fetch_add(1, Relaxed);
    }

    pub(super) fn skipped(&self) {
        self.not_called.fetch_add(1, Relaxed);
    }
}

/// A mark that the function of an adaptor runs on this thread, also after a panic until the guard is dropped.
pub(super) struct Within {
    state: usize,
    _of_this_thread: PhantomData<*const ()>,
}

impl Within {
    /// Marks the thread, or returns `None` if the function of this adaptor already runs on the thread.
    pub(super) fn enter(state: &OnFailureState) -> Option<Self> {
        let state = std::ptr::from_ref(state).addr();
        let entered = WITHIN.try_with(|within| {
            let mut within = within.borrow_mut();
            let is_new = !within.contains(&state);
            if is_new {
                within.push(state);
            }
            is_new
        });
        // While the thread ends, its list may already be dropped, and the function is not called.
        // Not `then_some`, which would make a guard in any case, and its drop would remove the mark of the outer one.
        entered.unwrap_or(false).then(|| Self { state, _of_this_thread: PhantomData })
    }
}

impl Drop for Within {
    fn drop(&mut self) {
        let _ = WITHIN.try_with(|within| within.borrow_mut().retain(|state| *state != self.state));
    }
}
