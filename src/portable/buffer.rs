//! [`PortableBuffer`]: one interface to unified memory, and to pinned memory with a shadow in device memory.

use super::choice::{self, UnifiedOrPinned};
use crate::any::AnyResource;
use crate::buffer::{Buffer, Element, HostRead, HostWrite, UnifiedBuffer};
use crate::device::error::DeviceError;
use crate::device::stream::Stream;
use crate::error::AllocError;
use crate::kind;
use crate::unified::hints;
use bytemuck::Zeroable;
use std::fmt;

/// An array that host and device use in turns, in the memory that [`UnifiedOrPinned`] chose.
///
/// Before each launch of a kernel, the program calls [`device_read`](Self::device_read) or
/// [`device_write`](Self::device_write) and passes the returned address to the kernel. In pinned memory, that call
/// enqueues the copy to the device.
///
/// # Examples
///
/// ```
/// use cumem::portable::{PortableBuffer, unified_or_pinned};
/// use cumem::sim::Profile;
/// use cumem::{Device, Stream};
///
/// for profile in [Profile::default(), Profile::wsl()] { // unified memory, and pinned memory
///     let device = Device::simulated(profile)?;
///     let stream = Stream::new(&device)?;
///     let choice = unified_or_pinned(&device)?;
///     let mut numbers = PortableBuffer::from_slice(&[1_u32, 2, 3], &stream, &choice)?;
///     let _address = numbers.device_read()?; // launch a kernel that reads the numbers
///     numbers.host_write()?[0] = 10;
///     let mut sum = [0; 3];
///     numbers.download(&mut sum)?;
///     assert_eq!(sum, [10, 2, 3]);
/// }
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
pub struct PortableBuffer<T> {
    pub(super) memory: Memory<T>,
    choice: UnifiedOrPinned,
}

pub(super) enum Memory<T> {
    Unified(UnifiedBuffer<T>),
    Pinned(Shadowed<T>),
}

/// Pinned memory, and its shadow: device memory of the same size, allocated when a kernel needs it.
pub(super) struct Shadowed<T> {
    pub(super) host: Buffer<T, AnyResource<kind::Pinned>>,
    shadow: Option<Buffer<T, AnyResource<kind::Device>>>,
    pub(super) device: AnyResource<kind::Device>,
    newer: Newer,
}

/// The side that has the newer elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Newer {
    Neither,
    Host,
    Shadow,
}

impl<T: Element> PortableBuffer<T> {
    /// Creates a buffer of `len` elements whose bytes are all zero.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Buffer::zeroed`].
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
    /// let mut buffer = PortableBuffer::<u32>::zeroed(3, &stream, &unified_or_pinned(&device)?)?;
    /// assert_eq!(buffer.host_read()?[..], [0, 0, 0]);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn zeroed(len: usize, stream: &Stream, choice: &UnifiedOrPinned) -> Result<Self, AllocError>
    where
        T: Zeroable,
    {
        let memory = match &choice.memory {
            choice::Memory::Unified(stack) => Memory::Unified(UnifiedBuffer::zeroed(len, stream, stack.clone())?),
            choice::Memory::Pinned { host, device, .. } => {
                Memory::Pinned(Shadowed::new(Buffer::zeroed(len, stream, host.clone())?, device))
            }
        };
        Ok(Self { memory, choice: choice.clone() })
    }

    /// Creates a buffer with a copy of `data`. The copy is complete on return.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Buffer::from_slice`].
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
    /// assert_eq!(buffer.host_read()?[..], [1, 2]);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn from_slice(data: &[T], stream: &Stream, choice: &UnifiedOrPinned) -> Result<Self, AllocError> {
        let memory = match &choice.memory {
            choice::Memory::Unified(stack) => {
                // SAFETY: the upload writes every element.
                let mut buffer = unsafe { UnifiedBuffer::uninit(data.len(), stream, stack.clone()) }?;
                let _path = buffer.upload(data)?;
                Memory::Unified(buffer)
            }
            choice::Memory::Pinned { host, device, .. } => {
                Memory::Pinned(Shadowed::new(Buffer::from_slice(data, stream, host.clone())?, device))
            }
        };
        Ok(Self { memory, choice: choice.clone() })
    }

    /// Returns the number of elements.
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
    /// let buffer = PortableBuffer::<u32>::zeroed(3, &stream, &unified_or_pinned(&device)?)?;
    /// assert_eq!(buffer.len(), 3);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn len(&self) -> usize {
        match &self.memory {
            Memory::Unified(buffer) => buffer.len(),
            Memory::Pinned(memory) => memory.host.len(),
        }
    }

    /// Reports whether the buffer has no elements.
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
    /// let buffer = PortableBuffer::<u32>::zeroed(0, &stream, &unified_or_pinned(&device)?)?;
    /// assert!(buffer.is_empty());
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the buffer's stream.
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
    /// let buffer = PortableBuffer::<u32>::zeroed(3, &stream, &unified_or_pinned(&device)?)?;
    /// assert_eq!(buffer.stream().id(), stream.id());
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn stream(&self) -> &Stream {
        match &self.memory {
            Memory::Unified(buffer) => buffer.stream(),
            Memory::Pinned(memory) => memory.host.stream(),
        }
    }

    /// Returns the choice of memory, with the reason.
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
    /// let buffer = PortableBuffer::<u32>::zeroed(3, &stream, &unified_or_pinned(&device)?)?;
    /// assert!(buffer.choice().is_unified());
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn choice(&self) -> &UnifiedOrPinned {
        &self.choice
    }

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
}

impl<T: Element> Shadowed<T> {
    fn new(host: Buffer<T, AnyResource<kind::Pinned>>, device: &AnyResource<kind::Device>) -> Self {
        Self { host, shadow: None, device: device.clone(), newer: Newer::Host }
    }

    /// Enqueues the copy to the shadow if the host's elements are newer, and returns the address of the shadow.
    fn copy_to_shadow(&mut self) -> Result<u64, AllocError> {
        let shadow = match self.shadow.take() {
            Some(shadow) => shadow,
            None => {
                // SAFETY: without a shadow the host's elements are the newer ones, so the copy below writes every
                // element.
                unsafe { Buffer::uninit(self.host.len(), self.host.stream(), self.device.clone()) }?
            }
        };
        let shadow = self.shadow.insert(shadow);
        if self.newer == Newer::Host {
            shadow.copy_from_buffer(&self.host)?;
            self.newer = Newer::Neither;
        }
        Ok(shadow.device_address())
    }

    /// Enqueues the copy from the shadow if the shadow's elements are newer.
    pub(super) fn copy_from_shadow(&mut self) -> Result<(), DeviceError> {
        if let (Newer::Shadow, Some(shadow)) = (self.newer, &self.shadow) {
            self.host.copy_from_buffer(shadow)?;
            self.newer = Newer::Neither;
        }
        Ok(())
    }

    /// Records that the host's elements are about to change, so the shadow's elements are outdated.
    pub(super) fn host_is_newer(&mut self) {
        self.newer = Newer::Host;
    }
}

impl<T> fmt::Debug for PortableBuffer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut f = f.debug_struct("PortableBuffer");
        match &self.memory {
            Memory::Unified(buffer) => f.field("unified", buffer),
            Memory::Pinned(memory) => {
                f.field("host", &memory.host).field("shadow", &memory.shadow).field("newer", &memory.newer)
            }
        };
        f.finish()
    }
}
