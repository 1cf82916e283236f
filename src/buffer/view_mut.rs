//! [`BufferViewMut`]: some elements of a buffer, borrowed exclusively.

use super::part::Part;
use super::view::{BufferView, Pair, in_bytes, resolve};
use crate::device::error::DeviceError;
use crate::device::stream::Stream;
use crate::kind::{self, MemoryKind};
use std::fmt;
use std::marker::PhantomData;
use std::ops::RangeBounds;

/// Some elements of a buffer, borrowed exclusively: what `&mut [T]` is to a `Vec`. Work on the device and the host can
/// write them.
///
/// [`as_view`](Self::as_view) returns a [`BufferView`] of the same elements, which has all reads.
///
/// # Examples
///
/// ```
/// # use cumem::sim::Profile;
/// # use cumem::{Buffer, CudaResource, Device, DeviceError, Stream};
/// use cumem::buffer::BufferViewMut;
///
/// fn clear(mut numbers: BufferViewMut<'_, u32>) -> Result<(), DeviceError> {
///     numbers.zero()
/// }
///
/// # let device = Device::simulated(Profile::default())?;
/// # let stream = Stream::new(&device)?;
/// let mut buffer = Buffer::from_slice(&[1_u32, 2, 3, 4], &stream, CudaResource::new(&device))?;
/// clear(buffer.slice_mut(1..3)?.erase_kind())?;
/// assert_eq!(buffer.to_vec()?, [1, 0, 0, 4]);
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
pub struct BufferViewMut<'a, T, K = kind::Erased> {
    pub(super) part: Part<'a>,
    len: usize,
    elements: PhantomData<&'a mut [T]>,
    kind: PhantomData<K>,
}

impl<'a, T, K> BufferViewMut<'a, T, K> {
    /// Creates the view of `len` elements, which are all of `part`. No other view of them may exist.
    pub(super) fn new(part: Part<'a>, len: usize) -> Self {
        Self { part, len, elements: PhantomData, kind: PhantomData }
    }

