//! The owner of each driver object: a stream, an event, an executable graph, a module, device memory, pinned memory, a
//! stream-ordered pool, a registration of host memory.
//!
//! Each type here destroys its object when it is dropped, and no other code does. An error of that call goes to
//! [`record_drop_error`], because a drop cannot return it.

use crate::driver::Driver;
use crate::drop_error::record_drop_error;
use crate::error::DriverError;
use crate::location::DeviceId;
use crate::module_image::ModuleImage;
use crate::pool::PoolProperties;
use crate::raw::{RawEvent, RawFunction, RawGraph, RawGraphExec, RawModule, RawPool, RawStream};
use std::fmt;
use std::ptr::NonNull;
use std::sync::Arc;
use std::time::Duration;

/// One device of a driver: the driver, and the device's ordinal.
///
/// # Examples
///
/// ```
/// use cumem_driver::owned::RawDevice;
/// use cumem_sim::{Profile, Simulator};
/// use std::sync::Arc;
///
/// let driver = Arc::new(Simulator::new([Profile::titanv(), Profile::a100()])?);
/// let second = RawDevice::new(driver, 1)?;
/// assert_eq!(second.driver().attributes(second.ordinal())?.compute_capability, (8, 0));
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct RawDevice {
    driver: Arc<dyn Driver>,
    d: u32,
}

impl RawDevice {
    /// Returns device `d` of `driver`.
    ///
    /// # Errors
    ///
    /// Returns [`DriverError::NoSuchDevice`] if the driver has no such device.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem_driver::owned::RawDevice;
    /// use cumem_sim::{Profile, Simulator};
    /// use std::sync::Arc;
    ///
    /// let driver = Arc::new(Simulator::new([Profile::a100()])?);
    /// assert_eq!(RawDevice::new(driver.clone(), 0)?.ordinal(), 0);
    /// let error = RawDevice::new(driver, 1).unwrap_err();
    /// assert_eq!(error.to_string(), "there is no device 1: the driver lists 1");
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn new(driver: Arc<dyn Driver>, d: u32) -> Result<Self, DriverError> {
        let count = driver.device_count();
        if d < count { Ok(Self { driver, d }) } else { Err(DriverError::NoSuchDevice { ordinal: d, count }) }
    }

    /// Returns the driver.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem_driver::owned::*;
    /// # use cumem_sim::{Profile, Simulator};
    /// # let machine = Simulator::new([Profile::a100()])?;
    /// # let device = RawDevice::new(std::sync::Arc::new(machine.clone()), 0)?;
    /// let memory = device.driver().memory_info(device.ordinal())?;
    /// assert!(memory.free <= memory.total);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn driver(&self) -> &dyn Driver {
        &*self.driver
    }

    /// Returns the shared handle to the driver.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem_driver::owned::*;
    /// # use cumem_sim::{Profile, Simulator};
    /// # let machine = Simulator::new([Profile::a100()])?;
    /// # let device = RawDevice::new(std::sync::Arc::new(machine.clone()), 0)?;
    /// let same = RawDevice::new(device.shared_driver().clone(), 0)?;
    /// assert_eq!(same.id(), device.id());
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn shared_driver(&self) -> &Arc<dyn Driver> {
        &self.driver
    }

    /// Returns the ordinal, which every call of the driver takes.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem_driver::owned::*;
    /// # use cumem_sim::{Profile, Simulator};
    /// # let machine = Simulator::new([Profile::a100()])?;
    /// # let device = RawDevice::new(std::sync::Arc::new(machine.clone()), 0)?;
    /// assert_eq!(device.ordinal(), 0);
    /// device.driver().synchronize_device(device.ordinal())?;
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn ordinal(&self) -> u32 {
        self.d
    }

    /// Returns the id of the device.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem_driver::owned::*;
    /// # use cumem_sim::{Profile, Simulator};
    /// # let machine = Simulator::new([Profile::a100()])?;
    /// # let device = RawDevice::new(std::sync::Arc::new(machine.clone()), 0)?;
    /// assert!(device.id().is_simulated());
    /// assert_eq!(device.id().ordinal(), device.ordinal());
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn id(&self) -> DeviceId {
        self.driver.device_id(self.d)
    }
}

impl fmt::Debug for RawDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RawDevice({})", self.id())
    }
}

