//! [`PortableBuffer`]: one interface to unified memory, and to pinned memory with a shadow in device memory.

use super::choice::{self, UnifiedOrPinned};
use super::shadowed::Shadowed;
use crate::buffer::{Buffer, Element, UnifiedBuffer};
use crate::device::stream::Stream;
use crate::error::AllocError;
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