    /// Returns a view of the same elements for reads.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Buffer, CudaResource, Device, Stream};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// let mut buffer = Buffer::from_slice(&[1_u32, 2, 3, 4], &stream, CudaResource::new(&device))?;
    /// let mut part = buffer.slice_mut(1..)?;
    /// part.set(0, 20)?;
    /// assert_eq!(part.as_view().to_vec()?, [20, 3, 4]);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn as_view(&self) -> BufferView<'_, T, K> {
        BufferView::new(self.part, self.len)
    }

    /// Returns a view of the same elements that borrows this one, for a function that takes a view by value.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Buffer, CudaResource, Device, Stream};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// let mut buffer = Buffer::from_slice(&[1_u32, 2, 3, 4], &stream, CudaResource::new(&device))?;
    /// let mut all = buffer.as_view_mut();
    /// all.as_view_mut().zero()?;
    /// all.set(0, 7)?; // `all` is usable again
    /// assert_eq!(all.as_view().to_vec()?, [7, 0, 0, 0]);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn as_view_mut(&mut self) -> BufferViewMut<'_, T, K> {
        BufferViewMut::new(self.part, self.len)
    }

    /// Returns the number of elements.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Buffer, CudaResource, Device, Stream};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// let mut buffer = Buffer::from_slice(&[1_u32, 2, 3, 4], &stream, CudaResource::new(&device))?;
    /// assert_eq!(buffer.slice_mut(1..)?.len(), 3);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn len(&self) -> usize {
        self.len
    }

    /// Reports whether the view has no elements.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Buffer, CudaResource, Device, Stream};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// let mut buffer = Buffer::from_slice(&[1_u32, 2, 3, 4], &stream, CudaResource::new(&device))?;
    /// assert!(buffer.slice_mut(2..2)?.is_empty());
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns the size of the elements, in bytes.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Buffer, CudaResource, Device, Stream};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// let mut buffer = Buffer::from_slice(&[1_u32, 2, 3, 4], &stream, CudaResource::new(&device))?;
    /// assert_eq!(buffer.slice_mut(1..)?.size_bytes(), 12);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn size_bytes(&self) -> usize {
        self.part.bytes
    }

    /// Returns the address of the first element, for kernels.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Buffer, CudaResource, Device, Stream};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// let mut buffer = Buffer::from_slice(&[1_u32, 2, 3, 4], &stream, CudaResource::new(&device))?;
    /// let address = buffer.device_address();
    /// assert_eq!(buffer.slice_mut(1..)?.device_address(), address + 4);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn device_address(&self) -> u64 {
        self.part.addr()
    }

    /// Returns the address of the first element as a pointer. The host may dereference it only if the kind of memory is
    /// [accessible to the host](crate::kind::HostAccessible).
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Buffer, CudaResource, Device, Stream};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// let mut buffer = Buffer::from_slice(&[1_u32, 2, 3, 4], &stream, CudaResource::new(&device))?;
    /// let start = buffer.as_mut_ptr();
    /// assert_eq!(buffer.slice_mut(1..)?.as_mut_ptr(), start.wrapping_add(1));
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn as_mut_ptr(&mut self) -> *mut T {
        self.part.ptr().cast()
    }

    /// Returns the stream on which the operations of the view are enqueued.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Buffer, CudaResource, Device, Stream};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// let mut buffer = Buffer::from_slice(&[1_u32, 2, 3, 4], &stream, CudaResource::new(&device))?;
    /// assert_eq!(buffer.as_view_mut().stream(), &stream);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn stream(&self) -> &'a Stream {
        self.part.stream
    }

    /// Returns the same elements with another stream, as [`BufferView::on`] does.
    ///
    /// # Errors
    ///
    /// Returns [`DeviceError::WrongDevice`] if `stream` belongs to another device.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Buffer, CudaResource, Device, Stream};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// let mut buffer = Buffer::from_slice(&[1_u32, 2, 3, 4], &stream, CudaResource::new(&device))?;
    /// let other = Stream::new(&device)?;
    /// buffer.slice_mut(1..3)?.on(&other)?.copy_from_slice(&[20, 30])?;
    /// assert_eq!(buffer.to_vec()?, [1, 20, 30, 4]);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn on(self, stream: &'a Stream) -> Result<Self, DeviceError> {
        Ok(Self::new(self.part.on(stream)?, self.len))
    }

    /// Returns a view of some of the elements.
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
    /// buffer.as_view_mut().slice_mut(1..3)?.zero()?;
    /// assert_eq!(buffer.to_vec()?, [1, 0, 0, 4]);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn slice_mut(&mut self, range: impl RangeBounds<usize>) -> Result<BufferViewMut<'_, T, K>, DeviceError> {
        let range = resolve(range, self.len)?;
        Ok(BufferViewMut::new(self.part.part(in_bytes::<T>(&range)), range.len()))
    }

    /// Returns the elements before `mid`, and those from `mid` on.
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
    /// let mut all = buffer.as_view_mut();
    /// let (mut left, right) = all.split_at_mut(2)?;
    /// left.copy_from_view(right.as_view())?;
    /// assert_eq!(buffer.to_vec()?, [3, 4, 3, 4]);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn split_at_mut(&mut self, mid: usize) -> Result<Pair<BufferViewMut<'_, T, K>>, DeviceError> {
        let (left, right) = (resolve(..mid, self.len)?, resolve(mid.., self.len)?);
        // The two halves do not overlap, and both borrow this view.
        let half = |range| BufferViewMut::new(self.part.part(in_bytes::<T>(&range)), range.len());
        Ok((half(left), half(right)))
    }
}

impl<T, K: MemoryKind> fmt::Debug for BufferViewMut<'_, T, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BufferViewMut")
            .field("address", &format_args!("{:#x}", self.part.addr()))
            .field("len", &self.len)
            .field("kind", &K::NAME)
            .field("stream", self.part.stream)
            .finish_non_exhaustive()
    }
}