/// Device memory (`cuMemAlloc`).
///
/// # Examples
///
/// ```
/// # use cumem_driver::owned::*;
/// # use cumem_sim::{Profile, Simulator};
/// # let machine = Simulator::new([Profile::a100()])?;
/// # let device = RawDevice::new(std::sync::Arc::new(machine.clone()), 0)?;
/// let memory = OwnedDeviceMemory::new(&device, 4096)?;
/// assert_eq!(machine.live_allocations().device.bytes, 4096);
/// drop(memory); // frees the memory
/// assert!(machine.live_allocations().no_memory());
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct OwnedDeviceMemory {
    device: RawDevice,
    start: NonNull<u8>,
}

// SAFETY: any thread may use and free device memory.
unsafe impl Send for OwnedDeviceMemory {}
// SAFETY: a shared reference only gives the address.
unsafe impl Sync for OwnedDeviceMemory {}

impl OwnedDeviceMemory {
    /// Allocates `bytes` bytes.
    ///
    /// # Errors
    ///
    /// Returns the driver's error.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem_driver::owned::*;
    /// # use cumem_sim::{Profile, Simulator};
    /// # let machine = Simulator::new([Profile::a100()])?;
    /// # let device = RawDevice::new(std::sync::Arc::new(machine.clone()), 0)?;
    /// let _memory = OwnedDeviceMemory::new(&device, 4096)?;
    /// let error = OwnedDeviceMemory::new(&device, 1 << 50).unwrap_err();
    /// assert!(error.is_out_of_memory());
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn new(device: &RawDevice, bytes: usize) -> Result<Self, DriverError> {
        Ok(Self { device: device.clone(), start: device.driver.allocate_device(device.d, bytes)? })
    }

    /// Returns the address of the byte at `offset`, which is at most the length.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem_driver::owned::*;
    /// # use cumem_sim::{Profile, Simulator};
    /// # let machine = Simulator::new([Profile::a100()])?;
    /// # let device = RawDevice::new(std::sync::Arc::new(machine.clone()), 0)?;
    /// let memory = OwnedDeviceMemory::new(&device, 4096)?;
    /// let info = device.driver().pointer_info(0, memory.at(4095))?; // the last byte
    /// assert_eq!(info.memory_type, cumem_driver::MemoryType::Device);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn at(&self, offset: usize) -> *mut u8 {
        self.start.as_ptr().wrapping_add(offset)
    }
}

impl Drop for OwnedDeviceMemory {
    fn drop(&mut self) {
        // SAFETY: this object owns the memory, and the driver waits for the work that uses it.
        let freed = unsafe { self.device.driver.free(self.device.d, self.start) };
        record_drop_error("device memory", freed);
    }
}

/// Pinned host memory (`cuMemAllocHost`).
///
/// # Examples
///
/// ```
/// # use cumem_driver::owned::*;
/// # use cumem_sim::{Profile, Simulator};
/// # let machine = Simulator::new([Profile::a100()])?;
/// # let device = RawDevice::new(std::sync::Arc::new(machine.clone()), 0)?;
/// let memory = OwnedPinnedMemory::new(&device, 4)?;
/// // SAFETY: the memory has four bytes, and no other code uses them.
/// unsafe { memory.at(0).cast::<u32>().write(7) };
/// // SAFETY: as above; the bytes were just written.
/// assert_eq!(unsafe { memory.at(0).cast::<u32>().read() }, 7);
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct OwnedPinnedMemory {
    device: RawDevice,
    start: NonNull<u8>,
}

// SAFETY: any thread may use and free pinned memory.
unsafe impl Send for OwnedPinnedMemory {}
// SAFETY: a shared reference only gives the address.
unsafe impl Sync for OwnedPinnedMemory {}

impl OwnedPinnedMemory {
    /// Allocates `bytes` bytes. Work that uses the memory must be done before the result is dropped, because the driver
    /// does not wait for the work.
    ///
    /// # Errors
    ///
    /// Returns the driver's error.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem_driver::owned::*;
    /// # use cumem_sim::{Profile, Simulator};
    /// # let machine = Simulator::new([Profile::a100()])?;
    /// # let device = RawDevice::new(std::sync::Arc::new(machine.clone()), 0)?;
    /// let memory = OwnedPinnedMemory::new(&device, 4096)?;
    /// assert_eq!(machine.live_allocations().pinned.bytes, 4096);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn new(device: &RawDevice, bytes: usize) -> Result<Self, DriverError> {
        Ok(Self { device: device.clone(), start: device.driver.allocate_pinned(device.d, bytes)? })
    }

    /// Returns the address of the byte at `offset`, which is at most the length.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem_driver::owned::*;
    /// # use cumem_sim::{Profile, Simulator};
    /// # let machine = Simulator::new([Profile::a100()])?;
    /// # let device = RawDevice::new(std::sync::Arc::new(machine.clone()), 0)?;
    /// let memory = OwnedPinnedMemory::new(&device, 4096)?;
    /// assert_eq!(memory.at(100) as usize - memory.at(0) as usize, 100);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn at(&self, offset: usize) -> *mut u8 {
        self.start.as_ptr().wrapping_add(offset)
    }
}

