//! [`Buffer`]: its fields, its constructors, and its drop.

use crate::any::AnyResource;
use crate::block::Block;
use crate::device::Device;
use crate::device::error::DeviceError;
use crate::device::notice::{Listener, Notice};
use crate::device::stream::Stream;
use crate::error::AllocError;
use crate::kind::{self, DeviceAccessible};
use crate::layer::LayerExt;
use crate::layout;
use crate::resource::MemoryResource;
use crate::unified::auto::{AutoPrefetch, AutoPrefetchState};
use bytemuck::Pod;
use cumem_driver::BlockEvent;
use cumem_driver::call_site::CallSite;
use cumem_driver::drop_error::record_drop_error;
use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::sync::atomic::{AtomicBool, Ordering};

/// An owned array of `T` in memory of the resource `R`. The buffer holds the resource by value, by reference, or as a
/// shared handle.
///
/// Every buffer has a stream. The buffer's operations are enqueued there, in order, and its drop frees the memory
/// there. If work on another stream uses the buffer, the code that launches the work must order the streams.
/// [`set_stream`](Self::set_stream) moves the buffer to another stream and keeps the order.
///
/// If the stream is the default stream of one thread, other threads may use, resize and drop the buffer too. There the
/// host waits for the device, and the operation runs on the default stream of the calling thread. An operation that
/// changes the buffer moves it to that stream.
///
/// A buffer without elements, or with elements of zero size, takes no memory and makes no driver call.
///
/// A buffer of memory that [migrates](crate::kind::Migratable) also accepts hints, which are prefetches and advice: see
/// [`UnifiedBuffer`].
///
/// # Examples
///
/// ```
/// # use cumem::sim::Profile;
/// # use cumem::{Buffer, CudaResource, Device, Stream};
/// # let device = Device::simulated(Profile::default())?;
/// # let stream = Stream::new(&device)?;
/// let memory = CudaResource::new(&device);
/// let mut numbers = Buffer::from_slice(&[1_u32, 2, 3], &stream, &memory)?;
/// numbers.resize(5)?;
/// assert_eq!(numbers.to_vec()?, [1, 2, 3, 0, 0]);
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
pub struct Buffer<T, R: MemoryResource> {
    pub(super) block: ManuallyDrop<Block>,
    pub(super) len: usize,
    pub(super) capacity: usize,
    pub(super) stream: Stream,
    /// The stream of the resource's device, while the buffer is on a stream of another device.
    pub(super) home: Option<Stream>,
    pub(super) resource: R,
    /// True if the latest applied hint prefetched the whole buffer to the host. [`download`](Self::download) then copies on the
    /// host. If the pages have moved since, that copy is slower but still correct.
    pub(super) on_host: AtomicBool,
    pub(super) auto: Option<Box<AutoPrefetch>>,
    elements: PhantomData<T>,
}

/// A buffer of unified (managed) memory, over any stack that ends in a [`ManagedResource`](crate::ManagedResource).
/// Without a second type parameter, the type of the stack is erased.
///
/// # Examples
///
/// ```
/// # use cumem::sim::Profile;
/// # use cumem::{Device, Location, ManagedResource, Stream, UnifiedBuffer};
/// # let device = Device::simulated(Profile::default())?;
/// # let stream = Stream::new(&device)?;
/// let mut table = UnifiedBuffer::<u32, _>::zeroed(1000, &stream, ManagedResource::new(&device)?)?;
/// table.host_write()?[0] = 7;
/// assert!(table.prefetch(device.id())?.is_applied());
/// assert!(table.prefetch(Location::Host)?.is_applied());
/// assert_eq!(table.host_read()?[0], 7);
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
pub type UnifiedBuffer<T, R = AnyResource<kind::Managed>> = Buffer<T, R>;

