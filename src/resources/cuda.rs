use super::leaf::{Leaf, Place, leaf_layer};
use crate::block::{Block, MakerId};
use crate::device::Device;
use crate::device::stream::Stream;
use crate::error::{AllocError, DeallocError};
use crate::kind;
use crate::resource::MemoryResource;
use std::alloc::Layout;

/// Device memory straight from the driver (`cuMemAlloc`, `cuMemFree`).
///
/// Simple and slow: about 65 µs per pair (`benches/README.md`, H100), and the free waits for the device. Put a pool over
/// it.
#[derive(Debug)]
pub struct CudaResource {
    leaf: Leaf,
}

impl CudaResource {
    /// Memory of `device`.
    pub fn new(device: &Device) -> Self {
        Self::made_by(MakerId::unique(), device)
    }

    /// One of several that stand for the same resource.
    pub(crate) fn made_by(maker: MakerId, device: &Device) -> Self {
        Self { leaf: Leaf::made_by(maker, "device", Place::Device, device) }
    }
}

leaf_layer!(CudaResource);

// SAFETY: cuMemAlloc returns memory of the device that nobody else has, aligned to 256 bytes or more,
// valid until cuMemFree.
unsafe impl MemoryResource for CudaResource {
    type Kind = kind::Device;

    fn allocate(&self, stream: &Stream, layout: Layout) -> Result<Block, AllocError> {
        let device = &self.leaf.device;
        self.leaf.allocate(stream, layout, |bytes| device.driver().allocate_device(device.ordinal(), bytes))
    }

    unsafe fn deallocate(&self, stream: &Stream, block: Block) -> Result<(), DeallocError> {
        let device = &self.leaf.device;
        // SAFETY: the block is this leaf's, its uses are enqueued, and the call waits for them.
        self.leaf
            .deallocate(stream, block, |block| unsafe { device.driver().free(device.ordinal(), block.as_non_null()) })
    }
}