impl Drop for OwnedPinnedMemory {
    fn drop(&mut self) {
        // SAFETY: this object owns the memory. The unsafe calls that enqueued work on it required that the memory
        // outlives the work.
        let freed = unsafe { self.device.driver.free_pinned(self.device.d, self.start) };
        record_drop_error("pinned memory", freed);
    }
}

/// An event (`cuEventCreate`).
///
/// # Examples
///
/// ```
/// # use cumem_driver::owned::*;
/// # use cumem_sim::{Profile, Simulator};
/// # let machine = Simulator::new([Profile::a100()])?;
/// # let device = RawDevice::new(std::sync::Arc::new(machine.clone()), 0)?;
/// let (stream, event) = (OwnedStream::new(&device, false)?, OwnedEvent::new(&device, false)?);
/// let memory = OwnedDeviceMemory::new(&device, 64 << 20)?;
/// // SAFETY: the stream is live, and no other code uses the memory, which is freed after the work.
/// unsafe { device.driver().fill_async(0, memory.at(0), 0, 64 << 20, stream.raw()) }?;
/// // SAFETY: the stream is live, and belongs to the event's device.
/// unsafe { event.record(stream.raw()) }?;
/// assert!(!event.is_done()?);
/// event.synchronize()?;
/// assert!(event.is_done()?);
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct OwnedEvent {
    device: RawDevice,
    raw: RawEvent,
}

impl OwnedEvent {
    /// Creates an event. The event records times only if `timing` is true.
    ///
    /// # Errors
    ///
    /// Returns the driver's error.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem_driver::owned::*;
    /// # use cumem_sim::{Profile, Simulator};
    /// # let machine = Simulator::new([Profile::a100()])?;
    /// # let device = RawDevice::new(std::sync::Arc::new(machine.clone()), 0)?;
    /// let event = OwnedEvent::new(&device, false)?;
    /// assert!(event.is_done()?, "an event that was never recorded is done");
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn new(device: &RawDevice, timing: bool) -> Result<Self, DriverError> {
        Ok(Self { device: device.clone(), raw: device.driver.create_event(device.d, timing)? })
    }

