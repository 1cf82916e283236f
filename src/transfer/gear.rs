//! What transfers have of the driver: memory, events, streams, a kernel. Each gives itself back.
//!
//! Not the public types, which keep the device: the device keeps these.

use crate::driver::{Driver, RawEvent, RawFunction, RawModule, RawStream};
use crate::drop_error::record_drop_error;
use crate::error::DriverError;
use std::ptr::NonNull;
use std::sync::Arc;

/// The way to a device.
#[derive(Clone)]
pub(super) struct Door {
    pub(super) driver: Arc<dyn Driver>,
    pub(super) d: u32,
}

impl Door {
    pub(super) fn new(driver: &Arc<dyn Driver>, d: u32) -> Self {
        Self { driver: driver.clone(), d }
    }
}

/// Page-locked memory of the host.
pub(super) struct PinnedMemory {
    door: Door,
    start: NonNull<u8>,
}

// SAFETY: page-locked memory may be used and freed by any thread.
unsafe impl Send for PinnedMemory {}

impl PinnedMemory {
    pub(super) fn new(door: &Door, bytes: usize) -> Result<Self, DriverError> {
        let start = door.driver.allocate_pinned(door.d, bytes)?;
        Ok(Self { door: door.clone(), start })
    }

    /// The byte at `offset`, which is within the memory or at its end.
    pub(super) fn at(&self, offset: usize) -> *mut u8 {
        self.start.as_ptr().wrapping_add(offset)
    }
}

impl Drop for PinnedMemory {
    fn drop(&mut self) {
        // SAFETY: the memory is this object's, and each transfer waits for its work before it ends.
        let freed = unsafe { self.door.driver.free_pinned(self.door.d, self.start) };
        record_drop_error("staging memory of the host", freed);
    }
}

/// Plain memory of the device.
pub(super) struct DeviceMemory {
    door: Door,
    start: NonNull<u8>,
}

// SAFETY: device memory may be used and freed by any thread.
unsafe impl Send for DeviceMemory {}

impl DeviceMemory {
    pub(super) fn new(door: &Door, bytes: usize) -> Result<Self, DriverError> {
        let start = door.driver.allocate_device(door.d, bytes)?;
        Ok(Self { door: door.clone(), start })
    }

    /// The byte at `offset`, which is within the memory or at its end.
    pub(super) fn at(&self, offset: usize) -> *mut u8 {
        self.start.as_ptr().wrapping_add(offset)
    }
}

impl Drop for DeviceMemory {
    fn drop(&mut self) {
        // SAFETY: the memory is this object's, and the driver waits for what uses it.
        let freed = unsafe { self.door.driver.free(self.door.d, self.start) };
        record_drop_error("staging memory of the device", freed);
    }
}

/// A point in the work of a stream.
pub(super) struct Mark {
    door: Door,
    raw: RawEvent,
}

impl Mark {
    pub(super) fn new(door: &Door) -> Result<Self, DriverError> {
        let raw = door.driver.create_event(door.d, false)?;
        Ok(Self { door: door.clone(), raw })
    }

    /// Marks the end of what `stream`, which is alive, has been given so far.
    pub(super) fn set(&self, stream: RawStream) -> Result<(), DriverError> {
        // SAFETY: both are alive, and of this device.
        unsafe { self.door.driver.record_event(self.door.d, self.raw, stream) }
    }

    /// Makes later work of `stream`, which is alive, wait for it.
    pub(super) fn hold(&self, stream: RawStream) -> Result<(), DriverError> {
        // SAFETY: both are alive, and of this device.
        unsafe { self.door.driver.wait_event(self.door.d, stream, self.raw) }
    }

    /// Makes the host wait for it.
    pub(super) fn wait(&self) -> Result<(), DriverError> {
        // SAFETY: the event is alive.
        unsafe { self.door.driver.synchronize_event(self.door.d, self.raw) }
    }
}

impl Drop for Mark {
    fn drop(&mut self) {
        // SAFETY: the event is this object's.
        let destroyed = unsafe { self.door.driver.destroy_event(self.door.d, self.raw) };
        record_drop_error("an event of a transfer", destroyed);
    }
}

/// A stream for the link alone.
pub(super) struct Lane {
    door: Door,
    pub(super) raw: RawStream,
}

impl Lane {
    pub(super) fn new(door: &Door) -> Result<Self, DriverError> {
        let raw = door.driver.create_stream(door.d, false)?;
        Ok(Self { door: door.clone(), raw })
    }

    pub(super) fn synchronize(&self) -> Result<(), DriverError> {
        // SAFETY: the stream is alive.
        unsafe { self.door.driver.synchronize_stream(self.door.d, self.raw) }
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        // SAFETY: the stream is this object's.
        let destroyed = unsafe { self.door.driver.destroy_stream(self.door.d, self.raw) };
        record_drop_error("a stream of a transfer", destroyed);
    }
}

/// A module of PTX.
pub(super) struct Module {
    door: Door,
    module: RawModule,
}

impl Module {
    pub(super) fn load(door: &Door, ptx: &str) -> Result<Self, DriverError> {
        let module = door.driver.load_module(door.d, ptx)?;
        Ok(Self { door: door.clone(), module })
    }

    /// A kernel, which lives as long as the module.
    pub(super) fn function(&self, name: &str) -> Result<RawFunction, DriverError> {
        // SAFETY: the module is loaded.
        unsafe { self.door.driver.function(self.door.d, self.module, name) }
    }
}

impl Drop for Module {
    fn drop(&mut self) {
        // SAFETY: the module is this object's, and each transfer waits for its launch before it ends.
        let unloaded = unsafe { self.door.driver.unload_module(self.door.d, self.module) };
        record_drop_error("the kernels of transfers", unloaded);
    }
}
