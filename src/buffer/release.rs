//! A [`Buffer`] as its parts, and as a buffer of another type.

use super::array::Buffer;
use super::element::Element;
use super::refused::{FromBlockError, Refused};
use super::view_cast;
use crate::block::Block;
use crate::device::error::DeviceError;
use crate::device::stream::Stream;
use crate::layer::LayerExt;
use crate::resource::MemoryResource;
use std::marker::PhantomData;

/// Untyped memory: a buffer of bytes. [`Buffer::cast`] gives the bytes a type.
///
/// # Examples
///
/// ```
/// # use cumem::sim::Profile;
/// # use cumem::{CudaResource, Device, Stream};
/// use cumem::buffer::ByteBuffer;
///
/// # let device = Device::simulated(Profile::default())?;
/// # let stream = Stream::new(&device)?;
/// let bytes = ByteBuffer::zeroed(16, &stream, CudaResource::new(&device))?;
/// let numbers = bytes.cast::<u32>()?;
/// assert_eq!(numbers.to_vec()?, [0; 4]);
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
pub type ByteBuffer<R> = Buffer<u8, R>;

/// The parts of a buffer, from [`Buffer::into_block`].
///
/// # Examples
///
/// ```
/// # use cumem::sim::Profile;
/// # use cumem::{Buffer, CudaResource, Device, MemoryResource, Stream};
/// # let device = Device::simulated(Profile::default())?;
/// # let stream = Stream::new(&device)?;
/// let buffer = Buffer::from_slice(&[1_u32, 2], &stream, CudaResource::new(&device))?;
/// let parts = buffer.into_block()?;
/// assert_eq!((parts.block.size(), parts.len), (8, 2));
/// // SAFETY: the resource returned the block, and all work that uses it is on the stream.
/// unsafe { parts.resource.deallocate(&parts.stream, parts.block) }?;
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
#[must_use = "the block is not freed when it is dropped"]
#[non_exhaustive]
pub struct BufferParts<R> {
    /// The memory.
    pub block: Block,
    /// The number of elements.
    pub len: usize,
    /// A stream of the resource's device, which the calling thread may use. All work of the buffer is ordered before
    /// later work on it.
    pub stream: Stream,
    /// The resource that allocated the block.
    pub resource: R,
}

