use super::leaf::{Leaf, Place, leaf_layer};
use crate::block::Block;
use crate::device::Device;
use crate::device::error::DeviceError;
use crate::device::stream::Stream;
use crate::error::{AllocError, DeallocError};
use crate::kind;
use crate::layout::{CUDA_ALLOCATION_ALIGNMENT, InvalidLayout};
use crate::resource::MemoryResource;
use cumem_driver::{Advice, DriverError, Location};
use std::alloc::Layout;
use std::ptr::NonNull;

/// The largest alignment of a block. Pages of managed memory migrate within blocks of this size.
const ALIGNMENT: usize = 2 << 20;

/// A leaf of ordinary memory of the system (`calloc`) that the device can access, because it has pageable memory access
/// (HMM, or ATS as on Grace Hopper). Pages migrate, or the device reads them over the link, and prefetch and advice work as
/// for managed memory.
///
/// Only some systems have it; [`Attributes::pageable_memory_access`](crate::device::Attributes) says so. A page takes no
/// memory until it is touched, so allocations may exceed the memory of the device.
///
/// # Examples
///
/// ```
/// use cumem::sim::Profile;
/// use cumem::{Device, Stream, SystemResource, UnifiedBuffer};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let device = Device::simulated(Profile::gh200())?;
/// let stream = Stream::new(&device)?;
/// let mut numbers = UnifiedBuffer::from_slice(&[1, 2, 3], &stream, SystemResource::new(&device)?)?;
/// numbers.host_write()?[1] = 20;
/// let _ = numbers.prefetch(device.id())?;
/// assert_eq!(numbers.to_vec()?, [1, 20, 3]);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct SystemResource {
    headroom: Option<usize>,
    leaf: Leaf,
}

impl SystemResource {
    /// Creates a resource of the system's memory, for the streams of `device`.
    ///
    /// # Errors
    ///
    /// Returns [`DriverError::NotSupported`] if the device cannot access pageable memory.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem::sim::Profile;
    /// use cumem::{Device, SystemResource};
    ///
    /// let device = Device::simulated(Profile::default())?;
    /// let error = SystemResource::new(&device).unwrap_err().to_string();
    /// assert!(error.ends_with("does not support access to pageable memory"));
    /// # Ok::<_, cumem::DeviceError>(())
    /// ```
    pub fn new(device: &Device) -> Result<Self, DriverError> {
        if !device.attributes().pageable_memory_access {
            return Err(DriverError::NotSupported { what: "access to pageable memory", device: device.id() });
        }
        Ok(Self { headroom: None, leaf: Leaf::new("system", Place::Managed, device) })
    }

    /// Creates a resource that leaves `headroom` bytes of the device's memory to others. The beginning of a block that fits
    /// into the rest prefers the device, and the rest of the block prefers the host (RMM's `sam_headroom_memory_resource`).
    ///
    /// Each allocation queries the free memory of the device, and gives the driver up to two pieces of advice. Use a pool
    /// over the resource.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`new`](Self::new).
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem::sim::Profile;
    /// use cumem::{Device, Location, Stream, SystemResource, UnifiedBuffer};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let device = Device::simulated(Profile::gh200().with_capacity(1 << 30))?;
    /// let stream = Stream::new(&device)?;
    /// let memory = SystemResource::with_headroom(&device, 256 << 20)?;
    /// let large = UnifiedBuffer::<u8, _>::zeroed(2 << 30, &stream, &memory)?;
    /// let preferred = |range| large.slice(range)?.range_attributes().map(|found| found.preferred_location);
    /// assert_eq!(preferred(0..1 << 20)?, Some(Location::Device(device.id())));
    /// assert_eq!(preferred((2 << 30) - (1 << 20)..2 << 30)?, Some(Location::Host));
    /// # Ok(())
    /// # }
    /// ```
    pub fn with_headroom(device: &Device, headroom: usize) -> Result<Self, DriverError> {
        Ok(Self { headroom: Some(headroom), ..Self::new(device)? })
    }

    fn allocate_bytes(&self, layout: Layout) -> Result<NonNull<u8>, DriverError> {
        let (driver, d) = (self.leaf.device.driver(), self.leaf.device.ordinal());
        let start = driver.allocate_system(d, layout)?;
        let Some(headroom) = self.headroom else { return Ok(start) };
        if let Err(error) = self.split(start, layout.size(), headroom) {
            // SAFETY: the memory was just allocated with this layout, and nothing uses it.
            unsafe { driver.free_system(d, start, layout) }?;
            return Err(error);
        }
        Ok(start)
    }

    /// Advises that the beginning of a block is on the device, as far as it leaves the headroom, and the rest on the host.
    fn split(&self, start: NonNull<u8>, bytes: usize, headroom: usize) -> Result<(), DriverError> {
        let (driver, d) = (self.leaf.device.driver(), self.leaf.device.ordinal());
        let free = driver.memory_info(d)?.free.saturating_sub(headroom);
        let on_device = bytes.min(free) & !(CUDA_ALLOCATION_ALIGNMENT - 1);
        let on_device = if bytes <= free { bytes } else { on_device };
        let parts = [(0, on_device, Location::Device(self.leaf.device.id())), (on_device, bytes, Location::Host)];
        for (from, to, at) in parts.into_iter().filter(|(from, to, _)| from < to) {
            let part = start.as_ptr().wrapping_add(from);
            // SAFETY: the range was just allocated.
            unsafe { driver.advise(d, part, to - from, Advice::SetPreferredLocation(at)) }?;
        }
        Ok(())
    }
}

leaf_layer!(SystemResource);

/// Returns the layout of the allocation behind a block: its alignment is at least that of device memory.
fn actual(layout: Layout) -> Result<Layout, InvalidLayout> {
    let invalid = InvalidLayout { size: layout.size(), alignment: layout.align() };
    layout.align_to(CUDA_ALLOCATION_ALIGNMENT).map_err(|_| invalid)
}

// SAFETY: the system's allocator returns zeroed memory of the requested layout that no other allocation has, and that the
// device can use, because it has pageable memory access. It is valid until it is deallocated.
unsafe impl MemoryResource for SystemResource {
    type Kind = kind::Managed;

    fn allocate(&self, stream: &Stream, layout: Layout) -> Result<Block, AllocError> {
        let actual = actual(layout)?;
        self.leaf.allocate_aligned(stream, layout, ALIGNMENT, |_| self.allocate_bytes(actual))
    }

    unsafe fn deallocate(&self, stream: &Stream, block: Block) -> Result<(), DeallocError> {
        let device = &self.leaf.device;
        self.leaf.deallocate(stream, block, |block| {
            // The allocator is not stream-ordered (RMM's system_memory_resource waits for the same reason).
            self.leaf.finish(stream)?;
            if let Ok(layout) = actual(block.layout()) {
                // SAFETY: this leaf allocated the block with this layout, and the work that uses it has ended.
                unsafe { device.driver().free_system(device.ordinal(), block.as_non_null(), layout) }?;
            }
            Ok::<_, DeviceError>(())
        })
    }
}
