//! [`Ahead`]: with what is brought ahead, for one buffer or for all buffers of a stack.
#![forbid(unsafe_code)]

use super::budget::{Budget, Room};
use super::options::AutoPrefetchOptions;
use super::report::AutoPrefetchReport;
use super::state::State;
use crate::device::Device;
use crate::device::stream::Stream;
use cumem_driver::DriverError;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// The options, one stream, one budget, and the books of those who share them.
#[derive(Debug)]
pub(super) struct Ahead {
    pub(super) options: AutoPrefetchOptions,
    /// On which it is brought.
    pub(super) stream: Stream,
    budget: Arc<Budget>,
    books: Mutex<Books>,
}

#[derive(Debug, Default)]
struct Books {
    /// The sum over buffers that are gone.
    gone: AutoPrefetchReport,
    there: Vec<Weak<Mutex<State>>>,
}

impl Ahead {
    pub(super) fn new(device: &Device, options: AutoPrefetchOptions) -> Result<Self, DriverError> {
        let (stream, budget) = (Stream::new(device)?, Arc::new(Budget::new(options.budget)));
        Ok(Self { options, stream, budget, books: Mutex::default() })
    }

    pub(super) fn device(&self) -> &Device {
        self.stream.device()
    }

    /// Room for `bytes` more, if the budget has it.
    pub(super) fn room(&self, bytes: usize) -> Option<Room> {
        self.budget.room(bytes)
    }

    /// Another buffer is observed.
    pub(super) fn enter(&self, state: &Arc<Mutex<State>>) {
        self.books().there.push(Arc::downgrade(state));
    }

    /// It no longer is: what came of it is kept.
    pub(super) fn leave(&self, state: &Arc<Mutex<State>>, report: &AutoPrefetchReport) {
        let mut books = self.books();
        let leaving = Arc::downgrade(state);
        books.there.retain(|other| !other.ptr_eq(&leaving));
        books.gone.add(report);
    }

    /// What came of all.
    pub(super) fn report(&self) -> AutoPrefetchReport {
        let books = self.books();
        let mut sum = books.gone.clone();
        for state in books.there.iter().filter_map(Weak::upgrade) {
            sum.add(&State::report(&state));
        }
        sum
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
