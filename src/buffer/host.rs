//! Host guards: access of the host to a buffer whose kind of memory allows it.

use super::array::Buffer;
use crate::device::error::DeviceError;
use crate::device::host_gate::Closed;
use crate::device::notice::Notice;
use crate::kind::HostAccessible;
use crate::resource::MemoryResource;
use bytemuck::Pod;
use cumem_driver::call_site::CallSite;
use cumem_driver::{MemoryType, Model};
use std::ops::{Deref, DerefMut};

/// A guard through which the host reads the elements of a buffer. It borrows the buffer, so safe code cannot change the
/// elements meanwhile.
///
/// # Examples
///
/// ```
/// # use cumem::sim::Profile;
/// # use cumem::{Device, ManagedResource, Stream, UnifiedBuffer};
/// # let device = Device::simulated(Profile::default())?;
/// # let stream = Stream::new(&device)?;
/// let buffer = UnifiedBuffer::from_slice(&[1_u32, 2, 3], &stream, ManagedResource::new(&device)?)?;
/// let guard = buffer.host_read()?;
/// assert_eq!(guard.iter().sum::<u32>(), 6);
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct HostRead<'a, T> {
    elements: &'a [T],
    _access: HostAccess<'a>,
}

/// A guard through which the host reads and writes the elements of a buffer.
///
/// # Examples
///
/// ```
/// # use cumem::sim::Profile;
/// # use cumem::{Device, ManagedResource, Stream, UnifiedBuffer};
/// # let device = Device::simulated(Profile::default())?;
/// # let stream = Stream::new(&device)?;
/// let mut buffer = UnifiedBuffer::from_slice(&[1_u32, 2, 3], &stream, ManagedResource::new(&device)?)?;
/// buffer.host_write()?.reverse();
/// assert_eq!(buffer.to_vec()?, [3, 2, 1]);
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct HostWrite<'a, T> {
    elements: &'a mut [T],
    _access: HostAccess<'a>,
}

/// An access of the host to memory, which ends when this value is dropped.
#[derive(Debug)]
struct HostAccess<'a> {
    /// The model of a simulated device, which is notified when the access ends.
    model: Option<&'a dyn Model>,
    /// The model's number of the access.
    number: u64,
    /// Lets other work run again. Dropped after the model has been notified.
    _gate: Option<Closed<'a>>,
}

impl Drop for HostAccess<'_> {
    fn drop(&mut self) {
        if let Some(model) = self.model {
            model.end_host_access(self.number);
        }
    }
}

impl<T: Pod, R: MemoryResource> Buffer<T, R> {
    /// Waits for the buffer's stream, and returns a guard through which the host reads the elements.
    ///
    /// While the guard exists, no kernel that writes the buffer may be launched on any stream. A launch is `unsafe`,
    /// and this is one of the conditions that the launching code must ensure.
    ///
    /// On a device without concurrent managed access, the host may access managed memory only while the device is idle.
    /// There the call waits for all such devices of the machine if the buffer has managed memory. Work that is enqueued
    /// on them through this library while the guard exists fails with [`DeviceError::HostAccess`]. A guard over pinned memory keeps no work
    /// away, so its elements can be copied to a buffer of device memory.
    ///
    /// # Errors
    ///
    /// Returns the driver's error from the wait, which may be an error of earlier work.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Device, ManagedResource, Stream, UnifiedBuffer};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// let buffer = UnifiedBuffer::from_slice(&[1_u32, 2, 3], &stream, ManagedResource::new(&device)?)?;
    /// assert_eq!(buffer.host_read()?[..], [1, 2, 3]);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    #[track_caller]
    pub fn host_read(&self) -> Result<HostRead<'_, T>, DeviceError>
    where
        R: MemoryResource<Kind: HostAccessible>,
    {
        let _site = CallSite::here();
        let access = self.begin_host_access(false)?;
        // SAFETY: `HostAccessible` promises readable initialized bytes. The work that writes the bytes has ended, the
        // elements are plain data, and the address is aligned for `T`.
        let elements = unsafe { std::slice::from_raw_parts(self.as_ptr(), self.len) };
        Ok(HostRead { elements, _access: access })
    }