impl<T, R: MemoryResource> Buffer<T, R> {
    /// Releases the memory from the buffer. The program then frees the block, or makes a buffer of it again with
    /// [`from_block`](Self::from_block). Dropping the block leaks its memory.
    ///
    /// # Errors
    ///
    /// Returns [`Refused`] with the buffer if the buffer is on the stream of another device or thread, and the wait for
    /// it fails.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Buffer, CudaResource, Device, Stream};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// let buffer = Buffer::from_slice(&[1_u32, 2, 3, 4], &stream, CudaResource::new(&device))?;
    /// let parts = buffer.into_block()?;
    /// // SAFETY: the block is the buffer's, and its elements were written.
    /// let again = unsafe { Buffer::<u32, _>::from_block(parts.block, parts.len, &parts.stream, parts.resource) }?;
    /// assert_eq!(again.to_vec()?, [1, 2, 3, 4]);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn into_block(self) -> Result<BufferParts<R>, Refused<Self>> {
        let Self { memory, len, capacity, on_host, auto, elements } = self;
        match memory.into_parts() {
            Ok((block, stream, resource)) => Ok(BufferParts { block, len, stream, resource }),
            Err((memory, reason)) => {
                Err(Refused { value: Self { memory, len, capacity, on_host, auto, elements }, reason })
            }
        }
    }

    /// Creates a buffer of `len` elements over a block, for example one that [`into_block`](Self::into_block) returned.
    /// The capacity is as many elements as the block holds.
    ///
    /// # Errors
    ///
    /// Returns [`FromBlockError`] with the block and the resource. The reason is
    /// - [`DeviceError::OutOfRange`] if the block has fewer than `len` elements,
    /// - [`DeviceError::Misfit`] if the block is not aligned for `T`,
    /// - [`DeviceError::WrongDevice`] if the stream belongs to another device than the resource.
    ///
    /// # Safety
    ///
    /// The caller must ensure that
    /// - the `allocate` of `resource`, or of a resource that shares its state, returned the block, which is live and
    ///   ready on `stream`,
    /// - nothing else uses or frees the block,
    /// - the first `len` elements have been written, or are written before they are read.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Buffer, CudaResource, Device, MemoryResource, Stream, layout};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// let memory = CudaResource::new(&device);
    /// let block = memory.allocate(&stream, layout::array::<u32>(3)?)?;
    /// // SAFETY: the resource returned the block, and the copy below writes all elements before anything reads them.
    /// let mut buffer = unsafe { Buffer::<u32, _>::from_block(block, 3, &stream, memory) }?;
    /// buffer.copy_from_slice(&[1, 2, 3])?;
    /// assert_eq!(buffer.to_vec()?, [1, 2, 3]);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub unsafe fn from_block(block: Block, len: usize, stream: &Stream, resource: R) -> Result<Self, FromBlockError<R>>
    where
        T: Element,
    {
        match capacity_of::<T, R>(&block, len, stream, &resource) {
            Ok(capacity) => Ok(Self::assemble(block, len, capacity, stream.clone(), resource)),
            Err(reason) => Err(FromBlockError { block, resource, reason }),
        }
    }

    /// Returns the buffer as untyped memory. Its length is the size of the elements in bytes.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Buffer, CudaResource, Device, Stream};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// let buffer = Buffer::from_slice(&[1_u32, 2, 3, 4], &stream, CudaResource::new(&device))?;
    /// let bytes = buffer.into_bytes();
    /// assert_eq!((bytes.len(), bytes.get(4)?), (16, 2));
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn into_bytes(self) -> ByteBuffer<R> {
        let (len, capacity) = (self.size_bytes(), self.memory.block.size());
        self.retyped(len, capacity)
    }

    /// Returns the buffer as elements of another type, without a copy. Each read checks the elements, as [`Element`]
    /// describes.
    ///
    /// # Errors
    ///
    /// Returns [`Refused`] with the buffer and [`DeviceError::Misfit`] if the bytes are not a whole number of elements
    /// of type `U`, or not aligned for them.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Buffer, CudaResource, Device, Stream};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// let buffer = Buffer::from_slice(&[1_u32, 2, 3, 4], &stream, CudaResource::new(&device))?;
    /// let pairs = buffer.cast::<[u32; 2]>()?;
    /// assert_eq!(pairs.to_vec()?, [[1, 2], [3, 4]]);
    /// let error = pairs.cast::<[u32; 3]>().unwrap_err(); // 16 bytes are no whole number of triples
    /// assert_eq!(error.value.len(), 2); // the error returns the buffer
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn cast<U: Element>(self) -> Result<Buffer<U, R>, Refused<Self>> {
        match view_cast::fit::<U>(&self.part()) {
            Ok(len) => {
                let capacity = self.memory.block.size().checked_div(size_of::<U>()).unwrap_or(len);
                Ok(self.retyped(len, capacity))
            }
            Err(reason) => Err(Refused { value: self, reason }),
        }
    }

    /// Gives the memory another type, without a check.
    fn retyped<U>(self, len: usize, capacity: usize) -> Buffer<U, R> {
        Buffer { memory: self.memory, len, capacity, on_host: self.on_host, auto: self.auto, elements: PhantomData }
    }
}

/// Returns the number of elements that a block holds, or the reason why it cannot be a buffer of `len` elements.
fn capacity_of<T, R: MemoryResource>(
    block: &Block,
    len: usize,
    stream: &Stream,
    resource: &R,
) -> Result<usize, DeviceError> {
    let (bytes, size, alignment) = (block.size(), size_of::<T>(), align_of::<T>());
    let capacity = bytes.checked_div(size).unwrap_or(len);
    if len > capacity {
        return Err(DeviceError::OutOfRange { start: 0, end: len, size: capacity });
    }
    if !block.addr().is_multiple_of(alignment as u64) {
        return Err(DeviceError::Misfit { bytes, addr: block.addr(), size, alignment });
    }
    resource.device().check_device("the stream", stream.device_id())?;
    Ok(capacity)
}
