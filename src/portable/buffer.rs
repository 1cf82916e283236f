//! [`PortableBuffer`]: one interface over unified memory and over page-locked memory with a shadow on the device.

use super::choice::{self, UnifiedOrPinned};
use crate::any::AnyResource;
use crate::buffer::{Buffer, HostRead, HostWrite, UnifiedBuffer};
use crate::device::error::DeviceError;
use crate::device::stream::Stream;
use crate::error::AllocError;
use crate::kind;
use crate::unified::hints;
use bytemuck::Pod;
use std::fmt;

/// An array that host and device use in turns, in the memory that [`UnifiedOrPinned`] chose.
///
/// Kernels use it by the address of [`device_read`](Self::device_read) or [`device_write`](Self::device_write), which
/// is asked for before each launch: over page-locked memory that is what brings the bytes to the device.
pub struct PortableBuffer<T> {
    pub(super) memory: Memory<T>,
    choice: UnifiedOrPinned,
}

pub(super) enum Memory<T> {
    Unified(UnifiedBuffer<T>),
    Pinned(Shadowed<T>),
}

/// Page-locked memory, and device memory of the same size once a kernel needs it.
pub(super) struct Shadowed<T> {
    pub(super) host: Buffer<T, AnyResource<kind::Pinned>>,
    shadow: Option<Buffer<T, AnyResource<kind::Device>>>,
    pub(super) device: AnyResource<kind::Device>,
    newer: Newer,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Newer {
    Neither,
    Host,
    Shadow,
}

impl<T: Pod> PortableBuffer<T> {
    /// `len` elements of all zero bytes.
    ///
    /// # Errors
    ///
    /// Those of [`Buffer::zeroed`].
    pub fn zeroed(len: usize, stream: &Stream, choice: &UnifiedOrPinned) -> Result<Self, AllocError> {
        let memory = match &choice.memory {
            choice::Memory::Unified(stack) => Memory::Unified(UnifiedBuffer::zeroed(len, stream, stack.clone())?),
            choice::Memory::Pinned { host, device, .. } => Memory::Pinned(Shadowed {
                host: Buffer::zeroed(len, stream, host.clone())?,
                shadow: None,
                device: device.clone(),
                newer: Newer::Host,
            }),
        };
        Ok(Self { memory, choice: choice.clone() })
    }

    /// A copy of `data`, complete on return.
    ///
    /// # Errors
    ///
    /// Those of [`Buffer::from_slice`].
    pub fn from_slice(data: &[T], stream: &Stream, choice: &UnifiedOrPinned) -> Result<Self, AllocError> {
        let mut buffer = Self::zeroed(data.len(), stream, choice)?;
        buffer.upload(data)?;
        Ok(buffer)
    }

    /// Elements in it.
    pub fn len(&self) -> usize {
        match &self.memory {
            Memory::Unified(buffer) => buffer.len(),
            Memory::Pinned(memory) => memory.host.len(),
        }
    }

    /// Whether it has no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Its stream.
    pub fn stream(&self) -> &Stream {
        match &self.memory {
            Memory::Unified(buffer) => buffer.stream(),
            Memory::Pinned(memory) => memory.host.stream(),
        }
    }

    /// Which memory it is in, and why.
    pub fn choice(&self) -> &UnifiedOrPinned {
        &self.choice
    }

    /// The elements, for the host to read, after waiting for the buffer's stream.
    ///
    /// # Errors
    ///
    /// What the driver answers, errors of earlier work included.
    pub fn host_read(&mut self) -> Result<HostRead<'_, T>, DeviceError> {
        match &mut self.memory {
            Memory::Unified(buffer) => buffer.host_read(),
            Memory::Pinned(memory) => {
                memory.take_back()?;
                memory.host.host_read()
            }
        }
    }

    /// The same, for the host to read and write.
    ///
    /// # Errors
    ///
    /// Those of [`host_read`](Self::host_read).
    pub fn host_write(&mut self) -> Result<HostWrite<'_, T>, DeviceError> {
        match &mut self.memory {
            Memory::Unified(buffer) => buffer.host_write(),
            Memory::Pinned(memory) => {
                memory.take_back()?;
                memory.newer = Newer::Host;
                memory.host.host_write()
            }
        }
    }

    /// Copies `data` over all elements, complete on return.
    ///
    /// # Errors
    ///
    /// [`DeviceError::WrongLength`] unless `data` has as many elements, or what the driver answers.
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

    /// Copies all elements to `data`, complete on return.
    ///
    /// # Errors
    ///
    /// [`DeviceError::WrongLength`] unless `data` has as many elements, or what the driver answers.
    pub fn download(&mut self, data: &mut [T]) -> Result<(), DeviceError> {
        match &self.memory {
            Memory::Unified(buffer) => buffer.download(data).map(|_| ()),
            Memory::Pinned(Shadowed { shadow: Some(shadow), newer: Newer::Shadow, .. }) => shadow.copy_to_slice(data),
            Memory::Pinned(memory) => memory.host.copy_to_slice(data),
        }
    }

    /// The address for a kernel that only reads the elements. What brings them to the device is enqueued on the
    /// buffer's stream.
    ///
    /// # Errors
    ///
    /// What the driver answers, or want of device memory for the shadow.
    pub fn device_read(&mut self) -> Result<u64, AllocError> {
        match &mut self.memory {
            Memory::Unified(buffer) => {
                let (bytes, to) = (0..buffer.size_bytes(), buffer.device().id());
                let _there = hints::prefetch_if_needed(buffer.block(), bytes, to, buffer.stream())?;
                Ok(buffer.device_address())
            }
            Memory::Pinned(memory) => memory.bring(),
        }
    }

    /// The same for a kernel that may write them.
    ///
    /// # Errors
    ///
    /// Those of [`device_read`](Self::device_read).
    pub fn device_write(&mut self) -> Result<u64, AllocError> {
        let address = self.device_read()?;
        if let Memory::Pinned(memory) = &mut self.memory {
            memory.newer = Newer::Shadow;
        }
        Ok(address)
    }
}

impl<T: Pod> Shadowed<T> {
    /// Enqueues the copy to the shadow that is still wanting.
    fn bring(&mut self) -> Result<u64, AllocError> {
        let shadow = match self.shadow.take() {
            Some(shadow) => shadow,
            None => {
                // SAFETY: the copy below writes every element.
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

    /// Enqueues the copy from the shadow that is still wanting.
    pub(super) fn take_back(&mut self) -> Result<(), DeviceError> {
        if let (Newer::Shadow, Some(shadow)) = (self.newer, &self.shadow) {
            self.host.copy_from_buffer(shadow)?;
            self.newer = Newer::Neither;
        }
        Ok(())
    }

    /// The host's memory is about to be changed by others than the shadow.
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