    /// Returns a guard as [`host_read`](Self::host_read) does, for memory whose kind is known only at run time, such as
    /// that of the [default resource](crate::current). The call queries the driver for the type of the memory.
    ///
    /// # Errors
    ///
    /// Returns [`DeviceError::NotHostAccessible`] if the buffer has device memory, and the errors of
    /// [`host_read`](Self::host_read).
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem::sim::Profile;
    /// use cumem::{Buffer, Device, DeviceError, ManagedResource, Stream, current};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let device = Device::simulated(Profile::default())?;
    /// let stream = Stream::new(&device)?;
    /// let in_device_memory = Buffer::from_slice(&[1, 2, 3], &stream, current::get(&device))?;
    /// assert!(matches!(in_device_memory.try_host_read(), Err(DeviceError::NotHostAccessible { .. })));
    ///
    /// current::set(&device, ManagedResource::new(&device)?)?;
    /// let in_managed_memory = Buffer::from_slice(&[1, 2, 3], &stream, current::get(&device))?;
    /// assert_eq!(in_managed_memory.try_host_read()?[..], [1, 2, 3]);
    /// # drop(in_managed_memory);
    /// # current::reset(&device);
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn try_host_read(&self) -> Result<HostRead<'_, T>, DeviceError> {
        let _site = CallSite::here();
        self.check_host_access()?;
        let access = self.begin_host_access(false)?;
        // SAFETY: as in `host_read`. The driver has answered that the host can access the memory.
        let elements = unsafe { std::slice::from_raw_parts(self.as_ptr(), self.len) };
        Ok(HostRead { elements, _access: access })
    }

    /// Returns a guard as [`host_write`](Self::host_write) does, for memory whose kind is known only at run time.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`try_host_read`](Self::try_host_read).
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Buffer, Device, PinnedResource, Stream, current};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// let _pinned = current::scoped(&device, PinnedResource::new(&device))?;
    /// let mut buffer = Buffer::<u32, _>::zeroed(3, &stream, current::get(&device))?;
    /// buffer.try_host_write()?[1] = 7;
    /// assert_eq!(buffer.to_vec()?, [0, 7, 0]);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    #[track_caller]
    pub fn try_host_write(&mut self) -> Result<HostWrite<'_, T>, DeviceError> {
        let _site = CallSite::here();
        self.check_host_access()?;
        let start = self.as_mut_ptr();
        let access = self.begin_host_access(true)?;
        // SAFETY: as in `try_host_read`; in addition, the guard borrows the buffer exclusively.
        let elements = unsafe { std::slice::from_raw_parts_mut(start, self.len) };
        Ok(HostWrite { elements, _access: access })
    }

    /// Queries the driver whether the host can access the memory.
    fn check_host_access(&self) -> Result<(), DeviceError> {
        // An empty buffer has no memory, and its slice has no element that is accessed.
        if self.size_bytes() == 0 {
            return Ok(());
        }
        match self.device().pointer_info(self.block.as_ptr())?.memory_type {
            MemoryType::Host | MemoryType::Unified => Ok(()),
            memory => Err(DeviceError::NotHostAccessible { memory, device: self.device().id() }),
        }
    }

    /// Waits for the buffer's stream, and returns a guard through which the host reads and writes the elements. While
    /// the guard exists, no kernel that uses the buffer may be launched; see [`host_read`](Self::host_read) for the
    /// other conditions.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`host_read`](Self::host_read).
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Device, ManagedResource, Stream, UnifiedBuffer};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// let mut buffer = UnifiedBuffer::<u32, _>::zeroed(3, &stream, ManagedResource::new(&device)?)?;
    /// buffer.host_write()?[1] = 7;
    /// assert_eq!(buffer.host_read()?[..], [0, 7, 0]);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    #[track_caller]
    pub fn host_write(&mut self) -> Result<HostWrite<'_, T>, DeviceError>
    where
        R: MemoryResource<Kind: HostAccessible>,
    {
        let _site = CallSite::here();
        let start = self.as_mut_ptr();
        let access = self.begin_host_access(true)?;
        // SAFETY: as in `host_read`; in addition, the guard borrows the buffer exclusively.
        let elements = unsafe { std::slice::from_raw_parts_mut(start, self.len) };
        Ok(HostWrite { elements, _access: access })
    }

    /// Waits until the host may use the memory, and announces the access.
    fn begin_host_access(&self, write: bool) -> Result<HostAccess<'_>, DeviceError> {
        let device = self.device();
        let gate = self.stream.host_access(self.block.as_ptr())?;
        let (addr, bytes) = (self.block.addr(), self.size_bytes());
        if bytes > 0 {
            self.notify_observer(&Notice::HostAccess { addr, bytes, write });
            device.driver().host_access(device.ordinal(), self.block.as_ptr(), bytes, write)?;
            device.tell(&Notice::HostAccess { addr, bytes, write });
        }
        let model = device.model();
        let number = model.map_or(0, |model| model.begin_host_access(addr, bytes as u64, write));
        Ok(HostAccess { model, number, _gate: gate })
    }
}

impl<T> Deref for HostRead<'_, T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        self.elements
    }
}

impl<T> Deref for HostWrite<'_, T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        self.elements
    }
}

impl<T> DerefMut for HostWrite<'_, T> {
    fn deref_mut(&mut self) -> &mut [T] {
        self.elements
    }
}