    /// Returns the driver's handle, which is valid as long as this object.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem_driver::owned::*;
    /// # use cumem_sim::{Profile, Simulator};
    /// # let machine = Simulator::new([Profile::a100()])?;
    /// # let device = RawDevice::new(std::sync::Arc::new(machine.clone()), 0)?;
    /// let event = OwnedEvent::new(&device, false)?;
    /// // SAFETY: the event is live.
    /// assert!(unsafe { device.driver().query_event(device.ordinal(), event.raw()) }?);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn raw(&self) -> RawEvent {
        self.raw
    }

    /// Records the event at the end of the work enqueued on `stream` so far.
    ///
    /// # Errors
    ///
    /// Returns the driver's error.
    ///
    /// # Safety
    ///
    /// `stream` is a live stream of this event's device.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem_driver::owned::*;
    /// # use cumem_sim::{Profile, Simulator};
    /// # let machine = Simulator::new([Profile::a100()])?;
    /// # let device = RawDevice::new(std::sync::Arc::new(machine.clone()), 0)?;
    /// let (stream, event) = (OwnedStream::new(&device, false)?, OwnedEvent::new(&device, false)?);
    /// let memory = OwnedDeviceMemory::new(&device, 64 << 20)?;
    /// // SAFETY: the stream is live, and no other code uses the memory, which is freed after the work.
    /// unsafe { device.driver().fill_async(0, memory.at(0), 0, 64 << 20, stream.raw()) }?;
    /// // SAFETY: the stream is live, and belongs to the event's device.
    /// unsafe { event.record(stream.raw()) }?;
    /// assert!(!event.is_done()?, "the fill is not done");
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub unsafe fn record(&self, stream: RawStream) -> Result<(), DriverError> {
        // SAFETY: the event is live, and the caller ensures that the stream is live.
        unsafe { self.device.driver.record_event(self.device.d, self.raw, stream) }
    }

    /// Records the event at the end of all work enqueued on the device so far, on whichever stream.
    ///
    /// # Errors
    ///
    /// Returns [`DriverError::MissingSymbol`] for a driver before CUDA 12.5, or the driver's error.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem_driver::owned::*;
    /// # use cumem_sim::{Profile, Simulator};
    /// # let machine = Simulator::new([Profile::a100()])?;
    /// # let device = RawDevice::new(std::sync::Arc::new(machine.clone()), 0)?;
    /// let (stream, event) = (OwnedStream::new(&device, false)?, OwnedEvent::new(&device, false)?);
    /// let memory = OwnedDeviceMemory::new(&device, 64 << 20)?;
    /// // SAFETY: the stream is live, and no other code uses the memory, which is freed after the work.
    /// unsafe { device.driver().fill_async(0, memory.at(0), 0, 64 << 20, stream.raw()) }?;
    /// event.record_on_device()?; // covers the work of all streams
    /// assert!(!event.is_done()?);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn record_on_device(&self) -> Result<(), DriverError> {
        // SAFETY: the event is live.
        unsafe { self.device.driver.record_event_on_device(self.device.d, self.raw) }
    }

    /// Makes work that is enqueued on `stream` from now on wait for the last record.
    ///
    /// # Errors
    ///
    /// Returns the driver's error.
    ///
    /// # Safety
    ///
    /// `stream` is a live stream of this event's device.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem_driver::owned::*;
    /// # use cumem_sim::{Profile, Simulator};
    /// # let machine = Simulator::new([Profile::a100()])?;
    /// # let device = RawDevice::new(std::sync::Arc::new(machine.clone()), 0)?;
    /// let (stream, event) = (OwnedStream::new(&device, false)?, OwnedEvent::new(&device, false)?);
    /// let memory = OwnedDeviceMemory::new(&device, 64 << 20)?;
    /// // SAFETY: the stream is live, and no other code uses the memory, which is freed after the work.
    /// unsafe { device.driver().fill_async(0, memory.at(0), 0, 64 << 20, stream.raw()) }?;
    /// // SAFETY: the stream is live, and belongs to the event's device.
    /// unsafe { event.record(stream.raw()) }?;
    /// let second = OwnedStream::new(&device, false)?;
    /// // SAFETY: the stream is live, and belongs to the event's device.
    /// unsafe { event.make_stream_wait(second.raw()) }?;
    /// second.synchronize()?; // therefore also waits for the fill
    /// assert!(event.is_done()?);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub unsafe fn make_stream_wait(&self, stream: RawStream) -> Result<(), DriverError> {
        // SAFETY: the event is live, and the caller ensures that the stream is live.
        unsafe { self.device.driver.wait_event(self.device.d, stream, self.raw) }
    }

    /// Reports whether the work before the last record is done, without waiting.
    ///
    /// # Errors
    ///
    /// Returns the driver's error, errors of earlier work included.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem_driver::owned::*;
    /// # use cumem_sim::{Profile, Simulator};
    /// # let machine = Simulator::new([Profile::a100()])?;
    /// # let device = RawDevice::new(std::sync::Arc::new(machine.clone()), 0)?;
    /// let (stream, event) = (OwnedStream::new(&device, false)?, OwnedEvent::new(&device, false)?);
    /// let memory = OwnedDeviceMemory::new(&device, 64 << 20)?;
    /// // SAFETY: the stream is live, and no other code uses the memory, which is freed after the work.
    /// unsafe { device.driver().fill_async(0, memory.at(0), 0, 64 << 20, stream.raw()) }?;
    /// // SAFETY: the stream is live, and belongs to the event's device.
    /// unsafe { event.record(stream.raw()) }?;
    /// assert!(!event.is_done()?);
    /// stream.synchronize()?;
    /// assert!(event.is_done()?);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn is_done(&self) -> Result<bool, DriverError> {
        // SAFETY: the event is live.
        unsafe { self.device.driver.query_event(self.device.d, self.raw) }
    }

    /// Blocks the calling thread until the work before the last record is done.
    ///
    /// # Errors
    ///
    /// Returns the driver's error, errors of earlier work included.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem_driver::owned::*;
    /// # use cumem_sim::{Profile, Simulator};
    /// # let machine = Simulator::new([Profile::a100()])?;
    /// # let device = RawDevice::new(std::sync::Arc::new(machine.clone()), 0)?;
    /// let (stream, event) = (OwnedStream::new(&device, false)?, OwnedEvent::new(&device, false)?);
    /// let memory = OwnedDeviceMemory::new(&device, 64 << 20)?;
    /// // SAFETY: the stream is live, and no other code uses the memory, which is freed after the work.
    /// unsafe { device.driver().fill_async(0, memory.at(0), 0, 64 << 20, stream.raw()) }?;
    /// // SAFETY: the stream is live, and belongs to the event's device.
    /// unsafe { event.record(stream.raw()) }?;
    /// event.synchronize()?;
    /// assert!(event.is_done()?);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn synchronize(&self) -> Result<(), DriverError> {
        // SAFETY: the event is live.
        unsafe { self.device.driver.synchronize_event(self.device.d, self.raw) }
    }

    /// Returns the device time between the last records of `start` and of this event.
    ///
    /// # Errors
    ///
    /// Returns the driver's error.
    ///
    /// # Safety
    ///
    /// Both events belong to the same device.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem_driver::owned::*;
    /// # use cumem_sim::{Profile, Simulator};
    /// # let machine = Simulator::new([Profile::a100()])?;
    /// # let device = RawDevice::new(std::sync::Arc::new(machine.clone()), 0)?;
    /// let stream = OwnedStream::new(&device, false)?;
    /// let (start, end) = (OwnedEvent::new(&device, true)?, OwnedEvent::new(&device, true)?);
    /// let memory = OwnedDeviceMemory::new(&device, 64 << 20)?;
    /// // SAFETY: the stream is live, and belongs to the event's device.
    /// unsafe { start.record(stream.raw()) }?;
    /// // SAFETY: the stream is live, and no other code uses the memory, which is freed after the work.
    /// unsafe { device.driver().fill_async(0, memory.at(0), 0, 64 << 20, stream.raw()) }?;
    /// // SAFETY: as for `start`.
    /// unsafe { end.record(stream.raw()) }?;
    /// end.synchronize()?;
    /// // SAFETY: both events belong to one device.
    /// let time = unsafe { end.elapsed_since(&start) }?; // simulated time
    /// assert!(!time.is_zero());
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub unsafe fn elapsed_since(&self, start: &Self) -> Result<Duration, DriverError> {
        // SAFETY: both events are live, and the caller ensures that they belong to one device.
        unsafe { self.device.driver.elapsed(self.device.d, start.raw, self.raw) }
    }
}

