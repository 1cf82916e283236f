//! [`Block`]: one allocation. `allocate` returns blocks, and `deallocate` takes them back.

use crate::device::error::DeviceError;
use crate::device::stream::Stream;
use cumem_driver::BlockEvent;
use std::alloc::Layout;
use std::ops::Range;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

/// The id of a resource that makes blocks: of a leaf, or of a suballocator such as a pool.
///
/// A resource that makes blocks creates an id at construction and stores it in each of its blocks. Its `deallocate`
/// refuses blocks with another id.
///
/// # Examples
///
/// ```
/// use cumem::resource::MakerId;
///
/// assert_ne!(MakerId::unique(), MakerId::unique());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct MakerId(u32);

impl MakerId {
    /// Creates an id that no other maker of this process has.
    ///
    /// # Panics
    ///
    /// Panics after 2³² − 1 ids.
    pub fn unique() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let next = NEXT.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_add(1));
        Self(next.expect("2^32 - 1 memory resources were made in one process"))
    }
}

/// One allocation: its address, its size, and a private tag of its maker.
///
/// A block cannot be cloned, and `deallocate` takes it by value, so the compiler rejects a double free. Adaptors pass
/// blocks on unchanged. Dropping a block leaks its memory.
///
/// # Examples
///
/// ```
/// use cumem::sim::Profile;
/// use cumem::{CudaResource, Device, MemoryResource, Stream, layout};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let device = Device::simulated(Profile::default())?;
/// let stream = Stream::new(&device)?;
/// let resource = CudaResource::new(&device);
/// let block = resource.allocate(&stream, layout::bytes(1000)?)?;
/// assert_eq!(block.size(), 1000);
/// assert!(block.addr().is_multiple_of(256));
/// // SAFETY: the resource returned the block, and nothing has used it.
/// unsafe { resource.deallocate(&stream, block) }?;
/// # Ok(())
/// # }
/// ```
#[must_use = "a dropped block leaks its memory; pass the block to `deallocate`"]
#[derive(Debug)]
pub struct Block {
    ptr: NonNull<u8>,
    size: usize,
    tag: u64,
    maker: MakerId,
    align_shift: u8,
}

// SAFETY: a block holds an address and numbers. No safe method of it accesses the memory.
unsafe impl Send for Block {}
// SAFETY: as for `Send`.
unsafe impl Sync for Block {}

impl Block {
    /// Creates a block at `ptr` for a request of `layout`. `maker` is the id of the resource that makes the block. Only
    /// the maker reads `tag`, for example to find its record of the block without a search by address.
    ///
    /// Only code that implements a memory resource needs this function. The function is safe because a block only
    /// describes memory. Passing a block that no `allocate` returned to `deallocate` breaks the contract of
    /// `deallocate`.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem::resource::MakerId;
    /// use cumem::{Block, layout};
    /// use std::ptr::NonNull;
    ///
    /// let (maker, record) = (MakerId::unique(), 7);
    /// let block = Block::new(maker, NonNull::dangling(), layout::bytes(1000)?, record);
    /// assert_eq!((block.maker(), block.tag()), (maker, record));
    /// assert_eq!(block.layout(), layout::bytes(1000)?);
    /// # Ok::<_, layout::InvalidLayout>(())
    /// ```
    #[inline]
    pub fn new(maker: MakerId, ptr: NonNull<u8>, layout: Layout, tag: u64) -> Self {
        Self { ptr, size: layout.size(), tag, maker, align_shift: layout.align().trailing_zeros() as u8 }
    }

    /// Creates the block of a request for zero bytes. Its pointer is aligned and dangling, and no resource passes it to
    /// the driver.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem::resource::MakerId;
    /// use cumem::{Block, layout};
    ///
    /// let block = Block::empty(MakerId::unique(), layout::bytes(0)?);
    /// assert_eq!(block.size(), 0);
    /// assert!(block.addr().is_multiple_of(256));
    /// # Ok::<_, cumem::AllocError>(())
    /// ```
    #[inline]
    pub fn empty(maker: MakerId, layout: Layout) -> Self {
        let align = layout.align().max(crate::layout::CUDA_ALLOCATION_ALIGNMENT);
        let ptr = NonNull::without_provenance(std::num::NonZero::new(align).unwrap_or(std::num::NonZero::<usize>::MIN));
        Self::new(maker, ptr, layout, 0)
    }

    /// Returns a pointer to the first byte. The host may use it only if the kind of the resource is host accessible.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem::sim::Profile;
    /// use cumem::{Device, MemoryResource, PinnedResource, Stream, layout};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let device = Device::simulated(Profile::default())?;
    /// let stream = Stream::new(&device)?;
    /// let resource = PinnedResource::new(&device);
    /// let block = resource.allocate(&stream, layout::bytes(1000)?)?;
    /// stream.synchronize()?;
    /// // SAFETY: the host may access pinned memory, the block has 1000 bytes, and no other work uses the block.
    /// unsafe { block.as_ptr().write_bytes(7, 1000) };
    /// // SAFETY: as above, and the bytes are initialized.
    /// assert_eq!(unsafe { block.as_ptr().add(999).read() }, 7);
    /// # // SAFETY: the resource returned the block, and nothing uses it.
    /// # unsafe { resource.deallocate(&stream, block) }?;
    /// # Ok(())
    /// # }
    /// ```
    #[inline]
    pub fn as_ptr(&self) -> *mut u8 {
        self.ptr.as_ptr()
    }

