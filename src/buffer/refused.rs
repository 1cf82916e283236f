//! Errors that return what a function was given.

use crate::block::Block;
use crate::device::error::DeviceError;
use std::fmt;

/// The error of a conversion of a buffer. It contains the buffer, unchanged.
///
/// # Examples
///
/// ```
/// # use cumem::sim::Profile;
/// # use cumem::{Buffer, CudaResource, Device, Stream};
/// # let device = Device::simulated(Profile::default())?;
/// # let stream = Stream::new(&device)?;
/// let bytes = Buffer::<u8, _>::zeroed(7, &stream, CudaResource::new(&device))?;
/// let error = bytes.cast::<u32>().unwrap_err();
/// assert!(error.to_string().starts_with("the buffer was not converted"));
/// let bytes = error.value;
/// assert_eq!(bytes.len(), 7);
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[non_exhaustive]
pub struct Refused<B> {
    /// The buffer.
    pub value: B,
    /// The reason why the buffer was not converted.
    pub reason: DeviceError,
}

impl<B> fmt::Debug for Refused<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Refused").field("reason", &self.reason).finish_non_exhaustive()
    }
}

impl<B> fmt::Display for Refused<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the buffer was not converted")
    }
}

impl<B> std::error::Error for Refused<B> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.reason)
    }
}

/// The error of [`Buffer::from_block`](crate::Buffer::from_block). It contains the block and the resource, unchanged.
///
/// # Examples
///
/// ```
/// # use cumem::sim::Profile;
/// # use cumem::{Buffer, CudaResource, Device, DeviceError, MemoryResource, Stream, layout};
/// # let device = Device::simulated(Profile::default())?;
/// # let stream = Stream::new(&device)?;
/// let memory = CudaResource::new(&device);
/// let block = memory.allocate(&stream, layout::bytes(8)?)?;
/// // SAFETY: the resource returned the block, and the elements would be written before they are read.
/// let error = unsafe { Buffer::<u32, _>::from_block(block, 3, &stream, memory) }.unwrap_err();
/// assert_eq!(error.reason, DeviceError::OutOfRange { start: 0, end: 3, size: 2 });
/// // SAFETY: the resource returned the block, and no work uses it.
/// unsafe { error.resource.deallocate(&stream, error.block) }?;
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[non_exhaustive]
pub struct FromBlockError<R> {
    /// The block.
    pub block: Block,
    /// The resource.
    pub resource: R,
    /// The reason why there is no such buffer.
    pub reason: DeviceError,
}

impl<R> fmt::Debug for FromBlockError<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FromBlockError")
            .field("block", &self.block)
            .field("reason", &self.reason)
            .finish_non_exhaustive()
    }
}

impl<R> fmt::Display for FromBlockError<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the block of {} bytes at {:#x} is no buffer of this type", self.block.size(), self.block.addr())
    }
}

impl<R> std::error::Error for FromBlockError<R> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.reason)
    }
}