impl Drop for OwnedEvent {
    fn drop(&mut self) {
        // SAFETY: this object owns the event.
        let destroyed = unsafe { self.device.driver.destroy_event(self.device.d, self.raw) };
        record_drop_error("an event", destroyed);
    }
}

/// A stream (`cuStreamCreate`).
///
/// # Examples
///
/// ```
/// # use cumem_driver::owned::*;
/// # use cumem_sim::{Profile, Simulator};
/// # let machine = Simulator::new([Profile::a100()])?;
/// # let device = RawDevice::new(std::sync::Arc::new(machine.clone()), 0)?;
/// let stream = OwnedStream::new(&device, false)?;
/// stream.synchronize()?;
/// assert_eq!(machine.live_allocations().streams, 1);
/// drop(stream); // destroys the stream
/// assert_eq!(machine.live_allocations().streams, 0);
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct OwnedStream {
    device: RawDevice,
    raw: RawStream,
}

impl OwnedStream {
    /// Creates a stream. The stream synchronizes with the legacy default stream only if `blocking` is true.
    ///
    /// # Errors
    ///
    /// Returns the driver's error.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem_driver::owned::*;
    /// # use cumem_sim::{Profile, Simulator};
    /// # let machine = Simulator::new([Profile::a100()])?;
    /// # let device = RawDevice::new(std::sync::Arc::new(machine.clone()), 0)?;
    /// let (one, two) = (OwnedStream::new(&device, false)?, OwnedStream::new(&device, true)?);
    /// assert_ne!(one.raw(), two.raw());
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn new(device: &RawDevice, blocking: bool) -> Result<Self, DriverError> {
        Ok(Self { device: device.clone(), raw: device.driver.create_stream(device.d, blocking)? })
    }