impl<T: Pod, R: MemoryResource> Buffer<T, R> {
    /// Creates a buffer without elements, and allocates memory for `capacity` elements.
    ///
    /// # Errors
    ///
    /// Returns the errors of the resource, and [`AllocError::InvalidLayout`] if the size in bytes overflows.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Buffer, CudaResource, Device, Stream};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// let buffer = Buffer::<u32, _>::with_capacity(100, &stream, CudaResource::new(&device))?;
    /// assert_eq!((buffer.len(), buffer.capacity()), (0, 100));
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    #[track_caller]
    pub fn with_capacity(capacity: usize, stream: &Stream, resource: R) -> Result<Self, AllocError>
    where
        R: MemoryResource<Kind: DeviceAccessible>,
    {
        let _site = CallSite::here();
        let block = resource.allocate(stream, layout::array::<T>(capacity)?)?;
        block.declare(stream, BlockEvent::Allocated);
        let mut buffer = Self {
            block: ManuallyDrop::new(block),
            len: 0,
            capacity,
            stream: stream.clone(),
            home: None,
            resource,
            on_host: AtomicBool::new(false),
            auto: None,
            elements: PhantomData,
        };
        if let Some(auto) = buffer.resource.find::<AutoPrefetchState>() {
            buffer.auto = auto.observe(&buffer.block)?.map(Box::new);
        }
        Ok(buffer)
    }

    /// Creates a buffer of `len` elements whose bytes are all zero. The fill is enqueued; this function does not wait
    /// for it.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`with_capacity`](Self::with_capacity), and the driver's error if it rejects the fill.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Buffer, CudaResource, Device, Stream};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// let buffer = Buffer::<u32, _>::zeroed(3, &stream, CudaResource::new(&device))?;
    /// assert_eq!(buffer.to_vec()?, [0, 0, 0]);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    #[track_caller]
    pub fn zeroed(len: usize, stream: &Stream, resource: R) -> Result<Self, AllocError>
    where
        R: MemoryResource<Kind: DeviceAccessible>,
    {
        let _site = CallSite::here();
        let mut buffer = Self::with_capacity(len, stream, resource)?;
        buffer.fill_zero(0..len)?;
        buffer.len = len;
        Ok(buffer)
    }

    /// Creates a buffer with a copy of `data`. The copy is complete on return.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`with_capacity`](Self::with_capacity), and the driver's error if the copy fails.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Buffer, CudaResource, Device, Stream};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// let buffer = Buffer::from_slice(&[1_u32, 4, 9], &stream, CudaResource::new(&device))?;
    /// assert_eq!(buffer.to_vec()?, [1, 4, 9]);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    #[track_caller]
    pub fn from_slice(data: &[T], stream: &Stream, resource: R) -> Result<Self, AllocError>
    where
        R: MemoryResource<Kind: DeviceAccessible>,
    {
        let _site = CallSite::here();
        let mut buffer = Self::with_capacity(data.len(), stream, resource)?;
        buffer.len = data.len();
        buffer.copy_from_slice(data)?;
        Ok(buffer)
    }

    /// Creates a buffer of `len` elements whose bytes are unspecified.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`with_capacity`](Self::with_capacity).
    ///
    /// # Safety
    ///
    /// The caller must ensure that every element is written before it is read.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Buffer, CudaResource, Device, Stream};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// // SAFETY: the copy below writes all three elements before anything reads them.
    /// let mut buffer = unsafe { Buffer::<u32, _>::uninit(3, &stream, CudaResource::new(&device)) }?;
    /// buffer.copy_from_slice(&[1, 2, 3])?;
    /// assert_eq!(buffer.to_vec()?, [1, 2, 3]);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    #[track_caller]
    pub unsafe fn uninit(len: usize, stream: &Stream, resource: R) -> Result<Self, AllocError>
    where
        R: MemoryResource<Kind: DeviceAccessible>,
    {
        let mut buffer = Self::with_capacity(len, stream, resource)?;
        buffer.len = len;
        Ok(buffer)
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
    /// let buffer = Buffer::from_slice(&[1_u32, 4, 9], &stream, CudaResource::new(&device))?;
    /// assert_eq!(buffer.len(), 3);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Reports whether the buffer has no elements.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Buffer, CudaResource, Device, Stream};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// let buffer = Buffer::<u32, _>::with_capacity(100, &stream, CudaResource::new(&device))?;
    /// assert!(buffer.is_empty());
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns the number of elements that the allocated memory can hold.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Buffer, CudaResource, Device, Stream};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// let mut buffer = Buffer::from_slice(&[1_u32, 4, 9], &stream, CudaResource::new(&device))?;
    /// buffer.resize(1)?;
    /// assert_eq!((buffer.len(), buffer.capacity()), (1, 3));
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn capacity(&self) -> usize {
        self.capacity
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
    /// let buffer = Buffer::<f64, _>::zeroed(100, &stream, CudaResource::new(&device))?;
    /// assert_eq!(buffer.size_bytes(), 800);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn size_bytes(&self) -> usize {
        self.len * size_of::<T>()
    }

