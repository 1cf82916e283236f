//! [`Ahead`]: the stream and the budget for prefetches ahead of use, of one buffer or of all buffers of a stack.
#![forbid(unsafe_code)]

use super::budget::{Budget, Reservation};
use super::options::AutoPrefetchOptions;
use super::report::AutoPrefetchReport;
use super::state::State;
use crate::device::Device;
use crate::device::Locked;
use crate::device::stream::Stream;
use cumem_driver::DriverError;
use std::sync::{Arc, Mutex, Weak};

/// The options, the stream and the budget for prefetches ahead of use, and the figures of the buffers that share them.
#[derive(Debug)]
pub(super) struct Ahead {
    pub(super) options: AutoPrefetchOptions,
    /// The stream of the prefetches.
    pub(super) stream: Stream,
    budget: Arc<Budget>,
    observed: Mutex<Observed>,
}

/// The observed buffers, and the figures of buffers that were observed before.
#[derive(Debug, Default)]
struct Observed {
    /// The sum over the buffers that were dropped.
    finished: AutoPrefetchReport,
    buffers: Vec<Weak<Mutex<State>>>,
}

impl Ahead {
    pub(super) fn new(device: &Device, options: AutoPrefetchOptions) -> Result<Self, DriverError> {
        let (stream, budget) = (Stream::new(device)?, Arc::new(Budget::new(options.get_budget())));
        Ok(Self { options, stream, budget, observed: Mutex::default() })
    }

    pub(super) fn device(&self) -> &Device {
        self.stream.device()
    }

    /// Takes `bytes` bytes of the budget, if it has as many left.
    pub(super) fn reserve(&self, bytes: usize) -> Option<Reservation> {
        self.budget.reserve(bytes)
    }

    /// Adds an observed buffer.
    pub(super) fn add(&self, state: &Arc<Mutex<State>>) {
        self.observed().buffers.push(Arc::downgrade(state));
    }

    /// Removes an observed buffer, and keeps its figures.
    pub(super) fn remove(&self, state: &Arc<Mutex<State>>, report: &AutoPrefetchReport) {
        let mut observed = self.observed();
        let removed = Arc::downgrade(state);
        observed.buffers.retain(|other| !other.ptr_eq(&removed));
        observed.finished.add(report);
    }

    /// Returns the sum over all buffers.
    pub(super) fn report(&self) -> AutoPrefetchReport {
        let observed = self.observed();
        let mut sum = observed.finished.clone();
        for state in observed.buffers.iter().filter_map(Weak::upgrade) {
            sum.add(&State::report(&state));
        }
        sum
    }

    fn observed(&self) -> Locked<'_, Observed> {
        Locked::new(&self.observed)
    }
}