    /// Creates a stream with a priority, as [`Driver::create_stream_with_priority`] does.
    ///
    /// # Errors
    ///
    /// Returns the driver's error.
    pub fn with_priority(device: &RawDevice, blocking: bool, priority: i32) -> Result<Self, DriverError> {
        let raw = device.driver.create_stream_with_priority(device.d, blocking, priority)?;
        Ok(Self { device: device.clone(), raw })
    }

    /// Returns the driver's handle, which is valid as long as this object.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem_driver::owned::*;
    /// # use cumem_sim::{Profile, Simulator};
    /// # let machine = Simulator::new([Profile::a100()])?;
    /// # let device = RawDevice::new(std::sync::Arc::new(machine.clone()), 0)?;
    /// let stream = OwnedStream::new(&device, false)?;
    /// // SAFETY: the stream is live.
    /// let idle = unsafe { device.driver().query_stream(device.ordinal(), stream.raw()) }?;
    /// assert!(idle, "no work was enqueued");
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn raw(&self) -> RawStream {
        self.raw
    }

    /// Blocks the calling thread until the stream has done all its work.
    ///
    /// # Errors
    ///
    /// Returns the driver's error, errors of earlier work included.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem_driver::owned::*;
    /// # use cumem_sim::{Profile, Simulator};
    /// # let machine = Simulator::new([Profile::a100()])?;
    /// # let device = RawDevice::new(std::sync::Arc::new(machine.clone()), 0)?;
    /// let stream = OwnedStream::new(&device, false)?;
    /// let memory = OwnedDeviceMemory::new(&device, 64 << 20)?;
    /// // SAFETY: the stream is live, and no other code uses the memory, which is freed after the work.
    /// unsafe { device.driver().fill_async(0, memory.at(0), 0, 64 << 20, stream.raw()) }?;
    /// stream.synchronize()?;
    /// // SAFETY: the stream is live.
    /// assert!(unsafe { device.driver().query_stream(0, stream.raw()) }?);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn synchronize(&self) -> Result<(), DriverError> {
        // SAFETY: the stream is live.
        unsafe { self.device.driver.synchronize_stream(self.device.d, self.raw) }
    }
}

impl Drop for OwnedStream {
    fn drop(&mut self) {
        // SAFETY: this object owns the stream. Work that is still enqueued completes.
        let destroyed = unsafe { self.device.driver.destroy_stream(self.device.d, self.raw) };
        record_drop_error("a stream", destroyed);
    }
}

/// A graph: captured work, which cannot be launched yet (`cuStreamEndCapture`).
#[derive(Debug)]
pub struct OwnedGraph {
    device: RawDevice,
    raw: RawGraph,
}

impl OwnedGraph {
    /// Ends the capture of a stream.
    ///
    /// # Errors
    ///
    /// Returns the driver's error, for example `CUDA_ERROR_STREAM_CAPTURE_INVALIDATED` if a forbidden call was made during
    /// the capture. The stream is not captured any more.
    ///
    /// # Safety
    ///
    /// `stream` is a live stream of the device.
    pub unsafe fn end_capture(device: &RawDevice, stream: RawStream) -> Result<Self, DriverError> {
        // SAFETY: the caller ensures that the stream is live.
        let raw = unsafe { device.driver.end_capture(device.d, stream)? };
        Ok(Self { device: device.clone(), raw })
    }

    /// Makes an executable graph, which stays valid without this one.
    ///
    /// # Errors
    ///
    /// Returns the driver's error.
    pub fn instantiate(&self) -> Result<OwnedGraphExec, DriverError> {
        // SAFETY: the graph is live.
        let raw = unsafe { self.device.driver.instantiate_graph(self.device.d, self.raw)? };
        Ok(OwnedGraphExec { device: self.device.clone(), raw })
    }
}

impl Drop for OwnedGraph {
    fn drop(&mut self) {
        // SAFETY: this object owns the graph.
        let destroyed = unsafe { self.device.driver.destroy_graph(self.device.d, self.raw) };
        record_drop_error("a graph", destroyed);
    }
}

/// An executable graph (`cuGraphInstantiateWithFlags`).
#[derive(Debug)]
pub struct OwnedGraphExec {
    device: RawDevice,
    raw: RawGraphExec,
}

