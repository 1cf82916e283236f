//! Access of the host and of kernels to a [`PortableBuffer`].

use super::buffer::{Memory, PortableBuffer};
use super::shadowed::{Newer, Shadowed};
use crate::buffer::{BufferView, BufferViewMut, Element, HostRead, HostWrite};
use crate::device::error::DeviceError;
use crate::error::AllocError;
use crate::unified::hints;

impl<T: Element> PortableBuffer<T> {
    /// Waits for the buffer's stream, and returns a guard through which the host reads the elements. In pinned memory,
    /// the elements are first copied from the device if they are newer there.
    ///
    /// # Errors
    ///
    /// Returns the driver's error from the wait or the copy, which may be an error of earlier work.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Device, Stream};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// use cumem::portable::{PortableBuffer, unified_or_pinned};
    ///
    /// let mut buffer = PortableBuffer::from_slice(&[1_u32, 2], &stream, &unified_or_pinned(&device)?)?;
    /// assert_eq!(buffer.host_read()?.iter().sum::<u32>(), 3);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn host_read(&mut self) -> Result<HostRead<'_, T>, DeviceError> {
        match &mut self.memory {
            Memory::Unified(buffer) => buffer.host_read(),
            Memory::Pinned(memory) => {
                memory.copy_from_shadow()?;
                memory.host.host_read()
            }
        }
    }

    /// Does the same as [`host_read`](Self::host_read), and returns a guard through which the host reads and writes.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`host_read`](Self::host_read).
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Device, Stream};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// use cumem::portable::{PortableBuffer, unified_or_pinned};
    ///
    /// let mut buffer = PortableBuffer::<u32>::zeroed(2, &stream, &unified_or_pinned(&device)?)?;
    /// buffer.host_write()?[0] = 7;
    /// assert_eq!(buffer.host_read()?[..], [7, 0]);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn host_write(&mut self) -> Result<HostWrite<'_, T>, DeviceError> {
        match &mut self.memory {
            Memory::Unified(buffer) => buffer.host_write(),
            Memory::Pinned(memory) => {
                memory.copy_from_shadow()?;
                memory.newer = Newer::Host;
                memory.host.host_write()
            }
        }
    }

    /// Copies `data` over all elements. The copy is complete on return.
    ///
    /// # Errors
    ///
    /// Returns [`DeviceError::WrongLength`] if `data` has another number of elements, and the driver's error if the
    /// copy fails.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Device, Stream};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// use cumem::portable::{PortableBuffer, unified_or_pinned};
    ///
    /// let mut buffer = PortableBuffer::<u32>::zeroed(2, &stream, &unified_or_pinned(&device)?)?;
    /// buffer.upload(&[1, 2])?;
    /// assert_eq!(buffer.host_read()?[..], [1, 2]);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn upload(&mut self, data: &[T]) -> Result<(), DeviceError> {
        match &mut self.memory {
            Memory::Unified(buffer) => buffer.upload(data).map(|_| ()),
            Memory::Pinned(memory) => {
                memory.host.copy_from_slice(data)?;
                memory.newer = Newer::Host;
                Ok(())
            }
        }
    }

    /// Copies all elements to `data`. The copy is complete on return.
    ///
    /// # Errors
    ///
    /// Returns [`DeviceError::WrongLength`] if `data` has another number of elements, and the driver's error if the
    /// copy fails.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Device, Stream};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// use cumem::portable::{PortableBuffer, unified_or_pinned};
    ///
    /// let mut buffer = PortableBuffer::from_slice(&[1_u32, 2], &stream, &unified_or_pinned(&device)?)?;
    /// let mut data = [0; 2];
    /// buffer.download(&mut data)?;
    /// assert_eq!(data, [1, 2]);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn download(&mut self, data: &mut [T]) -> Result<(), DeviceError> {
        match &self.memory {
            Memory::Unified(buffer) => buffer.download(data).map(|_| ()),
            Memory::Pinned(Shadowed { shadow: Some(shadow), newer: Newer::Shadow, .. }) => shadow.copy_to_slice(data),
            Memory::Pinned(memory) => memory.host.copy_to_slice(data),
        }
    }

    /// Returns the address for a kernel that only reads the elements, and enqueues on the buffer's stream the prefetch
    /// or the copy that the kernel needs.
    ///
    /// # Errors
    ///
    /// Returns the driver's error if it rejects the prefetch or the copy, and an allocation error if device memory for
    /// the copy cannot be allocated.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Device, Stream};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// use cumem::portable::{PortableBuffer, unified_or_pinned};
    ///
    /// let mut buffer = PortableBuffer::from_slice(&[1_u32, 2], &stream, &unified_or_pinned(&device)?)?;
    /// let address = buffer.device_read()?;
    /// assert_ne!(address, 0); // launch a kernel with this address on the buffer's stream
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn device_read(&mut self) -> Result<u64, AllocError> {
        match &mut self.memory {
            Memory::Unified(buffer) => {
                let (bytes, to) = (0..buffer.size_bytes(), buffer.device().id());
                let _there = hints::prefetch_if_needed(buffer.block(), bytes, to, buffer.stream())?;
                Ok(buffer.device_address())
            }
            Memory::Pinned(memory) => memory.copy_to_shadow(),
        }
    }

    /// Does the same as [`device_read`](Self::device_read) for a kernel that may write the elements. The elements on
    /// the device then count as newer than those on the host.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`device_read`](Self::device_read).
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem::kernel::HostKernel;
    /// use cumem::portable::{PortableBuffer, unified_or_pinned};
    /// # use cumem::sim::Profile;
    /// # use cumem::{Device, Stream};
    ///
    /// # let device = Device::simulated(Profile::wsl())?;
    /// # let stream = Stream::new(&device)?;
    /// let mut buffer = PortableBuffer::<u32>::zeroed(2, &stream, &unified_or_pinned(&device)?)?;
    /// let address = buffer.device_write()?;
    /// let fill = HostKernel::new("fill", |memory| memory.write::<u32>(0).fill(7)).writes(address, 8);
    /// // SAFETY: the kernel writes the buffer, which lives until `host_read` has waited for the kernel.
    /// unsafe { stream.launch_host(fill) }?;
    /// assert_eq!(buffer.host_read()?[..], [7, 7]);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn device_write(&mut self) -> Result<u64, AllocError> {
        let address = self.device_read()?;
        if let Memory::Pinned(memory) = &mut self.memory {
            memory.newer = Newer::Shadow;
        }
        Ok(address)
    }

    /// Returns the elements where they are newest.
    pub(super) fn newest(&self) -> BufferView<'_, T> {
        match &self.memory {
            Memory::Unified(buffer) => buffer.as_view().erase_kind(),
            Memory::Pinned(Shadowed { shadow: Some(shadow), newer: Newer::Shadow, .. }) => {
                shadow.as_view().erase_kind()
            }
            Memory::Pinned(memory) => memory.host.as_view().erase_kind(),
        }
    }

    /// Returns the elements where they are newest, for writes. Elsewhere they are outdated afterwards.
    pub(super) fn newest_mut(&mut self) -> BufferViewMut<'_, T> {
        match &mut self.memory {
            Memory::Unified(buffer) => buffer.as_view_mut().erase_kind(),
            Memory::Pinned(Shadowed { shadow: Some(shadow), newer: Newer::Shadow, .. }) => {
                shadow.as_view_mut().erase_kind()
            }
            Memory::Pinned(memory) => {
                memory.newer = Newer::Host;
                memory.host.as_view_mut().erase_kind()
            }
        }
    }
}
