//! [`Ahead`]: with what is brought ahead, for one buffer or for all buffers of a stack.
#![forbid(unsafe_code)]

use super::observer::State;
use super::{AutoPrefetchOptions, AutoPrefetchReport};
use crate::device::Device;
use crate::error::DriverError;
use crate::stream::Stream;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// The options, one stream, one budget, and the books of those who share them.
#[derive(Debug)]
pub(super) struct Ahead {
    pub(super) options: AutoPrefetchOptions,
    /// On which it is brought.
    pub(super) stream: Stream,
    /// Bytes that are there or on their way and have not been used.
    bytes: AtomicUsize,
    books: Mutex<Books>,
}

#[derive(Debug, Default)]
struct Books {
    /// The sum over buffers that are gone.
    gone: AutoPrefetchReport,
    there: Vec<Weak<Mutex<State>>>,
}

/// A part of the budget, until it goes.
#[derive(Debug)]
pub(super) struct Room {
    ahead: Arc<Ahead>,
    bytes: usize,
}

impl Ahead {
    pub(super) fn new(device: &Device, options: AutoPrefetchOptions) -> Result<Self, DriverError> {
        let (stream, bytes) = (Stream::new(device)?, AtomicUsize::new(0));
        Ok(Self { options, stream, bytes, books: Mutex::default() })
    }

    pub(super) fn device(&self) -> &Device {
        self.stream.device()
    }

    /// Room for `bytes` more, if the budget has it.
    pub(super) fn room(self: &Arc<Self>, bytes: usize) -> Option<Room> {
        let within = |ahead: usize| ahead.checked_add(bytes).filter(|sum| *sum <= self.options.budget);
        self.bytes.fetch_update(Relaxed, Relaxed, within).ok()?;
        Some(Room { ahead: Arc::clone(self), bytes })
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

impl Drop for Room {
    fn drop(&mut self) {
        self.ahead.bytes.fetch_sub(self.bytes, Relaxed);
    }
}
