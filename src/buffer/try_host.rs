//! Host guards over memory whose kind is known only at run time.

use super::array::Buffer;
use super::element::Element;
use super::host::{HostRead, HostWrite};
use super::part::Part;
use super::view::BufferView;
use super::view_mut::BufferViewMut;
use crate::device::error::DeviceError;
use crate::resource::MemoryResource;
use cumem_driver::MemoryType;
use cumem_driver::call_site::CallSite;

impl<T: Element, R: MemoryResource> Buffer<T, R> {
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
        self.part().check_host_access()?;
        HostRead::over(self.part(), self.len())
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
        self.part().check_host_access()?;
        HostWrite::over(self.part(), self.len())
    }
}

impl<T: Element, K> BufferView<'_, T, K> {
    /// Does the same as [`Buffer::try_host_read`] for the elements of this view.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Buffer::try_host_read`].
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Buffer, Device, PinnedResource, Stream, current};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// let _pinned = current::scoped(&device, PinnedResource::new(&device))?;
    /// let buffer = Buffer::from_slice(&[1_u32, 2, 3], &stream, current::get(&device))?;
    /// assert_eq!(buffer.slice(1..)?.try_host_read()?[..], [2, 3]);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    #[track_caller]
    pub fn try_host_read(&self) -> Result<HostRead<'_, T>, DeviceError> {
        let _site = CallSite::here();
        self.part.check_host_access()?;
        HostRead::over(self.part, self.len())
    }
}

impl<T: Element, K> BufferViewMut<'_, T, K> {
    /// Does the same as [`Buffer::try_host_write`] for the elements of this view.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Buffer::try_host_read`].
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Buffer, Device, PinnedResource, Stream, current};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// let _pinned = current::scoped(&device, PinnedResource::new(&device))?;
    /// let mut buffer = Buffer::from_slice(&[1_u32, 2, 3], &stream, current::get(&device))?;
    /// buffer.slice_mut(1..)?.try_host_write()?[0] = 7;
    /// assert_eq!(buffer.to_vec()?, [1, 7, 3]);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    #[track_caller]
    pub fn try_host_write(&mut self) -> Result<HostWrite<'_, T>, DeviceError> {
        let _site = CallSite::here();
        self.part.check_host_access()?;
        HostWrite::over(self.part, self.len())
    }
}

impl Part<'_> {
    /// Queries the driver whether the host can access the memory.
    fn check_host_access(&self) -> Result<(), DeviceError> {
        // An empty part has no memory, and its slice has no element that is accessed.
        if self.bytes == 0 {
            return Ok(());
        }
        match self.device().pointer_info(self.ptr())?.memory_type {
            MemoryType::Host | MemoryType::Unified => Ok(()),
            memory => Err(DeviceError::NotHostAccessible { memory, device: self.device().id() }),
        }
    }
}
