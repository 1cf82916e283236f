//! Waits of the host and of streams.

use super::Stream;
use crate::device::error::DeviceError;
use crate::device::event::Event;
use crate::device::host_gate::Closed;
use std::borrow::Cow;

impl Stream {
    /// Waits until the stream has done all its work.
    ///
    /// # Errors
    ///
    /// Returns [`DeviceError::WrongThread`] for another thread's default stream, or the driver's error, errors of
    /// earlier work included.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Buffer, CudaResource, Device, Stream};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// let _zeros = Buffer::<u8, _>::zeroed(64 << 20, &stream, CudaResource::new(&device))?; // only enqueued
    /// stream.synchronize()?;
    /// assert!(stream.is_idle()?);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn synchronize(&self) -> Result<(), DeviceError> {
        let (raw, device) = (self.raw()?, self.device());
        // SAFETY: the handle is this stream's, which is alive.
        Ok(unsafe { device.driver().synchronize_stream(device.ordinal(), raw) }?)
    }

    /// Reports whether the stream has done all its work, without waiting.
    ///
    /// # Errors
    ///
    /// Returns [`DeviceError::WrongThread`] for another thread's default stream, or the driver's error, errors of
    /// earlier work included.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Buffer, CudaResource, Device, Stream};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// let _zeros = Buffer::<u8, _>::zeroed(64 << 20, &stream, CudaResource::new(&device))?;
    /// assert!(!stream.is_idle()?); // the host can do other work meanwhile
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn is_idle(&self) -> Result<bool, DeviceError> {
        let (raw, device) = (self.raw()?, self.device());
        // SAFETY: the handle is this stream's, which is alive.
        Ok(unsafe { device.driver().query_stream(device.ordinal(), raw) }?)
    }

    /// Makes the work that is enqueued on this stream from now on wait for `event`, as it was
    /// [recorded](Event::record) last. Does not block the host.
    ///
    /// # Errors
    ///
    /// Returns [`DeviceError::WrongDevice`] if the event belongs to another simulator or driver, or the driver's error.
    ///
    /// # Examples
    ///
    /// See [`Event`].
    pub fn wait(&self, event: &Event) -> Result<(), DeviceError> {
        let (raw, device) = (self.raw()?, self.device());
        if !event.device().id().same_machine(device.id()) {
            device.check_device("the event", event.device().id())?;
        }
        // SAFETY: both handles are alive, and belong to one machine.
        Ok(unsafe { device.driver().wait_event(device.ordinal(), raw, event.owned().raw()) }?)
    }

    /// Makes the work that is enqueued on this stream from now on wait for the work enqueued on `other` so far. Does
    /// not block the host, unless one of the two streams is another thread's default stream. The calling thread cannot
    /// enqueue a wait there, so the host waits instead.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Event::new`], [`Event::record`] and [`Stream::wait`].
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem::sim::Profile;
    /// use cumem::{Buffer, CudaResource, Device, Stream};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let device = Device::simulated(Profile::default())?;
    /// let (producer, consumer) = (Stream::new(&device)?, Stream::new(&device)?);
    /// let _buffer = Buffer::<u8, _>::zeroed(64 << 20, &producer, CudaResource::new(&device))?;
    /// consumer.wait_for(&producer)?;
    /// consumer.synchronize()?;
    /// assert!(producer.is_idle()?);
    /// # Ok(())
    /// # }
    /// ```
    pub fn wait_for(&self, other: &Stream) -> Result<(), DeviceError> {
        if self.id() == other.id() {
            return Ok(());
        }
        if self.raw().is_err() || other.raw().is_err() {
            return other.finish();
        }
        let event = Event::new(other.device())?;
        event.record(other)?;
        self.wait(&event)
    }

    /// Waits for the work that must be done before the host accesses `memory` of this stream. This is the work of the
    /// stream, or for managed memory of all devices of the machine without concurrent managed access, if the stream's
    /// device is one. Such devices refuse further work until the result is dropped.
    pub(crate) fn host_access(&self, memory: *const u8) -> Result<Option<Closed<'_>>, DeviceError> {
        match self.device().host_gate() {
            Some(gate) if self.device().is_managed(memory)? => {
                Ok(Some(gate.close(|| self.device().synchronize_gated())?))
            }
            _ => self.finish().map(|()| None),
        }
    }

    /// Waits for the stream's work, from any thread. For another thread's default stream, waits for the whole device,
    /// because the driver's handle refers to another stream in the calling thread.
    pub(crate) fn finish(&self) -> Result<(), DeviceError> {
        match self.raw() {
            Ok(_) => self.synchronize(),
            Err(_) => Ok(self.device().synchronize()?),
        }
    }

    /// Returns a stream that the calling thread may use, and on which all work of this stream so far is ordered before
    /// later work. This is the stream itself. For another thread's default stream, the host waits for the device, and
    /// the result is the calling thread's default stream.
    #[inline]
    pub(crate) fn usable_here(&self) -> Result<Cow<'_, Self>, DeviceError> {
        match self.raw() {
            Ok(_) => Ok(Cow::Borrowed(self)),
            Err(_) => self.replaced(),
        }
    }

    #[cold]
    fn replaced(&self) -> Result<Cow<'_, Self>, DeviceError> {
        self.device().synchronize()?;
        Ok(Cow::Owned(Self::per_thread_default(self.device())))
    }
}

impl Event {
    /// Records the event: it is done when the work enqueued on `stream` so far is done. A later record replaces an
    /// earlier one.
    ///
    /// # Errors
    ///
    /// Returns [`DeviceError::WrongDevice`] if the stream belongs to another device, [`DeviceError::WrongThread`] for
    /// another thread's default stream, or the driver's error.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem::sim::Profile;
    /// use cumem::{Buffer, CudaResource, Device, Event, Stream};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let device = Device::simulated(Profile::default())?;
    /// let (stream, event) = (Stream::new(&device)?, Event::new(&device)?);
    /// assert!(event.is_done()?); // never recorded
    /// let _buffer = Buffer::<u8, _>::zeroed(64 << 20, &stream, CudaResource::new(&device))?;
    /// event.record(&stream)?;
    /// assert!(!event.is_done()?);
    /// # Ok(())
    /// # }
    /// ```
    pub fn record(&self, stream: &Stream) -> Result<(), DeviceError> {
        self.device().check_device("the stream", stream.device_id())?;
        let raw = stream.raw()?;
        // SAFETY: the stream is alive, and belongs to the event's device.
        Ok(unsafe { self.owned().record(raw) }?)
    }
}