    /// Returns a non-null pointer to the first byte.
    #[inline]
    pub fn as_non_null(&self) -> NonNull<u8> {
        self.ptr
    }

    /// Returns the address of the first byte, as kernels and the driver use it.
    #[inline]
    pub fn addr(&self) -> u64 {
        self.ptr.as_ptr() as u64
    }

    /// Returns the requested bytes. The underlying memory may be larger, but only these bytes may be used.
    #[inline]
    pub fn size(&self) -> usize {
        self.size
    }

    /// Returns the requested layout.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem::sim::Profile;
    /// use cumem::{CudaResource, Device, MemoryResource, Stream};
    /// use std::alloc::Layout;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let device = Device::simulated(Profile::default())?;
    /// let stream = Stream::new(&device)?;
    /// let resource = CudaResource::new(&device);
    /// let requested = Layout::array::<f32>(100)?;
    /// let block = resource.allocate(&stream, requested)?;
    /// assert_eq!(block.layout(), requested); // the address may have a larger alignment
    /// # // SAFETY: the resource returned the block, and nothing uses it.
    /// # unsafe { resource.deallocate(&stream, block) }?;
    /// # Ok(())
    /// # }
    /// ```
    #[inline]
    pub fn layout(&self) -> Layout {
        // SAFETY: size and alignment were taken from a valid `Layout` in `new`.
        unsafe { Layout::from_size_align_unchecked(self.size, 1 << self.align_shift) }
    }

    /// Returns the private tag of the maker.
    #[inline]
    pub fn tag(&self) -> u64 {
        self.tag
    }

    /// Returns the id of the resource that made the block.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem::sim::Profile;
    /// use cumem::{CudaResource, Device, MemoryResource, Stream, layout};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let device = Device::simulated(Profile::default())?;
    /// let stream = Stream::new(&device)?;
    /// let resource = CudaResource::new(&device);
    /// let block = resource.allocate(&stream, layout::bytes(1000)?)?;
    /// let second = CudaResource::new(&device);
    /// let other = second.allocate(&stream, layout::bytes(1000)?)?;
    /// assert_ne!(block.maker(), other.maker()); // each resource accepts only its own blocks
    /// # // SAFETY: the resource returned the block, and nothing uses it.
    /// # unsafe { resource.deallocate(&stream, block) }?;
    /// # // SAFETY: as above.
    /// # unsafe { second.deallocate(&stream, other) }?;
    /// # Ok(())
    /// # }
    /// ```
    #[inline]
    pub fn maker(&self) -> MakerId {
        self.maker
    }

    /// Enqueues work on `stream` that sets each byte of `range` to `value`. For typed memory, use
    /// [`Buffer::fill`](crate::Buffer::fill). This function is for adaptors and other code that has blocks.
    ///
    /// # Errors
    ///
    /// Returns
    /// - [`DeviceError::OutOfRange`] if the range is not within the block,
    /// - [`DeviceError::HostAccess`] while a host guard over managed memory is open on a device without concurrent
    ///   managed access,
    /// - [`DeviceError::WrongThread`] for another thread's default stream,
    /// - otherwise the driver's error.
    ///
    /// # Safety
    ///
    /// The caller must ensure that
    /// - the device of `stream` can access the memory of the block,
    /// - the block stays live, and nothing uses the range in a conflicting way, until the stream has passed the fill.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem::sim::Profile;
    /// use cumem::{Device, MemoryResource, PinnedResource, Stream, layout};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let device = Device::simulated(Profile::default())?;
    /// let stream = Stream::new(&device)?;
    /// let resource = PinnedResource::new(&device);
    /// let block = resource.allocate(&stream, layout::bytes(1000)?)?;
    /// // SAFETY: devices access pinned memory. Nothing else uses the block, which is live until after the wait.
    /// unsafe { block.fill(0..1000, 7, &stream) }?;
    /// stream.synchronize()?;
    /// // SAFETY: the host may access pinned memory, and the fill is done.
    /// assert_eq!(unsafe { block.as_ptr().add(999).read() }, 7);
    /// # // SAFETY: the resource returned the block, and nothing uses it.
    /// # unsafe { resource.deallocate(&stream, block) }?;
    /// # Ok(())
    /// # }
    /// ```
    pub unsafe fn fill(&self, range: Range<usize>, value: u8, stream: &Stream) -> Result<(), DeviceError> {
        let Range { start, end } = range;
        if start > end || end > self.size {
            return Err(DeviceError::OutOfRange { start, end, size: self.size });
        }
        if start == end {
            return Ok(());
        }
        let (device, raw) = (stream.device(), stream.raw()?);
        let (at, bytes) = (self.as_ptr().wrapping_add(start), end - start);
        // SAFETY: the range is within the block. The caller ensures that it can be accessed, and for how long.
        device.enqueue(|| unsafe { device.driver().fill_async(device.ordinal(), at, value, bytes, raw) })
    }

    /// Reports to the race detector of a simulated machine that the block was allocated, or is about to be freed, on
    /// `stream`. Does nothing on a GPU.
    #[inline]
    pub(crate) fn declare(&self, stream: &Stream, event: BlockEvent) {
        if let Some(model) = stream.device().model() {
            // The stream of another thread has no handle on this one.
            model.declare(stream.device_id().ordinal(), self.addr(), self.size as u64, stream.raw().ok(), event);
        }
    }
}
