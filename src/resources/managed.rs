use super::leaf::{Leaf, Place, leaf_layer};
use crate::block::Block;
use crate::device::Device;
use crate::device::stream::Stream;
use crate::error::{AllocError, DeallocError};
use crate::kind;
use crate::resource::MemoryResource;
use cumem_driver::DriverError;
use std::alloc::Layout;

/// Unified memory (`cuMemAllocManaged`, attached globally): one address on host and devices, pages
/// that migrate to who touches them.
///
/// Costs nothing until touched, and may exceed the device's memory where the device has concurrent
/// managed access. The driver's calls take 15 to 20 µs per pair (`benches/README.md`, H100); put a pool over
/// it, and `Prefetch` outermost.
#[derive(Debug)]
pub struct ManagedResource {
    leaf: Leaf,
}

impl ManagedResource {
    /// Unified memory, allocated in the context of `device`.
    ///
    /// # Errors
    ///
    /// [`DriverError::NotSupported`] if the device cannot have any.
    pub fn new(device: &Device) -> Result<Self, DriverError> {
        if !device.attributes().managed_memory {
            return Err(DriverError::NotSupported { what: "unified memory", device: device.id() });
        }
        Ok(Self { leaf: Leaf::new("managed", Place::Managed, device) })
    }
}

leaf_layer!(ManagedResource);

// SAFETY: cuMemAllocManaged returns memory that host and devices can use and nobody else has, aligned
// to 256 bytes or more, valid until cuMemFree.
unsafe impl MemoryResource for ManagedResource {
    type Kind = kind::Managed;

    fn allocate(&self, stream: &Stream, layout: Layout) -> Result<Block, AllocError> {
        let device = &self.leaf.device;
        self.leaf.allocate(stream, layout, |bytes| device.driver().allocate_managed(device.ordinal(), bytes))
    }

    unsafe fn deallocate(&self, stream: &Stream, block: Block) -> Result<(), DeallocError> {
        let device = &self.leaf.device;
        // SAFETY: the block is this leaf's, its uses are enqueued, and the call waits for them.
        self.leaf
            .deallocate(stream, block, |block| unsafe { device.driver().free(device.ordinal(), block.as_non_null()) })
    }
}
