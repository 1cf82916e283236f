//! [`BufferView`]: some elements of a buffer, borrowed.

use super::part::Part;
use crate::device::Device;
use crate::device::error::DeviceError;
use crate::device::stream::Stream;
use crate::kind::{self, MemoryKind};
use std::fmt;
use std::marker::PhantomData;
use std::ops::{Bound, Range, RangeBounds};

/// Some elements of a buffer, borrowed: what `&[T]` is to a `Vec`. Work on the device and the host can read them.
///
/// `K` is the kind of the buffer's memory. A function over any memory takes a view of kind
/// [`Erased`](kind::Erased), the default, which [`erase_kind`](Self::erase_kind) returns.
///
/// A view has the stream of its buffer. [`on`](Self::on) returns the same view with another stream.
///
/// # Examples
///
/// ```
/// # use cumem::sim::Profile;
/// # use cumem::{Buffer, CudaResource, Device, DeviceError, ManagedResource, Stream};
/// use cumem::buffer::BufferView;
///
/// fn sum(numbers: BufferView<'_, u32>) -> Result<u32, DeviceError> {
///     Ok(numbers.to_vec()?.iter().sum())
/// }
///
/// # let device = Device::simulated(Profile::default())?;
/// # let stream = Stream::new(&device)?;
/// let plain = Buffer::from_slice(&[1_u32, 2, 3, 4], &stream, CudaResource::new(&device))?;
/// let managed = Buffer::from_slice(&[10_u32, 20], &stream, ManagedResource::new(&device)?)?;
/// assert_eq!(sum(plain.slice(1..)?.erase_kind())?, 9);
/// assert_eq!(sum(managed.as_view().erase_kind())?, 30);
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
pub struct BufferView<'a, T, K = kind::Erased> {
    pub(super) part: Part<'a>,
    len: usize,
    elements: PhantomData<&'a [T]>,
    kind: PhantomData<K>,
}

/// Two views of different elements.
pub(super) type Pair<V> = (V, V);

/// Returns the range within `len` elements.
pub(super) fn resolve(range: impl RangeBounds<usize>, len: usize) -> Result<Range<usize>, DeviceError> {
    let start = match range.start_bound() {
        Bound::Included(start) => *start,
        Bound::Excluded(before) => before.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(last) => last.saturating_add(1),
        Bound::Excluded(end) => *end,
        Bound::Unbounded => len,
    };
    if start > end || end > len { Err(DeviceError::OutOfRange { start, end, size: len }) } else { Ok(start..end) }
}

/// Returns the range of elements in bytes. The elements are within a buffer, so the numbers do not overflow.
pub(super) fn in_bytes<T>(elements: &Range<usize>) -> Range<usize> {
    elements.start * size_of::<T>()..elements.end * size_of::<T>()
}

impl<'a, T, K> BufferView<'a, T, K> {
    /// Creates the view of `len` elements, which are all of `part`.
    pub(super) fn new(part: Part<'a>, len: usize) -> Self {
        Self { part, len, elements: PhantomData, kind: PhantomData }
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
    /// let buffer = Buffer::from_slice(&[1_u32, 2, 3, 4], &stream, CudaResource::new(&device))?;
    /// assert_eq!(buffer.slice(1..)?.len(), 3);
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
    /// let buffer = Buffer::from_slice(&[1_u32, 2, 3, 4], &stream, CudaResource::new(&device))?;
    /// assert!(buffer.slice(2..2)?.is_empty());
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
    /// let buffer = Buffer::from_slice(&[1_u32, 2, 3, 4], &stream, CudaResource::new(&device))?;
    /// assert_eq!(buffer.slice(1..)?.size_bytes(), 12);
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
    /// use cumem::kernel::KernelArg;
    ///
    /// let buffer = Buffer::from_slice(&[1_u32, 2, 3, 4], &stream, CudaResource::new(&device))?;
    /// let part = buffer.slice(1..)?;
    /// let arguments = [KernelArg::new(part.device_address()), KernelArg::new(part.len() as u32)];
    /// assert_eq!(part.device_address(), buffer.device_address() + 4);
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
    /// let buffer = Buffer::from_slice(&[1_u32, 2, 3, 4], &stream, CudaResource::new(&device))?;
    /// assert_eq!(buffer.slice(1..)?.as_ptr(), buffer.as_ptr().wrapping_add(1));
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn as_ptr(&self) -> *const T {
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
    /// let buffer = Buffer::from_slice(&[1_u32, 2, 3, 4], &stream, CudaResource::new(&device))?;
    /// assert_eq!(buffer.slice(1..)?.stream(), &stream);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn stream(&self) -> &'a Stream {
        self.part.stream
    }

    /// Returns the device of the stream.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Buffer, CudaResource, Device, Stream};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// let buffer = Buffer::from_slice(&[1_u32, 2, 3, 4], &stream, CudaResource::new(&device))?;
    /// assert_eq!(buffer.as_view().device(), &device);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn device(&self) -> &'a Device {
        self.part.device()
    }

    /// Returns the same elements with another stream. Each operation of the result runs on `stream`, after the work
    /// that is enqueued on the buffer's stream. Work that is enqueued on the buffer's stream later waits for the
    /// operation.
    ///
    /// Work that the program itself enqueues on `stream`, for example a kernel, is not ordered by the view.
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
    /// let buffer = Buffer::from_slice(&[1_u32, 2, 3, 4], &stream, CudaResource::new(&device))?;
    /// let other = Stream::new(&device)?;
    /// assert_eq!(buffer.slice(1..3)?.on(&other)?.to_vec()?, [2, 3]);
    /// assert_eq!(buffer.stream(), &stream); // the buffer stays on its stream
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
    /// let buffer = Buffer::from_slice(&[1_u32, 2, 3, 4], &stream, CudaResource::new(&device))?;
    /// assert_eq!(buffer.slice(1..)?.slice(..=1)?.to_vec()?, [2, 3]);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn slice(&self, range: impl RangeBounds<usize>) -> Result<Self, DeviceError> {
        let range = resolve(range, self.len)?;
        Ok(Self::new(self.part.part(in_bytes::<T>(&range)), range.len()))
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
    /// let buffer = Buffer::from_slice(&[1_u32, 2, 3, 4], &stream, CudaResource::new(&device))?;
    /// let (left, right) = buffer.as_view().split_at(1)?;
    /// assert_eq!((left.to_vec()?, right.to_vec()?), (vec![1], vec![2, 3, 4]));
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn split_at(&self, mid: usize) -> Result<(Self, Self), DeviceError> {
        Ok((self.slice(..mid)?, self.slice(mid..)?))
    }
}

impl<T, K> Clone for BufferView<'_, T, K> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T, K> Copy for BufferView<'_, T, K> {}

impl<T, K: MemoryKind> fmt::Debug for BufferView<'_, T, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BufferView")
            .field("address", &format_args!("{:#x}", self.part.addr()))
            .field("len", &self.len)
            .field("kind", &K::NAME)
            .field("stream", self.part.stream)
            .finish_non_exhaustive()
    }
}
