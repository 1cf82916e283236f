//! Deep copies of a [`Buffer`].

use super::array::Buffer;
use super::element::Element;
use super::view::BufferView;
use crate::device::stream::Stream;
use crate::error::AllocError;
use crate::kind::DeviceAccessible;
use crate::resource::MemoryResource;
use cumem_driver::call_site::CallSite;

impl<T: Element, R: MemoryResource> Buffer<T, R> {
    /// Returns a copy of the buffer in memory of the same resource, on the same stream. The copy of the elements is
    /// enqueued; the host does not wait for it. The capacity of the result is its length.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`try_clone_on`](Self::try_clone_on).
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Buffer, CudaResource, Device, Stream};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// let memory = CudaResource::new(&device);
    /// let buffer = Buffer::from_slice(&[1_u32, 2, 3], &stream, &memory)?;
    /// let mut copy = buffer.try_clone()?;
    /// copy.set(0, 10)?;
    /// assert_eq!((buffer.to_vec()?, copy.to_vec()?), (vec![1, 2, 3], vec![10, 2, 3]));
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    #[track_caller]
    pub fn try_clone(&self) -> Result<Self, AllocError>
    where
        R: MemoryResource<Kind: DeviceAccessible> + Clone,
    {
        self.try_clone_on(&self.memory.stream, self.memory.resource.clone())
    }

    /// Returns a copy of the buffer in memory of `resource`, on `stream`. The copy of the elements is enqueued on
    /// `stream`, after the work on this buffer so far. The result keeps an alignment that this buffer was created with.
    ///
    /// # Errors
    ///
    /// Returns the errors of the resource, [`DeviceError::WrongDevice`](crate::DeviceError::WrongDevice) if the two
    /// streams belong to different machines, and the driver's error if it rejects the copy.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Buffer, CudaResource, Device, PinnedResource, Stream};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// let buffer = Buffer::from_slice(&[1_u32, 2, 3, 4], &stream, CudaResource::new(&device))?;
    /// let other = Stream::new(&device)?;
    /// let copy = buffer.try_clone_on(&other, PinnedResource::new(&device))?;
    /// assert_eq!((copy.host_read()?.to_vec(), copy.stream()), (vec![1, 2, 3, 4], &other));
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    #[track_caller]
    pub fn try_clone_on<S>(&self, stream: &Stream, resource: S) -> Result<Buffer<T, S>, AllocError>
    where
        S: MemoryResource<Kind: DeviceAccessible>,
    {
        let _site = CallSite::here();
        let alignment = self.memory.block.layout().align();
        let mut copy = Buffer::with_capacity_aligned(self.len, alignment, stream, resource)?;
        copy.len = self.len;
        copy.copy_from_buffer(self)?;
        Ok(copy)
    }

    /// Creates a buffer with a copy of the elements of a view. The copy is enqueued on `stream`; the host does not wait
    /// for it.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`try_clone_on`](Self::try_clone_on).
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Buffer, CudaResource, Device, Stream};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// let buffer = Buffer::from_slice(&[1_u32, 2, 3, 4], &stream, CudaResource::new(&device))?;
    /// let part = Buffer::from_view(buffer.slice(1..3)?, &stream, CudaResource::new(&device))?;
    /// assert_eq!(part.to_vec()?, [2, 3]);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    #[track_caller]
    pub fn from_view<K>(view: BufferView<'_, T, K>, stream: &Stream, resource: R) -> Result<Self, AllocError>
    where
        R: MemoryResource<Kind: DeviceAccessible>,
    {
        let _site = CallSite::here();
        let mut copy = Self::with_capacity(view.len(), stream, resource)?;
        copy.len = view.len();
        copy.as_view_mut().copy_from_view(view)?;
        Ok(copy)
    }
}
