//! Views of the elements of a [`Buffer`].

use super::array::Buffer;
use super::part::Part;
use super::view::{self, BufferView, Pair};
use super::view_mut::BufferViewMut;
use crate::device::error::DeviceError;
use crate::resource::MemoryResource;
use std::ops::RangeBounds;

impl<T, R: MemoryResource> Buffer<T, R> {
    /// Returns a view of all elements.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Buffer, CudaResource, Device, Stream};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// let buffer = Buffer::from_slice(&[1_u32, 2, 3, 4], &stream, CudaResource::new(&device))?;
    /// assert_eq!(buffer.as_view().len(), 4);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn as_view(&self) -> BufferView<'_, T, R::Kind> {
        BufferView::new(self.part(), self.len)
    }

    /// Returns an exclusive view of all elements.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Buffer, CudaResource, Device, Stream};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// let mut buffer = Buffer::from_slice(&[1_u32, 2, 3, 4], &stream, CudaResource::new(&device))?;
    /// buffer.as_view_mut().fill(7)?;
    /// assert_eq!(buffer.to_vec()?, [7; 4]);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn as_view_mut(&mut self) -> BufferViewMut<'_, T, R::Kind> {
        BufferViewMut::new(self.part(), self.len)
    }

    /// Returns a view of some elements.
    ///
    /// # Errors
    ///
    /// Returns [`DeviceError::OutOfRange`] if the range is not within the length.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Buffer, CudaResource, Device, Stream};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// let buffer = Buffer::from_slice(&[1_u32, 2, 3, 4], &stream, CudaResource::new(&device))?;
    /// assert_eq!(buffer.slice(1..3)?.to_vec()?, [2, 3]);
    /// let error = buffer.slice(2..9).unwrap_err();
    /// assert_eq!(error.to_string(), "range 2..9 is not within 4 bytes or elements");
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn slice(&self, range: impl RangeBounds<usize>) -> Result<BufferView<'_, T, R::Kind>, DeviceError> {
        self.as_view().slice(range)
    }

    /// Returns an exclusive view of some elements.
    ///
    /// # Errors
    ///
    /// Returns [`DeviceError::OutOfRange`] if the range is not within the length.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Buffer, CudaResource, Device, Stream};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// let mut buffer = Buffer::from_slice(&[1_u32, 2, 3, 4], &stream, CudaResource::new(&device))?;
    /// buffer.slice_mut(1..3)?.copy_from_slice(&[20, 30])?;
    /// assert_eq!(buffer.to_vec()?, [1, 20, 30, 4]);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn slice_mut(&mut self, range: impl RangeBounds<usize>) -> Result<BufferViewMut<'_, T, R::Kind>, DeviceError> {
        let range = view::resolve(range, self.len)?;
        Ok(BufferViewMut::new(self.part().part(view::in_bytes::<T>(&range)), range.len()))
    }

    /// Returns views of the elements before `mid`, and of those from `mid` on.
    ///
    /// # Errors
    ///
    /// Returns [`DeviceError::OutOfRange`] if `mid` is more than the length.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Buffer, CudaResource, Device, Stream};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// let buffer = Buffer::from_slice(&[1_u32, 2, 3, 4], &stream, CudaResource::new(&device))?;
    /// let (left, right) = buffer.split_at(1)?;
    /// assert_eq!((left.to_vec()?, right.to_vec()?), (vec![1], vec![2, 3, 4]));
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn split_at(&self, mid: usize) -> Result<Pair<BufferView<'_, T, R::Kind>>, DeviceError> {
        self.as_view().split_at(mid)
    }

    /// Returns exclusive views of the elements before `mid`, and of those from `mid` on.
    ///
    /// # Errors
    ///
    /// Returns [`DeviceError::OutOfRange`] if `mid` is more than the length.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Buffer, CudaResource, Device, Stream};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// let mut buffer = Buffer::from_slice(&[1_u32, 2, 3, 4], &stream, CudaResource::new(&device))?;
    /// let (mut left, mut right) = buffer.split_at_mut(2)?;
    /// left.copy_from_view(right.as_view())?;
    /// right.zero()?;
    /// assert_eq!(buffer.to_vec()?, [3, 4, 0, 0]);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn split_at_mut(&mut self, mid: usize) -> Result<Pair<BufferViewMut<'_, T, R::Kind>>, DeviceError> {
        let (left, right) = (view::resolve(..mid, self.len)?, view::resolve(mid.., self.len)?);
        // The two halves do not overlap, and both borrow the buffer.
        let half = |range| BufferViewMut::new(self.part().part(view::in_bytes::<T>(&range)), range.len());
        Ok((half(left), half(right)))
    }

    /// Returns the bytes of the elements, as an exclusive view. A read of the elements checks the bytes that are
    /// written here, as [`Element`](super::Element) describes.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Buffer, CudaResource, Device, Stream};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// let mut buffer = Buffer::from_slice(&[1_u32, 2, 3, 4], &stream, CudaResource::new(&device))?;
    /// buffer.as_bytes_mut().slice_mut(..4)?.fill(0xff)?;
    /// assert_eq!(buffer.to_vec()?, [u32::MAX, 2, 3, 4]);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn as_bytes_mut(&mut self) -> BufferViewMut<'_, u8, R::Kind> {
        self.as_view_mut().as_bytes_mut()
    }

    /// Returns the bytes of the elements.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Buffer, CudaResource, Device, Stream};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// let buffer = Buffer::from_slice(&[1_u32, 2, 3, 4], &stream, CudaResource::new(&device))?;
    /// assert_eq!(buffer.as_bytes().len(), 16);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn as_bytes(&self) -> BufferView<'_, u8, R::Kind> {
        self.as_view().as_bytes()
    }

    pub(super) fn part(&self) -> Part<'_> {
        Part {
            block: &self.memory.block,
            start: 0,
            bytes: self.size_bytes(),
            is_whole: true,
            stream: &self.memory.stream,
            owner: &self.memory.stream,
            on_host: &self.on_host,
            auto: self.auto.as_deref(),
        }
    }
}
