//! The owner of each driver object: a stream, an event, a module, device memory, pinned memory, a stream-ordered pool.
//!
//! Each type here destroys its object when it is dropped, and no other code does. An error of that call goes to
//! [`record_drop_error`], because a drop cannot return it.

use crate::driver::Driver;
use crate::drop_error::record_drop_error;
use crate::error::DriverError;
use crate::location::DeviceId;
use crate::raw::{RawEvent, RawFunction, RawModule, RawPool, RawStream};
use std::fmt;
use std::ptr::NonNull;
use std::sync::Arc;
use std::time::Duration;

/// One device of a driver: the driver, and the device's ordinal.
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
    pub fn new(driver: Arc<dyn Driver>, d: u32) -> Result<Self, DriverError> {
        let count = driver.device_count();
        if d < count { Ok(Self { driver, d }) } else { Err(DriverError::NoSuchDevice { ordinal: d, count }) }
    }

    /// Returns the driver.
    #[inline]
    pub fn driver(&self) -> &dyn Driver {
        &*self.driver
    }

    /// Returns the shared handle to the driver.
    pub fn shared_driver(&self) -> &Arc<dyn Driver> {
        &self.driver
    }

    /// Returns the ordinal, which every call of the driver takes.
    #[inline]
    pub fn ordinal(&self) -> u32 {
        self.d
    }

    /// Returns the id of the device.
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
    pub fn new(device: &RawDevice, bytes: usize) -> Result<Self, DriverError> {
        Ok(Self { device: device.clone(), start: device.driver.allocate_device(device.d, bytes)? })
    }

    /// Returns the address of the byte at `offset`, which is at most the length.
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
    pub fn new(device: &RawDevice, bytes: usize) -> Result<Self, DriverError> {
        Ok(Self { device: device.clone(), start: device.driver.allocate_pinned(device.d, bytes)? })
    }

    /// Returns the address of the byte at `offset`, which is at most the length.
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
    pub fn new(device: &RawDevice, timing: bool) -> Result<Self, DriverError> {
        Ok(Self { device: device.clone(), raw: device.driver.create_event(device.d, timing)? })
    }

    /// Returns the driver's handle, which is valid as long as this object.
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
    pub unsafe fn record(&self, stream: RawStream) -> Result<(), DriverError> {
        // SAFETY: the event is live, and the caller ensures that the stream is live.
        unsafe { self.device.driver.record_event(self.device.d, self.raw, stream) }
    }

    /// Records the event at the end of all work enqueued on the device so far, on whichever stream.
    ///
    /// # Errors
    ///
    /// Returns [`DriverError::MissingSymbol`] for a driver before CUDA 12.5, or the driver's error.
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
    pub unsafe fn make_stream_wait(&self, stream: RawStream) -> Result<(), DriverError> {
        // SAFETY: the event is live, and the caller ensures that the stream is live.
        unsafe { self.device.driver.wait_event(self.device.d, stream, self.raw) }
    }

    /// Reports whether the work before the last record is done, without waiting.
    ///
    /// # Errors
    ///
    /// Returns the driver's error, errors of earlier work included.
    pub fn is_done(&self) -> Result<bool, DriverError> {
        // SAFETY: the event is live.
        unsafe { self.device.driver.query_event(self.device.d, self.raw) }
    }

    /// Blocks the calling thread until the work before the last record is done.
    ///
    /// # Errors
    ///
    /// Returns the driver's error, errors of earlier work included.
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
    #[inline]
    pub fn raw(&self) -> RawStream {
        self.raw
    }

    /// Blocks the calling thread until the stream has done all its work.
    ///
    /// # Errors
    ///
    /// Returns the driver's error, errors of earlier work included.
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

/// A loaded module (`cuModuleLoadDataEx`).
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
        Ok(Self { device: device.clone(), raw: device.driver.load_module(device.d, ptx)? })
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
#[derive(Debug)]
pub struct OwnedPool {
    device: RawDevice,
    raw: RawPool,
}

impl OwnedPool {
    /// Creates a pool of device memory.
    ///
    /// # Errors
    ///
    /// Returns the driver's error.
    pub fn new(device: &RawDevice) -> Result<Self, DriverError> {
        Ok(Self { device: device.clone(), raw: device.driver.create_pool(device.d)? })
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
