//! [`Buffer`]: its fields and its constructors.

use super::element::Element;
use super::memory::Memory;
use crate::any::AnyResource;
use crate::block::Block;
use crate::device::stream::Stream;
use crate::error::AllocError;
use crate::kind;
use crate::kind::DeviceAccessible;
use crate::layer::LayerExt;
use crate::layout;
use crate::resource::MemoryResource;
use crate::unified::auto::AutoPrefetch;
use crate::unified::auto::AutoPrefetchState;
use bytemuck::Zeroable;
use cumem_driver::BlockEvent;
use cumem_driver::call_site::CallSite;
use std::alloc::Layout;
use std::fmt;
use std::marker::PhantomData;
use std::sync::atomic::AtomicBool;

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
    pub(super) memory: Memory<R>,
    pub(super) len: usize,
    pub(super) capacity: usize,
    /// True if the latest applied hint prefetched the whole buffer to the host. [`download`](Self::download) then
    /// copies on the host. If the pages have moved since, that copy is slower but still correct.
    pub(super) on_host: AtomicBool,
    pub(super) auto: Option<Box<AutoPrefetch>>,
    pub(super) elements: PhantomData<T>,
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

impl<T: Element, R: MemoryResource> Buffer<T, R> {
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
        Self::allocate(layout::array::<T>(capacity)?, capacity, stream, resource)
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
        T: Zeroable,
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

    pub(super) fn allocate(layout: Layout, capacity: usize, stream: &Stream, resource: R) -> Result<Self, AllocError> {
        let block = resource.allocate(stream, layout)?;
        block.declare(stream, BlockEvent::Allocated);
        let mut buffer = Self::assemble(block, 0, capacity, stream.clone(), resource);
        buffer.observe()?;
        Ok(buffer)
    }

    /// Creates the buffer of a block that is ready on the stream.
    pub(super) fn assemble(block: Block, len: usize, capacity: usize, stream: Stream, resource: R) -> Self {
        Self {
            memory: Memory::new(block, stream, resource),
            len,
            capacity,
            on_host: AtomicBool::new(false),
            auto: None,
            elements: PhantomData,
        }
    }

    /// Turns automatic prefetch on if the stack has it.
    fn observe(&mut self) -> Result<(), AllocError> {
        if let Some(auto) = self.memory.resource.find::<AutoPrefetchState>() {
            self.auto = auto.observe(&self.memory.block)?.map(Box::new);
        }
        Ok(())
    }
}

impl<T, R: MemoryResource> fmt::Debug for Buffer<T, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Buffer")
            .field("address", &format_args!("{:#x}", self.memory.block.addr()))
            .field("len", &self.len)
            .field("capacity", &self.capacity)
            .field("stream", &self.memory.stream)
            .finish_non_exhaustive()
    }
}
