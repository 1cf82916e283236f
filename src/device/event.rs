//! [`Event`]: a point in a stream's work that others can wait for.

use super::error::DeviceError;
use super::handle::Device;
use cumem_driver::DriverError;
use cumem_driver::owned::OwnedEvent;
use std::fmt;
use std::time::Duration;

/// A point in a stream's work. Before its first [record](Self::record) it counts as reached.
pub struct Event {
    owned: OwnedEvent,
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
        Ok(Self { owned: OwnedEvent::new(device.raw(), timing)?, device: device.clone() })
    }

    /// Its device.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Whether the marked work is done, without waiting.
    ///
    /// # Errors
    ///
    /// What the driver answers, errors of earlier work included.
    pub fn is_done(&self) -> Result<bool, DriverError> {
        self.owned.is_done()
    }

    /// Waits until the marked work is done.
    ///
    /// # Errors
    ///
    /// What the driver answers, errors of earlier work included.
    pub fn synchronize(&self) -> Result<(), DriverError> {
        self.owned.synchronize()
    }

    /// Device time between the mark of `start` and this one, zero if this one was reached first; virtual time
    /// on a simulated device.
    ///
    /// # Errors
    ///
    /// `CUDA_ERROR_INVALID_HANDLE` if either was made without timing or never recorded,
    /// `CUDA_ERROR_NOT_READY` if either mark is not reached yet.
    pub fn elapsed_since(&self, start: &Event) -> Result<Duration, DeviceError> {
        self.device.check_device("the event", start.device.id())?;
        // SAFETY: both events belong to this device.
        Ok(unsafe { self.owned.elapsed_since(&start.owned) }?)
    }

    pub(crate) fn owned(&self) -> &OwnedEvent {
        &self.owned
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Event({:#x} on {})", self.owned.raw().0, self.device.id())
    }
}
