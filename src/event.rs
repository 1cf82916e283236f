//! [`Event`]: a point in a stream's work that others can wait for.

use crate::device::Device;
use crate::driver::RawEvent;
use crate::drop_error::record_drop_error;
use crate::error::DriverError;
use crate::stream::Stream;
use std::fmt;
use std::time::Duration;

/// A point in a stream's work. Before its first [record](Self::record) it counts as reached.
pub struct Event {
    raw: RawEvent,
    device: Device,
}

impl Event {
    /// An event that only orders, without taking the time (`CU_EVENT_DISABLE_TIMING`).
    ///
    /// # Errors
    ///
    /// What the driver answers.
    pub fn new(device: &Device) -> Result<Self, DriverError> {
        Self::create(device, false)
    }

    /// An event that takes the time, for [`elapsed_since`](Self::elapsed_since).
    ///
    /// # Errors
    ///
    /// What the driver answers.
    pub fn with_timing(device: &Device) -> Result<Self, DriverError> {
        Self::create(device, true)
    }

    fn create(device: &Device, timing: bool) -> Result<Self, DriverError> {
        let raw = device.driver().create_event(device.ordinal(), timing)?;
        Ok(Self { raw, device: device.clone() })
    }

    /// Its device.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Marks the end of the work enqueued on `stream` so far; the earlier mark is forgotten.
    ///
    /// # Errors
    ///
    /// [`DriverError::WrongDevice`] if the stream belongs to another device, or what the driver answers.
    pub fn record(&self, stream: &Stream) -> Result<(), DriverError> {
        self.device.expect("the stream", stream.device_id())?;
        let raw = stream.raw()?;
        // SAFETY: both handles are alive and of this device.
        unsafe { self.device.driver().record_event(self.device.ordinal(), self.raw, raw) }
    }

    /// Whether the marked work is done, without waiting.
    ///
    /// # Errors
    ///
    /// What the driver answers, errors of earlier work included.
    pub fn is_done(&self) -> Result<bool, DriverError> {
        // SAFETY: the handle is this event's, which is alive.
        unsafe { self.device.driver().query_event(self.device.ordinal(), self.raw) }
    }

    /// Waits until the marked work is done.
    ///
    /// # Errors
    ///
    /// What the driver answers, errors of earlier work included.
    pub fn synchronize(&self) -> Result<(), DriverError> {
        // SAFETY: the handle is this event's, which is alive.
        unsafe { self.device.driver().synchronize_event(self.device.ordinal(), self.raw) }
    }

    /// Device time between the mark of `start` and this one, zero if this one was reached first; virtual time
    /// on a simulated device.
    ///
    /// # Errors
    ///
    /// `CUDA_ERROR_INVALID_HANDLE` if either was made without timing or never recorded,
    /// `CUDA_ERROR_NOT_READY` if either mark is not reached yet.
    pub fn elapsed_since(&self, start: &Event) -> Result<Duration, DriverError> {
        self.device.expect("the event", start.device.id())?;
        // SAFETY: both handles are alive and of this device.
        unsafe { self.device.driver().elapsed(self.device.ordinal(), start.raw, self.raw) }
    }

    pub(crate) fn raw(&self) -> RawEvent {
        self.raw
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        // SAFETY: this is the event's only owner, and it is going.
        let result = unsafe { self.device.driver().destroy_event(self.device.ordinal(), self.raw) };
        record_drop_error("an event", result);
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Event({:#x} on {})", self.raw.0, self.device.id())
    }
}
