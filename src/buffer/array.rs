//! [`Buffer`]: its fields, how it is created, and its drop.

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
use std::fmt;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::sync::atomic::{AtomicBool, Ordering};

/// An owned array of `T` in memory of the resource `R`, which it keeps: by value, by reference, or as
/// a shared handle.
///
/// It belongs to a stream. Its own operations run there, in order, and it is given back there when it
/// goes. Work of other streams must be ordered by its launcher: [`set_stream`](Self::set_stream) moves the buffer
/// over with the order kept.
///
/// Elements of zero size, and no elements, take no memory and no driver call.
///
/// Over memory that [migrates](crate::kind::Migratable) it also has hints: prefetch, advice, and what became
/// of them. See [`UnifiedBuffer`].
pub struct Buffer<T, R: MemoryResource> {
    pub(super) block: ManuallyDrop<Block>,
    pub(super) len: usize,
    pub(super) capacity: usize,
    pub(super) stream: Stream,
    pub(super) resource: R,
    /// The last word on the pages was a prefetch of all elements to the host. Where others have moved them since, it
    /// costs time, and nothing else.
    pub(super) on_host: AtomicBool,
    pub(super) auto: Option<Box<AutoPrefetch>>,
    elements: PhantomData<T>,
}

/// A buffer of unified memory, over any stack that ends in a
/// [`ManagedResource`](crate::ManagedResource); by default one whose type was erased.
pub type UnifiedBuffer<T, R = AnyResource<kind::Managed>> = Buffer<T, R>;

impl<T: Pod, R: MemoryResource> Buffer<T, R> {
    /// An empty buffer with room for `capacity` elements.
    ///
    /// # Errors
    ///
    /// Those of the resource, and [`AllocError::InvalidLayout`] if the size in bytes overflows.
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

    /// `len` elements of all zero bytes. The fill is enqueued, not waited for.
    ///
    /// # Errors
    ///
    /// Those of [`with_capacity`](Self::with_capacity), and what the driver answers to the fill.
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

    /// A copy of `data`, complete on return.
    ///
    /// # Errors
    ///
    /// Those of [`with_capacity`](Self::with_capacity), and what the driver answers to the copy.
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

    /// `len` elements with whatever the memory held before.
    ///
    /// # Errors
    ///
    /// Those of [`with_capacity`](Self::with_capacity).
    ///
    /// # Safety
    ///
    /// Every element is written before it is read.
    #[track_caller]
    pub unsafe fn uninit(len: usize, stream: &Stream, resource: R) -> Result<Self, AllocError>
    where
        R: MemoryResource<Kind: DeviceAccessible>,
    {
        let mut buffer = Self::with_capacity(len, stream, resource)?;
        buffer.len = len;
        Ok(buffer)
    }

    /// Elements in it.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it has no elements.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Elements that fit without another allocation.
    #[inline]
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Bytes of its elements.
    #[inline]
    pub fn size_bytes(&self) -> usize {
        self.len * size_of::<T>()
    }

    /// Its stream.
    pub fn stream(&self) -> &Stream {
        &self.stream
    }

    /// Its device.
    pub fn device(&self) -> &Device {
        self.stream.device()
    }

    /// The resource that it came from.
    pub fn resource(&self) -> &R {
        &self.resource
    }

    /// The memory behind it.
    pub fn block(&self) -> &Block {
        &self.block
    }

    /// Its address, for kernels: `KernelArg::new(buffer.device_address())`.
    #[inline]
    pub fn device_address(&self) -> u64 {
        self.block.addr()
    }

    /// Its address as a pointer. Whether the host may use it is a matter of the kind.
    #[inline]
    pub fn as_ptr(&self) -> *const T {
        self.block.as_ptr().cast()
    }

    /// Its address as a pointer to write through.
    #[inline]
    pub fn as_mut_ptr(&mut self) -> *mut T {
        self.block.as_ptr().cast()
    }

    /// Moves the buffer to another stream of its device, which is made to wait for the work enqueued on the old one.
    ///
    /// # Errors
    ///
    /// [`DeviceError::WrongDevice`], or what the driver answers; the buffer stays where it was then.
    pub fn set_stream(&mut self, stream: &Stream) -> Result<(), DeviceError> {
        self.device().check_device("the stream", stream.device_id())?;
        stream.wait_for(&self.stream)?;
        self.stream = stream.clone();
        Ok(())
    }
}

impl<T, R: MemoryResource> Buffer<T, R> {
    /// Announces something about this buffer's memory to the buffer's observer, if it has one.
    pub(super) fn tell_observer(&self, notice: &Notice<'_>) {
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
        // SAFETY: the block is taken once, here.
        let block = unsafe { ManuallyDrop::take(&mut self.block) };
        block.declare(&self.stream, BlockEvent::Freed);
        // SAFETY: the buffer's work is on this stream or ordered before it, and nothing refers to it any more.
        let result = unsafe { self.resource.deallocate(&self.stream, block) };
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
