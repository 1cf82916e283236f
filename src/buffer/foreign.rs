//! Buffers over memory of another library, and over registered host memory.

use super::array::Buffer;
use super::element::Element;
use crate::device::error::DeviceError;
use crate::device::stream::Stream;
use crate::error::DeallocReason;
use crate::kind::{MemoryKind, Pinned};
use crate::resources::{ForeignError, ForeignMemory, Registered};
use std::ptr::NonNull;

impl<T: Element, K: MemoryKind, O> Buffer<T, ForeignMemory<K, O>> {
    /// Creates a buffer of `len` elements that another library has allocated at `start`. `owner` owns the memory. It is
    /// dropped with the buffer, after the work of the buffer's stream is done.
    ///
    /// The buffer has all functions of its kind of memory, except that it cannot grow.
    ///
    /// # Errors
    ///
    /// Returns [`ForeignError`] with the owner. The reason is one of [`ForeignMemory::new`], [`DeviceError::Misfit`] if the
    /// address is not aligned for `T`, or [`DeviceError::OutOfRange`] if so many elements have more than `isize::MAX` bytes.
    ///
    /// # Safety
    ///
    /// - `start` and `len` elements are memory of the kind `K` that the stream's device can access, allocated as long as the
    ///   owner exists, also if the owner is moved.
    /// - As long as the owner exists, nothing uses the memory but the buffer, and work that `stream` was made to wait for.
    /// - The elements have been written.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem::resources::ForeignMemory;
    /// use cumem::sim::Profile;
    /// use cumem::{Buffer, CudaResource, Device, Stream, kind};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let device = Device::simulated(Profile::default())?;
    /// let stream = Stream::new(&device)?;
    /// // Stands for an array of another library.
    /// let array = Buffer::from_slice(&[1_u32, 2, 3], &stream, CudaResource::new(&device))?;
    /// let start = array.block().as_non_null();
    ///
    /// // SAFETY: the array has three elements, and nothing else uses them.
    /// let numbers =
    ///     unsafe { Buffer::<u32, ForeignMemory<kind::Device, _>>::from_foreign(start, 3, &stream, array) }?;
    /// assert_eq!(numbers.slice(1..)?.to_vec()?, [2, 3]);
    /// # Ok(())
    /// # }
    /// ```
    pub unsafe fn from_foreign(
        start: NonNull<u8>,
        len: usize,
        stream: &Stream,
        owner: O,
    ) -> Result<Self, ForeignError<O>> {
        let Some(bytes) = len.checked_mul(size_of::<T>()) else {
            let size = isize::MAX as usize / size_of::<T>().max(1);
            return Err(ForeignError::new(owner, DeviceError::OutOfRange { start: 0, end: len, size }));
        };
        // SAFETY: the caller promises the same.
        let (memory, block) = unsafe { ForeignMemory::new(stream.device(), start, bytes, owner) }?;
        // SAFETY: the block is the memory's, nothing else uses it, and its elements have been written.
        unsafe { Self::from_block(block, len, stream, memory) }.map_err(|refused| {
            let owner = refused.resource.abandon().expect("the memory was just created with its owner");
            ForeignError::new(owner, refused.reason)
        })
    }

    /// Waits for the work of the buffer, and returns the owner of its memory.
    ///
    /// # Errors
    ///
    /// Returns the driver's error if the wait fails. The owner is then leaked, because work may still use the memory.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::resources::ForeignMemory;
    /// # use cumem::sim::Profile;
    /// # use cumem::{Buffer, CudaResource, Device, Stream, kind};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// let array = Buffer::from_slice(&[1_u32, 2, 3], &stream, CudaResource::new(&device))?;
    /// let start = array.block().as_non_null();
    /// // SAFETY: the array has three elements, and nothing else uses them.
    /// let mut numbers =
    ///     unsafe { Buffer::<u32, ForeignMemory<kind::Device, _>>::from_foreign(start, 3, &stream, array) }?;
    /// numbers.set(0, 7)?;
    /// assert_eq!(numbers.into_owner()?.to_vec()?, [7, 2, 3]);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn into_owner(self) -> Result<O, DeviceError> {
        let parts = self.into_block().map_err(|refused| refused.reason)?;
        // SAFETY: the block is the buffer's, and its work is on the stream.
        unsafe { parts.resource.take_owner(&parts.stream, parts.block) }.map_err(|error| match error.reason {
            DeallocReason::Device(error) => error,
            // The block is the resource's, so there is no other reason.
            _ => DeviceError::OtherBlock { expected: error.block.addr(), found: error.block.addr() },
        })
    }
}

impl<T: Element> Registered<T> {
    /// Returns the elements as a buffer of pinned memory, which keeps them registered.
    ///
    /// # Errors
    ///
    /// Returns [`ForeignError`] with the elements if the stream belongs to another device, or the driver's error.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem::resources::Registered;
    /// use cumem::sim::Profile;
    /// use cumem::{Device, Stream};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let device = Device::simulated(Profile::default())?;
    /// let stream = Stream::new(&device)?;
    /// let mut numbers = Registered::new(&device, vec![1_u32, 2, 3])?.into_buffer(&stream)?;
    /// numbers.host_write()?[1] = 20;
    /// assert_eq!(numbers.to_vec()?, [1, 20, 3]);
    /// let registered = numbers.into_owner()?;
    /// assert_eq!(registered[..], [1, 20, 3]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn into_buffer(
        mut self,
        stream: &Stream,
    ) -> Result<Buffer<T, ForeignMemory<Pinned, Self>>, ForeignError<Self>> {
        if let Err(error) = self.device().check_device("the stream", stream.device_id()) {
            return Err(ForeignError::new(self, error));
        }
        let (start, len) = (NonNull::from(&mut *self).cast(), self.len());
        // SAFETY: the elements are registered and initialized, and stay where they are. Only the buffer uses them, because it
        // owns the value.
        unsafe { Buffer::from_foreign(start, len, stream, self) }
    }
}
