//! [`Scalar`]: one value on a device.

use super::array::Buffer;
use super::element::Element;
use super::view::BufferView;
use super::view_mut::BufferViewMut;
use crate::device::error::DeviceError;
use crate::device::stream::Stream;
use crate::error::AllocError;
use crate::kind::DeviceAccessible;
use crate::resource::MemoryResource;
use bytemuck::Zeroable;
use cumem_driver::call_site::CallSite;
use std::fmt;

/// One value in memory of the resource `R`, for example the result of a reduction or a counter of a kernel. The type is
/// a [`Buffer`] of one element with functions without an index.
///
/// # Examples
///
/// ```
/// use cumem::kernel::HostKernel;
/// # use cumem::sim::Profile;
/// # use cumem::{CudaResource, Device, Scalar, Stream};
///
/// # let device = Device::simulated(Profile::default())?;
/// # let stream = Stream::new(&device)?;
/// let count = Scalar::new(41_u32, &stream, CudaResource::new(&device))?;
/// let add = HostKernel::new("add", |memory| memory.write::<u32>(0)[0] += 1).writes(count.device_address(), 4);
/// // SAFETY: the kernel uses the value, which lives until the copy below has waited for the kernel.
/// unsafe { stream.launch_host(add) }?;
/// let pending = count.get_async()?; // the host can do other work here
/// assert_eq!(pending.wait()?, 42);
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
pub struct Scalar<T, R: MemoryResource> {
    pub(super) buffer: Buffer<T, R>,
}

impl<T: Element, R: MemoryResource<Kind: DeviceAccessible>> Scalar<T, R> {
    /// Creates a scalar with this value. The copy of the value is enqueued, as [`set_async`](Self::set_async) does; the
    /// host does not wait for it.
    ///
    /// # Errors
    ///
    /// Returns the errors of the resource, and the driver's error if it rejects the copy.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{CudaResource, Device, Scalar, Stream};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// let scalar = Scalar::new(7_u32, &stream, CudaResource::new(&device))?;
    /// assert_eq!(scalar.get()?, 7);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    #[track_caller]
    pub fn new(value: T, stream: &Stream, resource: R) -> Result<Self, AllocError> {
        let _site = CallSite::here();
        // SAFETY: the copy that is enqueued next writes the value.
        let mut scalar = unsafe { Self::uninit(stream, resource) }?;
        scalar.set_async(value)?;
        Ok(scalar)
    }

    /// Creates a scalar whose bytes are all zero. The fill is enqueued; the host does not wait for it.
    ///
    /// # Errors
    ///
    /// Returns the errors of the resource, and the driver's error if it rejects the fill.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{CudaResource, Device, Scalar, Stream};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// let scalar = Scalar::<u32, _>::zeroed(&stream, CudaResource::new(&device))?;
    /// assert_eq!(scalar.get()?, 0);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    #[track_caller]
    pub fn zeroed(stream: &Stream, resource: R) -> Result<Self, AllocError>
    where
        T: Zeroable,
    {
        Ok(Self { buffer: Buffer::zeroed(1, stream, resource)? })
    }

    /// Creates a scalar whose bytes are unspecified.
    ///
    /// # Errors
    ///
    /// Returns the errors of the resource.
    ///
    /// # Safety
    ///
    /// The caller must ensure that the value is written before it is read.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{CudaResource, Device, Scalar, Stream};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// // SAFETY: the value is written before it is read.
    /// let mut scalar = unsafe { Scalar::<u32, _>::uninit(&stream, CudaResource::new(&device)) }?;
    /// scalar.set(7)?;
    /// assert_eq!(scalar.get()?, 7);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    #[track_caller]
    pub unsafe fn uninit(stream: &Stream, resource: R) -> Result<Self, AllocError> {
        // SAFETY: the caller ensures that the value is written before it is read.
        Ok(Self { buffer: unsafe { Buffer::uninit(1, stream, resource) }? })
    }
}

impl<T, R: MemoryResource> Scalar<T, R> {
    /// Returns the address of the value, for kernels.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{CudaResource, Device, Scalar, Stream};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// use cumem::kernel::KernelArg;
    ///
    /// let scalar = Scalar::new(7_u32, &stream, CudaResource::new(&device))?;
    /// let argument = KernelArg::new(scalar.device_address());
    /// assert_eq!(scalar.device_address() % 256, 0);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn device_address(&self) -> u64 {
        self.buffer.device_address()
    }

    /// Returns the stream of the scalar.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{CudaResource, Device, Scalar, Stream};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// let scalar = Scalar::new(7_u32, &stream, CudaResource::new(&device))?;
    /// assert_eq!(scalar.stream(), &stream);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn stream(&self) -> &Stream {
        self.buffer.stream()
    }

    /// Moves the scalar to another stream, as [`Buffer::set_stream`] does.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Buffer::set_stream`].
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{CudaResource, Device, Scalar, Stream};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// let mut scalar = Scalar::new(7_u32, &stream, CudaResource::new(&device))?;
    /// let other = Stream::new(&device)?;
    /// scalar.set_stream(&other)?;
    /// assert_eq!((scalar.stream(), scalar.get()?), (&other, 7));
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn set_stream(&mut self, stream: &Stream) -> Result<(), DeviceError> {
        self.buffer.set_stream(stream)
    }

    /// Returns a view of the value, for example for a copy to an element of a buffer.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{CudaResource, Device, Scalar, Stream};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// use cumem::Buffer;
    ///
    /// let scalar = Scalar::new(7_u32, &stream, CudaResource::new(&device))?;
    /// let mut buffer = Buffer::<u32, _>::zeroed(3, &stream, CudaResource::new(&device))?;
    /// buffer.slice_mut(1..2)?.copy_from_view(scalar.as_view())?;
    /// assert_eq!(buffer.to_vec()?, [0, 7, 0]);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn as_view(&self) -> BufferView<'_, T, R::Kind> {
        self.buffer.as_view()
    }

    /// Returns an exclusive view of the value.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{CudaResource, Device, Scalar, Stream};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// use cumem::Buffer;
    ///
    /// let mut scalar = Scalar::new(7_u32, &stream, CudaResource::new(&device))?;
    /// let buffer = Buffer::from_slice(&[1_u32, 2, 3], &stream, CudaResource::new(&device))?;
    /// scalar.as_view_mut().copy_from_view(buffer.slice(2..)?)?;
    /// assert_eq!(scalar.get()?, 3);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn as_view_mut(&mut self) -> BufferViewMut<'_, T, R::Kind> {
        self.buffer.as_view_mut()
    }

    /// Returns the buffer of one element that holds the value.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{CudaResource, Device, Scalar, Stream};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// let scalar = Scalar::new(7_u32, &stream, CudaResource::new(&device))?;
    /// assert_eq!(scalar.into_buffer().to_vec()?, [7]);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn into_buffer(self) -> Buffer<T, R> {
        self.buffer
    }
}

impl<T, R: MemoryResource> fmt::Debug for Scalar<T, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scalar")
            .field("address", &format_args!("{:#x}", self.device_address()))
            .field("stream", self.stream())
            .finish_non_exhaustive()
    }
}