impl OwnedGraphExec {
    /// Launches the graph on a stream.
    ///
    /// # Errors
    ///
    /// Returns the driver's error.
    ///
    /// # Safety
    ///
    /// `stream` is a live stream of this graph's device. All memory that the captured work uses is usable until the stream
    /// has passed the launch.
    pub unsafe fn launch(&self, stream: RawStream) -> Result<(), DriverError> {
        // SAFETY: the graph is live. The caller ensures the rest.
        unsafe { self.device.driver.launch_graph(self.device.d, self.raw, stream) }
    }
}

impl Drop for OwnedGraphExec {
    fn drop(&mut self) {
        // SAFETY: this object owns the graph. Launches that are still enqueued complete.
        let destroyed = unsafe { self.device.driver.destroy_graph_exec(self.device.d, self.raw) };
        record_drop_error("an executable graph", destroyed);
    }
}

/// A loaded module (`cuModuleLoadDataEx`).
///
/// # Examples
///
/// ```
/// use cumem_driver::owned::{OwnedModule, RawDevice};
/// use cumem_driver::DriverError;
///
/// /// Reports whether some PTX has a kernel of this name. The module is unloaded on return.
/// fn has_kernel(device: &RawDevice, ptx: &str, name: &str) -> Result<bool, DriverError> {
///     let module = OwnedModule::load(device, ptx)?;
///     Ok(module.function(name).is_ok())
/// }
///
/// // A simulated device has no compiler for PTX.
/// # use cumem_sim::{Profile, Simulator};
/// # let device = RawDevice::new(std::sync::Arc::new(Simulator::new([Profile::a100()])?), 0)?;
/// assert!(matches!(has_kernel(&device, "", "fill"), Err(DriverError::NotSupported { .. })));
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct OwnedModule {
    device: RawDevice,
    raw: RawModule,
}

impl OwnedModule {
    /// Compiles PTX for the device and loads it.
    ///
    /// # Errors
    ///
    /// Returns the driver's error; [`DriverError::Compile`] holds the compiler's log.
    pub fn load(device: &RawDevice, ptx: &str) -> Result<Self, DriverError> {
        // SAFETY: the image is no binary.
        let raw = unsafe { device.driver.load_module(device.d, ModuleImage::Ptx(ptx)) }?;
        Ok(Self { device: device.clone(), raw })
    }

    /// Loads a whole cubin or fat binary.
    ///
    /// # Errors
    ///
    /// Returns the driver's error, for example `CUDA_ERROR_NO_BINARY_FOR_GPU` if the code is for other devices.
    ///
    /// # Safety
    ///
    /// The image is a whole cubin or fat binary. The driver takes its size from its headers.
    pub unsafe fn load_binary(device: &RawDevice, image: &[u8]) -> Result<Self, DriverError> {
        // SAFETY: the caller ensures that the image is whole.
        let raw = unsafe { device.driver.load_module(device.d, ModuleImage::Binary(image)) }?;
        Ok(Self { device: device.clone(), raw })
    }

    /// Returns the driver's handle, which is valid as long as this object.
    pub fn raw(&self) -> RawModule {
        self.raw
    }

    /// Returns the kernel called `name`. The handle is valid as long as this object.
    ///
    /// # Errors
    ///
    /// Returns the driver's error, `CUDA_ERROR_NOT_FOUND` if the module has no such kernel.
    pub fn function(&self, name: &str) -> Result<RawFunction, DriverError> {
        // SAFETY: the module is loaded as long as this object.
        unsafe { self.device.driver.function(self.device.d, self.raw, name) }
    }
}

impl Drop for OwnedModule {
    fn drop(&mut self) {
        let Self { device, raw } = self;
        // The driver does not promise that a launch that is still enqueued keeps its code.
        let idle = device.driver.synchronize_device(device.d);
        // SAFETY: this object owns the module, and all launches of its kernels are done.
        let unloaded = idle.and_then(|()| unsafe { device.driver.unload_module(device.d, *raw) });
        record_drop_error("a module", unloaded);
    }
}

/// A stream-ordered pool of the driver (`cuMemPoolCreate`).
///
/// # Examples
///
/// ```
/// # use cumem_driver::owned::*;
/// # use cumem_sim::{Profile, Simulator};
/// # let machine = Simulator::new([Profile::a100()])?;
/// # let device = RawDevice::new(std::sync::Arc::new(machine.clone()), 0)?;
/// let pool = OwnedPool::new(&device, &cumem_driver::PoolProperties::default())?;
/// assert_eq!(machine.live_allocations().pools, 1);
/// drop(pool); // destroys the pool
/// assert_eq!(machine.live_allocations().pools, 0);
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct OwnedPool {
    device: RawDevice,
    raw: RawPool,
}

