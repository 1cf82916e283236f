//! [`Fences`]: what a stream must wait for before it may use a piece of memory.

use super::sync::{Arc, AtomicBool};
use cumem::{DriverError, Event, Stream, StreamId};
use smallvec::{SmallVec, smallvec};
use std::sync::atomic::Ordering::Relaxed;

/// A point in a stream's work, with the pieces of memory whose last uses lie before it.
#[derive(Debug)]
pub(super) struct Fence {
    event: Event,
    stream: StreamId,
    /// Once reached, always reached: an event is asked no more after its first yes.
    reached: AtomicBool,
}

impl Fence {
    /// Marks the work enqueued on `stream` so far.
    pub(super) fn record(stream: &Stream) -> Result<Arc<Self>, DriverError> {
        let event = Event::new(stream.device())?;
        event.record(stream)?;
        Ok(Arc::new(Self { event, stream: stream.id(), reached: AtomicBool::new(false) }))
    }

    /// Whether the work is known to be done. Asks the driver, without waiting. An answer that is an error
    /// counts as no: whoever waits for the fence meets the error.
    pub(super) fn is_reached(&self) -> bool {
        if self.reached.load(Relaxed) {
            return true;
        }
        let reached = self.event.is_done().unwrap_or(false);
        self.reached.store(reached, Relaxed);
        reached
    }
}

/// A few fences, all of which count. None: the memory may be used by every stream at once.
#[derive(Debug, Clone, Default)]
pub(super) struct Fences(SmallVec<[Arc<Fence>; 2]>);

impl From<Arc<Fence>> for Fences {
    fn from(fence: Arc<Fence>) -> Self {
        Self(smallvec![fence])
    }
}

impl Fences {
    /// Adds those of `other`.
    pub(super) fn join(&mut self, other: &Self) {
        for fence in &other.0 {
            if !self.0.iter().any(|f| Arc::ptr_eq(f, fence)) {
                self.0.push(Arc::clone(fence));
            }
        }
    }

    /// Whether both are the same fences.
    pub(super) fn same(&self, other: &Self) -> bool {
        self.0.len() == other.0.len() && self.0.iter().all(|f| other.0.iter().any(|g| Arc::ptr_eq(f, g)))
    }

    /// Whether `stream` may use the memory without waiting.
    pub(super) fn usable_on(&self, stream: StreamId) -> bool {
        self.0.iter().all(|fence| fence.stream == stream || fence.is_reached())
    }

    /// Whether every stream may use the memory without waiting.
    pub(super) fn are_reached(&self) -> bool {
        self.0.iter().all(|fence| fence.is_reached())
    }

    /// Forgets the fences that have been reached. Whether any had.
    pub(super) fn prune(&mut self) -> bool {
        let before = self.0.len();
        self.0.retain(|fence| !fence.is_reached());
        self.0.len() < before
    }

    /// Makes `stream` wait for each fence of another stream that has not been reached.
    pub(super) fn wait_on(&self, stream: &Stream) -> Result<(), DriverError> {
        for fence in &self.0 {
            if fence.stream != stream.id() && !fence.is_reached() {
                stream.wait(&fence.event)?;
            }
        }
        Ok(())
    }
}
