use super::leaf::{Leaf, Place, leaf_layer};
use crate::block::Block;
use crate::device::Device;
use crate::device::error::DeviceError;
use crate::device::stream::Stream;
use crate::error::{AllocError, DeallocError};
use crate::kind;
use crate::resource::MemoryResource;
use std::alloc::Layout;

/// Page-locked host memory (`cuMemAllocHost`): copies to and from it run at the speed of the link,
/// and kernels reach it over the link.
///
/// Very slow to get, about 0.8 ms per pair (`benches/README.md`, an H100's host); put a pool over it.
#[derive(Debug)]
pub struct PinnedResource {
    leaf: Leaf,
}

impl PinnedResource {
    /// Page-locked memory for `device`.
    pub fn new(device: &Device) -> Self {
        Self { leaf: Leaf::new("pinned", Place::Host, device) }
    }
}

leaf_layer!(PinnedResource);

// SAFETY: cuMemAllocHost returns memory of whole pages that nobody else has, which host and devices can
// use, valid until cuMemFreeHost.
unsafe impl MemoryResource for PinnedResource {
    type Kind = kind::Pinned;

    fn allocate(&self, stream: &Stream, layout: Layout) -> Result<Block, AllocError> {
        let device = &self.leaf.device;
        self.leaf.allocate(stream, layout, |bytes| device.driver().allocate_pinned(device.ordinal(), bytes))
    }

    unsafe fn deallocate(&self, stream: &Stream, block: Block) -> Result<(), DeallocError> {
        let device = &self.leaf.device;
        self.leaf.deallocate(stream, block, |block| {
            // The driver frees host memory without waiting for the copies that use it.
            stream.synchronize()?;
            // SAFETY: the block is this leaf's, and the work that uses it has ended.
            Ok::<_, DeviceError>(unsafe { device.driver().free_pinned(device.ordinal(), block.as_non_null()) }?)
        })
    }
}
