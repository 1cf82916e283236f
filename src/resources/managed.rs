use super::leaf::{Leaf, Place, leaf_layer};
use crate::block::Block;
use crate::device::Device;
use crate::device::stream::Stream;
use crate::error::{AllocError, DeallocError};
use crate::kind;
use crate::resource::MemoryResource;
use cumem_driver::DriverError;
use std::alloc::Layout;

/// A leaf of unified (managed) memory (`cuMemAllocManaged`, attached globally). Host and devices use the same address,
/// and pages migrate to the processor that touches them.
///
/// A page takes no memory until it is touched. If the device has concurrent managed access, allocations may exceed the
/// device's memory. An allocation and its deallocation take 15 to 20 µs together (`benches/README.md`, H100). Use a
/// pool over this leaf, and `Prefetch` as the outermost adaptor.
///
/// # Examples
///
/// ```
/// use cumem::sim::Profile;
/// use cumem::{Device, ManagedResource, Stream, UnifiedBuffer};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let device = Device::simulated(Profile::default())?;
/// let stream = Stream::new(&device)?;
/// let mut numbers = UnifiedBuffer::from_slice(&[1, 2, 3], &stream, ManagedResource::new(&device)?)?;
/// numbers.host_write()?[1] = 20; // the host and kernels use the same address
/// let _ = numbers.prefetch(device.id())?;
/// assert_eq!(numbers.to_vec()?, [1, 20, 3]);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct ManagedResource {
    leaf: Leaf,
}

impl ManagedResource {
    /// Creates a resource of managed memory, which is allocated in the context of `device`.
    ///
    /// # Errors
    ///
    /// Returns [`DriverError::NotSupported`] if the device does not support managed memory.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem::sim::Profile;
    /// use cumem::{Device, ManagedResource};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let device = Device::simulated(Profile::default())?;
    /// assert_eq!(ManagedResource::new(&device)?.to_string(), format!("managed on {}", device.id()));
    /// # Ok(())
    /// # }
    /// ```
    pub fn new(device: &Device) -> Result<Self, DriverError> {
        if !device.attributes().managed_memory {
            return Err(DriverError::NotSupported { what: "unified memory", device: device.id() });
        }
        Ok(Self { leaf: Leaf::new("managed", Place::Managed, device) })
    }
}

leaf_layer!(ManagedResource);

// SAFETY: cuMemAllocManaged returns memory that host and devices can use and that no other allocation has, aligned to
// 256 bytes or more, and valid until cuMemFree.
unsafe impl MemoryResource for ManagedResource {
    type Kind = kind::Managed;

    fn allocate(&self, stream: &Stream, layout: Layout) -> Result<Block, AllocError> {
        let device = &self.leaf.device;
        self.leaf.allocate(stream, layout, |bytes| device.driver().allocate_managed(device.ordinal(), bytes))
    }

    unsafe fn deallocate(&self, stream: &Stream, block: Block) -> Result<(), DeallocError> {
        let device = &self.leaf.device;
        // SAFETY: this leaf made the block. All its uses are enqueued, and the call waits for them.
        self.leaf
            .deallocate(stream, block, |block| unsafe { device.driver().free(device.ordinal(), block.as_non_null()) })
    }
}