    /// Returns the buffer's stream.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Buffer, CudaResource, Device, Stream};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// let buffer = Buffer::<u32, _>::zeroed(3, &stream, CudaResource::new(&device))?;
    /// assert_eq!(buffer.stream().id(), stream.id());
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn stream(&self) -> &Stream {
        &self.stream
    }

    /// Returns the device of the buffer's stream.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Buffer, CudaResource, Device, Stream};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// let buffer = Buffer::<u32, _>::zeroed(3, &stream, CudaResource::new(&device))?;
    /// assert_eq!(buffer.device().id(), device.id());
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn device(&self) -> &Device {
        self.stream.device()
    }

    /// Returns the resource that allocated the buffer's memory.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Buffer, CudaResource, Device, Stream};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// let buffer = Buffer::<u32, _>::zeroed(3, &stream, CudaResource::new(&device))?;
    /// let same_memory = Buffer::<u8, _>::zeroed(10, &stream, buffer.resource())?;
    /// assert_eq!(same_memory.len(), 10);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn resource(&self) -> &R {
        &self.resource
    }

    /// Returns the buffer's memory.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Buffer, CudaResource, Device, Stream};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// let buffer = Buffer::<u32, _>::zeroed(100, &stream, CudaResource::new(&device))?;
    /// assert!(buffer.block().size() >= 400);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn block(&self) -> &Block {
        &self.block
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
    /// let buffer = Buffer::<u32, _>::zeroed(100, &stream, CudaResource::new(&device))?;
    /// let arguments = [KernelArg::new(buffer.device_address()), KernelArg::new(buffer.len() as u32)];
    /// assert_eq!(buffer.device_address() % 256, 0);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn device_address(&self) -> u64 {
        self.block.addr()
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
    /// let buffer = Buffer::<u32, _>::zeroed(100, &stream, CudaResource::new(&device))?;
    /// assert_eq!(buffer.as_ptr() as u64, buffer.device_address());
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn as_ptr(&self) -> *const T {
        self.block.as_ptr().cast()
    }

    /// Returns the address of the first element as a mutable pointer. The host may dereference it only if the kind of
    /// memory is [accessible to the host](crate::kind::HostAccessible).
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Buffer, CudaResource, Device, Stream};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// let mut buffer = Buffer::<u32, _>::zeroed(100, &stream, CudaResource::new(&device))?;
    /// assert_eq!(buffer.as_mut_ptr() as u64, buffer.device_address());
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn as_mut_ptr(&mut self) -> *mut T {
        self.block.as_ptr().cast()
    }

    /// Moves the buffer to another stream. The new stream waits for the work that is enqueued on the old one.
    ///
    /// A buffer of managed memory can move to a stream of another device of the same machine, whose work may then use
    /// the memory. The buffer's later operations run there. Its drop waits for that work on the stream that the buffer
    /// had on its own device.
    ///
    /// # Errors
    ///
    /// Returns [`DeviceError::WrongDevice`] if the stream belongs to another device, and the memory is not managed, or
    /// the device is not of the same machine, or one of both devices has no concurrent managed access. Returns the
    /// driver's error if the wait cannot be enqueued. The buffer then
    /// keeps its stream.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Buffer, CudaResource, Device, Stream};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// let mut buffer = Buffer::<u32, _>::zeroed(3, &stream, CudaResource::new(&device))?;
    /// let other = Stream::new(&device)?;
    /// buffer.set_stream(&other)?; // work on `other` now finds the zeros
    /// assert_eq!(buffer.stream().id(), other.id());
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn set_stream(&mut self, stream: &Stream) -> Result<(), DeviceError> {
        let own = self.home.as_ref().unwrap_or(&self.stream);
        let away = stream.device_id() != own.device_id();
        let concurrent = |device: &Device| device.attributes().concurrent_managed_access;
        let reachable =
            stream.device_id().same_machine(own.device_id()) && concurrent(own.device()) && concurrent(stream.device());
        if away && !(reachable && own.device().is_managed(self.block.as_ptr())?) {
            own.device().check_device("the stream", stream.device_id())?;
        }
        stream.wait_for(&self.stream)?;
        let before = std::mem::replace(&mut self.stream, stream.clone());
        self.home = match (away, self.home.take()) {
            (true, None) => Some(before),
            (true, home) => home,
            (false, _) => None,
        };
        Ok(())
    }
}

