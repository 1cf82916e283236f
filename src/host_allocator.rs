//! [`HostAllocator`]: memory that host and device access, as the allocator of a `Vec`.

use crate::block::Block;
use crate::device::error::DeviceError;
use crate::device::notice::Notice;
use crate::device::stream::Stream;
use crate::error::AllocError;
use crate::kind::HostAccessible;
use crate::layer::LayerExt;
use crate::layout::InvalidLayout;
use crate::resource::MemoryResource;
use allocator_api2::alloc::{self, Allocator};
use cumem_driver::drop_error::{catch_drop_panic, record_drop_error};
use cumem_driver::{BlockEvent, DriverError};
use std::alloc::Layout;
use std::fmt;
use std::ptr::{self, NonNull};
use std::sync::Arc;

/// Bytes before each allocation. The block of the allocation is stored there, so that a free finds it by the address.
const HEADER: usize = 64;
const _: () = assert!(size_of::<Block>() <= HEADER && align_of::<Block>() <= HEADER);

/// The allocator of a `Vec` in memory of the resource `R`, for example pinned memory, which a device copies at the full
/// speed of the link, or managed memory, which kernels use at the same address. Available with the feature
/// `allocator-api2`.
///
/// The trait [`Allocator`] is that of the crate `allocator-api2`, re-exported as `cumem::allocator_api2`, because the
/// trait of the standard library is unstable. All collections that accept such an allocator can use it: the `Vec` and
/// the `Box` of that crate, and for example the maps of `hashbrown`.
///
/// Each allocation waits for the work on the allocator's stream, so that the host may use the memory at once. Each
/// deallocation frees in the order of that stream. So a collection may be dropped while work on the stream still uses
/// it, but not while work on other streams does.
///
/// `Vec::push` aborts the process if the resource is out of memory, as it does with every allocator. `try_reserve`
/// returns an error instead. The error of the resource is an event of `tracing`.
///
/// Clones share the resource.
///
/// # Examples
///
/// ```
/// use cumem::allocator_api2::vec::Vec;
/// use cumem::sim::Profile;
/// use cumem::{Buffer, CudaResource, Device, HostAllocator, PinnedResource, Stream};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let device = Device::simulated(Profile::default())?;
/// let stream = Stream::new(&device)?;
/// let pinned = HostAllocator::new(PinnedResource::new(&device), &stream)?;
/// let mut numbers = Vec::new_in(pinned);
/// numbers.extend(0..1000_u32);
/// // The copy engine reads the vector directly, because it is in pinned memory.
/// let buffer = Buffer::from_slice(&numbers, &stream, CudaResource::new(&device))?;
/// assert_eq!(buffer.last()?, 999);
/// # Ok(())
/// # }
/// ```
pub struct HostAllocator<R> {
    shared: Arc<Shared<R>>,
}

struct Shared<R> {
    resource: R,
    stream: Stream,
}

impl<R: MemoryResource<Kind: HostAccessible>> HostAllocator<R> {
    /// Creates an allocator that allocates and frees in the order of `stream`.
    ///
    /// # Errors
    ///
    /// Returns [`DeviceError::WrongDevice`] if the stream belongs to another device than the resource.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Device, HostAllocator, ManagedResource, Stream};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// use cumem::allocator_api2::boxed::Box as BoxIn;
    ///
    /// let managed = HostAllocator::new(ManagedResource::new(&device)?, &stream)?;
    /// let answer = BoxIn::new_in(42_u32, managed);
    /// assert!(device.pointer_info((&raw const *answer).cast()).is_ok()); // kernels may use it at this address
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn new(resource: R, stream: &Stream) -> Result<Self, DeviceError> {
        resource.device().check_device("the stream", stream.device_id())?;
        Ok(Self { shared: Arc::new(Shared { resource, stream: stream.clone() }) })
    }

    /// Returns the resource.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Device, HostAllocator, PinnedResource, Stream};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// let pinned = HostAllocator::new(PinnedResource::new(&device), &stream)?;
    /// assert_eq!(pinned.resource().to_string(), format!("pinned on {}", device.id()));
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn resource(&self) -> &R {
        &self.shared.resource
    }

    /// Returns the stream in whose order memory is freed.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Device, HostAllocator, PinnedResource, Stream};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// let pinned = HostAllocator::new(PinnedResource::new(&device), &stream)?;
    /// assert_eq!(pinned.stream(), &stream);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn stream(&self) -> &Stream {
        &self.shared.stream
    }
}

