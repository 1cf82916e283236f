//! [`Fences`]: the events that a stream must wait for before it may use a piece of memory.

use super::sync::{Arc, AtomicBool};
use cumem::device::{KeptStream, StreamId};
use cumem::{Device, DeviceError, Event, Stream};
use smallvec::{SmallVec, smallvec};
use std::sync::atomic::Ordering::Relaxed;

/// A point in the work of a stream, or of the whole device. Every piece of memory that carries this fence was last used
/// on that stream, before that point.
#[derive(Debug)]
pub(super) struct Fence {
    event: Event,
    stream: StreamId,
    /// A fence that has been reached stays reached. The driver is not queried again after its first positive answer.
    reached: AtomicBool,
    /// The stream has a recorded use of the memory.
    is_use: bool,
}

impl Fence {
    /// Records an event after the work that is enqueued on `stream` so far.
    pub(super) fn record(stream: &Stream) -> Result<Arc<Self>, DeviceError> {
        Ok(Arc::new(Self::after(stream)?))
    }

    /// Records an event after a recorded use, which is enqueued on `stream`. If the pool cannot use the handle of the
    /// stream, the event is after all work of the device.
    pub(super) fn record_use(device: &Device, stream: &KeptStream) -> Result<Arc<Self>, DeviceError> {
        let fence = match stream.usable() {
            Some(stream) => Self::after(stream)?,
            None => Self::after_device(device, stream.id())?,
        };
        Ok(Arc::new(Self { is_use: true, ..fence }))
    }

    fn after(stream: &Stream) -> Result<Self, DeviceError> {
        if stream.is_captured() {
            return Err(captured(stream.device(), "recording an event on that stream"));
        }
        let event = Event::new(stream.device())?;
        event.record(stream)?;
        Ok(Self { event, stream: stream.id(), reached: AtomicBool::new(false), is_use: false })
    }

    fn after_device(device: &Device, stream: StreamId) -> Result<Self, DeviceError> {
        if device.has_captures() {
            return Err(captured(device, "recording an event on the device"));
        }
        let event = Event::new(device)?;
        event.record_on_device()?;
        Ok(Self { event, stream, reached: AtomicBool::new(false), is_use: false })
    }

    /// Records an event after the work that is enqueued on the whole device so far, for memory of a stream whose handle
    /// the pool cannot use.
    pub(super) fn record_on_device(device: &Device, stream: StreamId) -> Result<Arc<Self>, DeviceError> {
        Ok(Arc::new(Self::after_device(device, stream)?))
    }

    /// Reports whether the work is known to be done. Queries the driver without waiting. An error counts as "no",
    /// because a stream that then waits for the fence gets the error.
    pub(super) fn is_reached(&self) -> bool {
        if self.reached.load(Relaxed) {
            return true;
        }
        let reached = self.event.is_done().unwrap_or(false);
        self.reached.store(reached, Relaxed);
        reached
    }
}

fn captured(device: &Device, what: &'static str) -> DeviceError {
    DeviceError::Captured { device: device.id(), what }
}

/// A set of a few fences, all of which apply. If it is empty, every stream may use the memory at once.
#[derive(Debug, Clone, Default)]
pub(super) struct Fences(SmallVec<[Arc<Fence>; 2]>);

impl From<Arc<Fence>> for Fences {
    fn from(fence: Arc<Fence>) -> Self {
        Self(smallvec![fence])
    }
}

impl Fences {
    /// Adds the fences of `other`.
    pub(super) fn join(&mut self, other: &Self) {
        for fence in &other.0 {
            if !self.0.iter().any(|f| Arc::ptr_eq(f, fence)) {
                self.0.push(Arc::clone(fence));
            }
        }
    }

    /// Reports whether both sets hold the same fences.
    pub(super) fn same(&self, other: &Self) -> bool {
        self.0.len() == other.0.len() && self.0.iter().all(|f| other.0.iter().any(|g| Arc::ptr_eq(f, g)))
    }

    /// Reports whether `stream` may use the memory without waiting.
    pub(super) fn usable_on(&self, stream: StreamId) -> bool {
        self.0.iter().all(|fence| fence.stream == stream || fence.is_reached())
    }

    /// Reports whether the memory has a recorded use that is not known to be done. A stream waits for such memory only
    /// if there is no other, because the use was recorded so that its stream and the owner's stay independent.
    pub(super) fn hold_a_use(&self) -> bool {
        self.0.iter().any(|fence| fence.is_use && !fence.is_reached())
    }

    /// Reports whether every stream may use the memory without waiting.
    pub(super) fn are_reached(&self) -> bool {
        self.0.iter().all(|fence| fence.is_reached())
    }

    /// Drops the fences that have been reached. Returns whether any had.
    pub(super) fn prune(&mut self) -> bool {
        let before = self.0.len();
        self.0.retain(|fence| !fence.is_reached());
        self.0.len() < before
    }

    /// Makes `stream` wait for each fence of another stream that has not been reached. Returns whether there was any.
    pub(super) fn wait_on(&self, stream: &Stream) -> Result<bool, DeviceError> {
        let mut waits = false;
        for fence in &self.0 {
            if fence.stream != stream.id() && !fence.is_reached() {
                if stream.is_captured() {
                    return Err(captured(stream.device(), "a wait of that stream for other work"));
                }
                stream.wait(&fence.event)?;
                waits = true;
            }
        }
        Ok(waits)
    }

    /// Does the same as [`wait_on`](Self::wait_on) for memory that is about to be freed. If the driver refuses a wait of
    /// the stream, the host waits, because the memory would otherwise be lost.
    pub(super) fn finish_before(&self, stream: &Stream) -> Result<(), DeviceError> {
        self.wait_on(stream)
            .map(|_| ())
            .or_else(|_| self.0.iter().try_for_each(|fence| Ok(fence.event.synchronize()?)))
    }
}
