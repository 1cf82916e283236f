use super::leaf::{Leaf, Place, leaf_layer};
use crate::block::Block;
use crate::device::Device;
use crate::device::error::DeviceError;
use crate::device::stream::Stream;
use crate::error::{AllocError, DeallocError};
use crate::kind;
use crate::layout::{CUDA_ALLOCATION_ALIGNMENT, InvalidLayout};
use crate::resource::MemoryResource;
use cumem_driver::DriverError;
use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::ptr::NonNull;

/// Ordinary host memory, from the process's global allocator, zeroed.
///
/// For host-side staging behind the same interface, and for trying adaptors. Any alignment is given.
#[derive(Debug)]
pub struct HostResource {
    leaf: Leaf,
}

impl HostResource {
    /// Host memory for work with the streams of `device`.
    pub fn new(device: &Device) -> Self {
        Self { leaf: Leaf::new("host", Place::Host, device) }
    }
}

leaf_layer!(HostResource);

/// Where a block's memory came from: its layout, at least as aligned as device memory is.
fn actual(layout: Layout) -> Option<Layout> {
    layout.align_to(CUDA_ALLOCATION_ALIGNMENT).ok()
}

// SAFETY: the global allocator returns memory that nobody else has, of the layout asked for, zeroed,
// valid until it is given back.
unsafe impl MemoryResource for HostResource {
    type Kind = kind::Host;

    fn allocate(&self, stream: &Stream, layout: Layout) -> Result<Block, AllocError> {
        let invalid = InvalidLayout { size: layout.size(), alignment: layout.align() };
        let actual = actual(layout).ok_or(invalid)?;
        self.leaf.allocate_any_alignment(stream, layout, |_| {
            // SAFETY: the leaf calls this for sizes other than zero only.
            let ptr = unsafe { alloc_zeroed(actual) };
            NonNull::new(ptr).ok_or_else(|| DriverError::host_out_of_memory(self.leaf.device.id()))
        })
    }

    unsafe fn deallocate(&self, stream: &Stream, block: Block) -> Result<(), DeallocError> {
        self.leaf.deallocate(stream, block, |block| {
            // The allocator knows nothing of streams (RMM's system_memory_resource waits for the same reason).
            stream.synchronize()?;
            if let Some(actual) = actual(block.layout()) {
                // SAFETY: the block is this leaf's, allocated with this layout; the work that uses it has ended.
                unsafe { dealloc(block.as_ptr(), actual) };
            }
            Ok::<_, DeviceError>(())
        })
    }
}