impl<R: MemoryResource<Kind: HostAccessible>> Shared<R> {
    /// Allocates memory with a header. Returns the address after the header.
    fn allocate(&self, layout: Layout) -> Result<NonNull<u8>, AllocError> {
        let offset = layout.align().max(HEADER);
        let invalid = InvalidLayout { size: layout.size(), alignment: layout.align() };
        let size = layout.size().checked_add(offset).ok_or(invalid)?;
        let whole = Layout::from_size_align(size, offset).map_err(|_| invalid)?;
        let stream = self.stream.usable_here()?;
        let block = self.resource.allocate(&stream, whole)?;
        if let Err(error) = self.begin_host_access(&stream, &block) {
            // SAFETY: the resource returned the block, and nothing has used it.
            let freed = unsafe { self.resource.deallocate(&stream, block) };
            record_drop_error("memory of a vector", freed);
            return Err(error.into());
        }
        block.declare(&stream, BlockEvent::Allocated);
        // SAFETY: the block has `offset` bytes and more.
        let start = unsafe { block.as_non_null().add(offset) };
        // SAFETY: the header lies before `start`, within the block.
        let header = unsafe { start.sub(HEADER) }.cast::<Block>();
        // SAFETY: the host may write the block, whose alignment is a multiple of that of the header. Nothing else uses
        // it.
        unsafe { header.write(block) };
        Ok(start)
    }

    /// Waits until the host may use the block, and announces the first use.
    fn begin_host_access(&self, stream: &Stream, block: &Block) -> Result<(), DeviceError> {
        let device = stream.device();
        // There the host may use managed memory only while the device is idle, which a vector cannot ensure.
        if device.host_gate().is_some() && device.is_managed(block.as_ptr())? {
            let what = "a vector in managed memory";
            return Err(DriverError::NotSupported { what, device: device.id() }.into());
        }
        stream.finish()?;
        let (addr, bytes, write) = (block.addr(), block.size(), true);
        device.driver().host_access(device.ordinal(), block.as_ptr(), bytes, write)?;
        device.tell(&Notice::HostAccess { addr, bytes, write });
        Ok(())
    }
}

// SAFETY: each allocation is a block of the resource, which stays valid until its deallocation, also when the allocator
// is moved. Clones share the resource. The blocks have room for the layout after the header.
unsafe impl<R: MemoryResource<Kind: HostAccessible>> Allocator for HostAllocator<R> {
    fn allocate(&self, layout: Layout) -> Result<NonNull<[u8]>, alloc::AllocError> {
        if layout.size() == 0 {
            let dangling = NonNull::new(ptr::without_provenance_mut(layout.align())).ok_or(alloc::AllocError)?;
            return Ok(NonNull::slice_from_raw_parts(dangling, 0));
        }
        match self.shared.allocate(layout) {
            Ok(start) => Ok(NonNull::slice_from_raw_parts(start, layout.size())),
            Err(error) => {
                tracing::debug!(%error, bytes = layout.size(), "an allocation of a vector failed");
                Err(alloc::AllocError)
            }
        }
    }

    unsafe fn deallocate(&self, start: NonNull<u8>, layout: Layout) {
        if layout.size() == 0 {
            return;
        }
        // SAFETY: `allocate` returned `start`, which is this far behind the header.
        let header = unsafe { start.sub(HEADER) }.cast::<Block>();
        // SAFETY: `allocate` has written the block there, and each allocation is deallocated once.
        let block = unsafe { header.read() };
        let Shared { resource, stream } = &*self.shared;
        catch_drop_panic("a vector", Some(stream.device_id()), || {
            // If the host cannot wait, the resource tries again, or returns an error.
            let stream = stream.usable_here().unwrap_or(std::borrow::Cow::Borrowed(stream));
            block.declare(&stream, BlockEvent::Freed);
            // SAFETY: the resource returned the block. The host uses it no more, and work of the device that uses it is
            // on this stream.
            let freed = unsafe { resource.deallocate(&stream, block) };
            record_drop_error("memory of a vector", freed);
        });
    }
}

impl<R> Clone for HostAllocator<R> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<R: MemoryResource> fmt::Debug for HostAllocator<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HostAllocator").field("stream", &self.shared.stream).finish_non_exhaustive()
    }
}
