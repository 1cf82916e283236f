//! [`Event`]: a point in a stream's work that streams and the host can wait for.

use super::error::DeviceError;
use super::handle::Device;
use cumem_driver::DriverError;
use cumem_driver::owned::OwnedEvent;
use std::fmt;
use std::time::Duration;

/// A point in a stream's work. An event that was never [recorded](Self::record) counts as done.
///
/// # Examples
///
/// ```
/// use cumem::sim::Profile;
/// use cumem::{Buffer, CudaResource, Device, Event, Stream};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let device = Device::simulated(Profile::default())?;
/// let (producer, consumer) = (Stream::new(&device)?, Stream::new(&device)?);
/// let buffer = Buffer::<u8, _>::zeroed(64 << 20, &producer, CudaResource::new(&device))?;
///
/// let zeroed = Event::new(&device)?;
/// zeroed.record(&producer)?;
/// consumer.wait(&zeroed)?; // work on `consumer` runs after the buffer is zeroed
/// zeroed.synchronize()?; // so does the host
/// assert!(zeroed.is_done()?);
/// # Ok(())
/// # }
/// ```
pub struct Event {
    owned: OwnedEvent,
    device: Device,
}

impl Event {
    /// Creates an event without timing (`CU_EVENT_DISABLE_TIMING`).
    ///
    /// # Errors
    ///
    /// Returns the driver's error.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem::sim::Profile;
    /// use cumem::{Device, Event};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let device = Device::simulated(Profile::default())?;
    /// let event = Event::new(&device)?;
    /// assert!(event.is_done()?); // never recorded
    /// # Ok(())
    /// # }
    /// ```
    pub fn new(device: &Device) -> Result<Self, DriverError> {
        Self::create(device, false)
    }

    /// Creates an event that also records the time, for [`elapsed_since`](Self::elapsed_since).
    ///
    /// # Errors
    ///
    /// Returns the driver's error.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem::sim::Profile;
    /// use cumem::{Device, Event, Stream};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let device = Device::simulated(Profile::default())?;
    /// let stream = Stream::new(&device)?;
    /// let event = Event::with_timing(&device)?;
    /// event.record(&stream)?;
    /// event.synchronize()?;
    /// assert!(event.elapsed_since(&event)?.is_zero());
    /// # Ok(())
    /// # }
    /// ```
    pub fn with_timing(device: &Device) -> Result<Self, DriverError> {
        Self::create(device, true)
    }

    fn create(device: &Device, timing: bool) -> Result<Self, DriverError> {
        Ok(Self { owned: OwnedEvent::new(device.raw(), timing)?, device: device.clone() })
    }

    /// Returns the device of the event.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Records the event: it is done when all work enqueued on the device so far is done, on whichever stream
    /// (`cuCtxRecordEvent`). Unlike [`record`](Self::record), this needs no stream: the streams may have been destroyed
    /// in the meantime, and their threads may have ended.
    ///
    /// # Errors
    ///
    /// Returns [`DriverError::MissingSymbol`] for a driver before CUDA 12.5, or the driver's error. The driver refuses
    /// the call while any stream of the device is captured into a graph. The simulator refuses an event with timing.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem::sim::Profile;
    /// use cumem::{Buffer, CudaResource, Device, Event, Stream};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let device = Device::simulated(Profile::default())?;
    /// let stream = Stream::new(&device)?;
    /// let _buffer = Buffer::<u8, _>::zeroed(64 << 20, &stream, CudaResource::new(&device))?;
    /// let event = Event::new(&device)?;
    /// event.record_on_device()?;
    /// assert!(!event.is_done()?);
    /// event.synchronize()?;
    /// assert!(stream.is_idle()?);
    /// # Ok(())
    /// # }
    /// ```
    pub fn record_on_device(&self) -> Result<(), DriverError> {
        self.owned.record_on_device()
    }

    /// Reports whether the recorded work is done, without waiting.
    ///
    /// # Errors
    ///
    /// Returns the driver's error, errors of earlier work included.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem::sim::Profile;
    /// use cumem::{Buffer, CudaResource, Device, Event, Stream};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let device = Device::simulated(Profile::default())?;
    /// let stream = Stream::new(&device)?;
    /// let _buffer = Buffer::<u8, _>::zeroed(64 << 20, &stream, CudaResource::new(&device))?;
    /// let zeroed = Event::new(&device)?;
    /// zeroed.record(&stream)?;
    /// assert!(!zeroed.is_done()?); // the device still fills the buffer
    /// stream.synchronize()?;
    /// assert!(zeroed.is_done()?);
    /// # Ok(())
    /// # }
    /// ```
    pub fn is_done(&self) -> Result<bool, DriverError> {
        self.owned.is_done()
    }

    /// Waits until the recorded work is done.
    ///
    /// # Errors
    ///
    /// Returns the driver's error, errors of earlier work included.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem::sim::Profile;
    /// use cumem::{Buffer, CudaResource, Device, Event, Stream};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let device = Device::simulated(Profile::default())?;
    /// let stream = Stream::new(&device)?;
    /// let _buffer = Buffer::<u8, _>::zeroed(64 << 20, &stream, CudaResource::new(&device))?;
    /// let zeroed = Event::new(&device)?;
    /// zeroed.record(&stream)?;
    /// zeroed.synchronize()?; // waits for the fill, but not for work that was enqueued later
    /// assert!(zeroed.is_done()?);
    /// # Ok(())
    /// # }
    /// ```
    pub fn synchronize(&self) -> Result<(), DriverError> {
        self.owned.synchronize()
    }

    /// Returns the device time between `start` and this event, or zero if this event was reached first. On a simulated
    /// device this is virtual time.
    ///
    /// # Errors
    ///
    /// Returns
    /// - [`DeviceError::WrongDevice`] if `start` belongs to another device,
    /// - `CUDA_ERROR_INVALID_HANDLE` if either event was created without timing or was never recorded,
    /// - `CUDA_ERROR_NOT_READY` if either event is not done yet.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem::sim::Profile;
    /// use cumem::{Buffer, CudaResource, Device, Event, Stream};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let device = Device::simulated(Profile::default())?;
    /// let stream = Stream::new(&device)?;
    /// let [start, end] = [Event::with_timing(&device)?, Event::with_timing(&device)?];
    /// start.record(&stream)?;
    /// let _buffer = Buffer::<u8, _>::zeroed(64 << 20, &stream, CudaResource::new(&device))?;
    /// end.record(&stream)?;
    /// end.synchronize()?;
    /// assert!(end.elapsed_since(&start)?.as_micros() > 0);
    /// # Ok(())
    /// # }
    /// ```
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