impl OwnedPool {
    /// Creates a pool.
    ///
    /// # Errors
    ///
    /// Returns the driver's error.
    pub fn new(device: &RawDevice, properties: &PoolProperties) -> Result<Self, DriverError> {
        Ok(Self { device: device.clone(), raw: device.driver.create_pool(device.d, properties)? })
    }

    /// Returns the driver's handle, which is valid as long as this object.
    pub fn raw(&self) -> RawPool {
        self.raw
    }
}

impl Drop for OwnedPool {
    fn drop(&mut self) {
        // SAFETY: this object owns the pool. The driver keeps its memory until the frees that are enqueued are done.
        let destroyed = unsafe { self.device.driver.destroy_pool(self.device.d, self.raw) };
        record_drop_error("a pool of the driver", destroyed);
    }
}

/// Host memory of the program that is registered with the driver (`cuMemHostRegister`).
///
/// # Examples
///
/// ```
/// # use cumem_driver::owned::*;
/// # use cumem_sim::{Profile, Simulator};
/// # use std::ptr::NonNull;
/// # let machine = Simulator::new([Profile::a100()])?;
/// # let device = RawDevice::new(std::sync::Arc::new(machine.clone()), 0)?;
/// let mut numbers = vec![7_u8; 1 << 20];
/// let start = NonNull::new(numbers.as_mut_ptr()).unwrap();
/// // SAFETY: the memory outlives the registration.
/// let registration = unsafe { OwnedRegistration::new(&device, start, numbers.len()) }?;
/// assert_eq!(machine.live_allocations().registered.bytes, 1 << 20);
/// drop(registration);
/// assert_eq!(machine.live_allocations().registered.bytes, 0);
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct OwnedRegistration {
    device: RawDevice,
    /// `None` after the end of the registration.
    start: Option<NonNull<u8>>,
}

// SAFETY: any thread may end a registration.
unsafe impl Send for OwnedRegistration {}
// SAFETY: a shared reference gives access to nothing.
unsafe impl Sync for OwnedRegistration {}

impl OwnedRegistration {
    /// Registers `bytes` bytes.
    ///
    /// # Errors
    ///
    /// Returns the driver's error, for example `CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED`.
    ///
    /// # Safety
    ///
    /// The memory stays allocated as long as the result.
    pub unsafe fn new(device: &RawDevice, start: NonNull<u8>, bytes: usize) -> Result<Self, DriverError> {
        // SAFETY: the caller ensures that the memory stays allocated.
        unsafe { device.driver.register_host(device.d, start, bytes) }?;
        Ok(Self { device: device.clone(), start: Some(start) })
    }

    /// Waits for the work of the device, which may use the memory, and ends the registration.
    ///
    /// # Errors
    ///
    /// Returns the driver's error. The memory is then still registered, and must stay allocated.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem_driver::owned::*;
    /// # use cumem_sim::{Profile, Simulator};
    /// # use std::ptr::NonNull;
    /// # let machine = Simulator::new([Profile::a100()])?;
    /// # let device = RawDevice::new(std::sync::Arc::new(machine.clone()), 0)?;
    /// let mut numbers = vec![7_u8; 1 << 20];
    /// let start = NonNull::new(numbers.as_mut_ptr()).unwrap();
    /// // SAFETY: the memory outlives the registration.
    /// let mut registration = unsafe { OwnedRegistration::new(&device, start, numbers.len()) }?;
    /// registration.end()?;
    /// assert_eq!(machine.live_allocations().registered.bytes, 0);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn end(&mut self) -> Result<(), DriverError> {
        let Self { device, start } = self;
        let Some(registered) = *start else { return Ok(()) };
        device.driver.synchronize_device(device.d)?;
        // SAFETY: this object has registered the memory, and the work of the device is done.
        unsafe { device.driver.unregister_host(device.d, registered) }?;
        *start = None;
        Ok(())
    }
}

impl Drop for OwnedRegistration {
    fn drop(&mut self) {
        let ended = self.end();
        record_drop_error("a registration of host memory", ended);
    }
}
