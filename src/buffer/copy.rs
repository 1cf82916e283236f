//! Copies between a buffer and the host, and between buffers.

use super::array::Buffer;
use super::element::Element;
use super::view;
use crate::device::error::DeviceError;
use crate::resource::MemoryResource;
use cumem_driver::call_site::CallSite;
use std::ops::RangeBounds;

impl<T: Element, R: MemoryResource> Buffer<T, R> {
    /// Copies `data` over all elements. The copy is complete on return.
    ///
    /// If `data` is ordinary (pageable) memory, copies of 2 MiB and more go through pinned memory that this library
    /// allocates, which is faster than the driver's own copy. In the other direction, that begins at 1 MiB.
    /// [`Device::trim_staging`](crate::Device::trim_staging) frees this memory.
    ///
    /// # Errors
    ///
    /// Returns [`DeviceError::WrongLength`] if `data` has another number of elements, and the driver's error if the
    /// copy fails. After a failed copy, some elements may have the new values.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Buffer, CudaResource, Device, Stream};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// let mut buffer = Buffer::<u32, _>::zeroed(3, &stream, CudaResource::new(&device))?;
    /// buffer.copy_from_slice(&[1, 2, 3])?;
    /// assert_eq!(buffer.to_vec()?, [1, 2, 3]);
    /// assert!(buffer.copy_from_slice(&[1, 2]).is_err());
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    #[track_caller]
    pub fn copy_from_slice(&mut self, data: &[T]) -> Result<(), DeviceError> {
        self.as_view_mut().copy_from_slice(data)
    }

    /// Copies all elements to `data`, as [`copy_from_slice`](Self::copy_from_slice) does in the other direction. The
    /// copy is complete on return.
    ///
    /// # Errors
    ///
    /// Returns [`DeviceError::WrongLength`] if `data` has another number of elements, and the driver's error if the
    /// copy fails. Returns [`DeviceError::InvalidElement`] if the bytes of an element are not a value of `T`. After a
    /// failed copy, some elements of `data` may have the new values.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Buffer, CudaResource, Device, Stream};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// let buffer = Buffer::from_slice(&[1_u32, 2, 3], &stream, CudaResource::new(&device))?;
    /// let mut data = [0; 3];
    /// buffer.copy_to_slice(&mut data)?;
    /// assert_eq!(data, [1, 2, 3]);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    #[track_caller]
    pub fn copy_to_slice(&self, data: &mut [T]) -> Result<(), DeviceError> {
        self.as_view().copy_to_slice(data)
    }

    /// Copies all elements to a new vector.
    ///
    /// # Errors
    ///
    /// Returns the driver's error if the copy fails, and [`DeviceError::InvalidElement`] if the bytes of an element are
    /// not a value of `T`.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Buffer, CudaResource, Device, Stream};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// let buffer = Buffer::from_slice(&[1_u32, 4, 9], &stream, CudaResource::new(&device))?;
    /// assert_eq!(buffer.to_vec()?, vec![1, 4, 9]);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    #[track_caller]
    pub fn to_vec(&self) -> Result<Vec<T>, DeviceError> {
        self.as_view().to_vec()
    }

    /// Enqueues a copy of all elements of `source` over all elements of this buffer. The host does not wait for it.
    ///
    /// The copy runs on this buffer's stream, after the work that is enqueued on `source`'s stream. Work that is
    /// enqueued on `source`'s stream later waits for the copy.
    ///
    /// # Errors
    ///
    /// Returns [`DeviceError::WrongLength`] if the buffers differ in their number of elements,
    /// [`DeviceError::WrongDevice`] if they belong to different machines, and the driver's error if it rejects the
    /// copy.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Buffer, CudaResource, Device, Stream};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// let memory = CudaResource::new(&device);
    /// let source = Buffer::from_slice(&[1_u32, 2, 3], &Stream::new(&device)?, &memory)?;
    /// let mut copy = Buffer::<u32, _>::zeroed(3, &stream, &memory)?;
    /// copy.copy_from_buffer(&source)?;
    /// assert_eq!(copy.to_vec()?, [1, 2, 3]);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    #[track_caller]
    pub fn copy_from_buffer<S: MemoryResource>(&mut self, source: &Buffer<T, S>) -> Result<(), DeviceError> {
        self.memory.settle()?;
        self.as_view_mut().copy_from_view(source.as_view())
    }

    /// Enqueues a copy of some elements of this buffer over others, from index `to` on. The host does not wait for it.
    ///
    /// # Errors
    ///
    /// Returns [`DeviceError::OutOfRange`] if either range is not within the length, [`DeviceError::Overlap`] if they
    /// overlap, and the driver's error if it rejects the copy.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Buffer, CudaResource, Device, Stream};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// let mut buffer = Buffer::from_slice(&[1_u32, 2, 3, 4], &stream, CudaResource::new(&device))?;
    /// buffer.copy_within(2.., 0)?;
    /// assert_eq!(buffer.to_vec()?, [3, 4, 3, 4]);
    /// assert!(buffer.copy_within(0..3, 1).is_err()); // elements 1 and 2 are both source and target
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    #[track_caller]
    pub fn copy_within(&mut self, elements: impl RangeBounds<usize>, to: usize) -> Result<(), DeviceError> {
        let _site = CallSite::here();
        let from = view::resolve(elements, self.len)?;
        let to = view::resolve(to..to.saturating_add(from.len()), self.len)?;
        if from.start < to.end && to.start < from.end {
            return Err(DeviceError::Overlap { from: from.start, to: to.start, len: from.len() });
        }
        self.memory.settle()?;
        let [source, target] = [from, to].map(|elements| self.part().part(view::in_bytes::<T>(&elements)));
        // SAFETY: the two parts do not overlap, and the buffer is borrowed exclusively.
        unsafe { target.copy_from(&source) }
    }
}