impl<T, R: MemoryResource> Buffer<T, R> {
    /// Moves the buffer to the calling thread's default stream if its stream is that of another thread.
    #[inline]
    pub(super) fn settle(&mut self) -> Result<(), DeviceError> {
        if let Cow::Owned(stream) = self.stream.usable_here()? {
            self.stream = stream;
        }
        Ok(())
    }

    /// Returns a stream of the resource's device that the calling thread may use, and that is ordered after all work of
    /// the buffer so far.
    pub(super) fn stream_of_memory(&self) -> Result<Cow<'_, Stream>, DeviceError> {
        let Some(home) = &self.home else { return self.stream.usable_here() };
        let home = home.usable_here()?;
        home.wait_for(&self.stream).or_else(|_| self.stream.finish())?;
        Ok(home)
    }

    /// Moves a buffer that is on a stream of another device back to a stream of the resource's device.
    pub(super) fn go_home(&mut self) -> Result<(), DeviceError> {
        if self.home.is_some() {
            self.stream = self.stream_of_memory()?.into_owned();
            self.home = None;
        }
        Ok(())
    }

    /// Passes a notice about this buffer's memory to the buffer's automatic prefetch, if it is on.
    pub(super) fn notify_observer(&self, notice: &Notice<'_>) {
        if let Some(auto) = &self.auto {
            auto.hear(self.stream.device_id(), notice);
        }
    }

    pub(super) fn note_on_host(&self, on_host: bool) {
        self.on_host.store(on_host, Ordering::Relaxed);
    }
}

impl<T, R: MemoryResource> Drop for Buffer<T, R> {
    fn drop(&mut self) {
        // SAFETY: only this drop takes the block, and it runs once.
        let block = unsafe { ManuallyDrop::take(&mut self.block) };
        let stream = self.stream_of_memory();
        // If the driver refuses the wait and the host cannot wait either, the resource tries again, or returns an error.
        let stream = stream.unwrap_or(Cow::Borrowed(self.home.as_ref().unwrap_or(&self.stream)));
        block.declare(&stream, BlockEvent::Freed);
        // SAFETY: all work that uses the block is on this stream or ordered before it, and no reference to the block is
        // left.
        let result = unsafe { self.resource.deallocate(&stream, block) };
        record_drop_error("a buffer", result);
    }
}

impl<T, R: MemoryResource> fmt::Debug for Buffer<T, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Buffer")
            .field("address", &format_args!("{:#x}", self.block.addr()))
            .field("len", &self.len)
            .field("capacity", &self.capacity)
            .field("stream", &self.stream)
            .finish_non_exhaustive()
    }
}
