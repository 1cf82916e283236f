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

/// A leaf of ordinary host memory from the process's global allocator. The memory is zeroed.
///
/// Use it for staging memory on the host behind the interface of memory resources, and to test adaptors. It supports
/// any alignment.
///
/// # Examples
///
/// ```
/// use cumem::sim::Profile;
/// use cumem::{Device, HostResource, MemoryResource, Stream, layout};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let device = Device::simulated(Profile::default())?;
/// let stream = Stream::new(&device)?;
/// let resource = HostResource::new(&device);
/// let block = resource.allocate(&stream, layout::bytes(1000)?)?;
/// // SAFETY: the block is live host memory of 1000 bytes.
/// assert_eq!(unsafe { *block.as_ptr() }, 0);
/// // SAFETY: the resource returned the block, and nothing refers to its memory any more.
/// unsafe { resource.deallocate(&stream, block) }?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct HostResource {
    leaf: Leaf,
}

impl HostResource {
    /// Creates a resource of host memory for the streams of `device`.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Device, HostResource, MemoryResource, Stream, layout};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// let memory = HostResource::new(&device);
    /// let block = memory.allocate(&stream, layout::bytes(4096)?)?;
    /// assert_eq!(block.size(), 4096);
    /// // SAFETY: nothing uses the block.
    /// unsafe { memory.deallocate(&stream, block) }?;
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn new(device: &Device) -> Self {
        Self { leaf: Leaf::new("host", Place::Host, device) }
    }
}

leaf_layer!(HostResource);

/// Returns the layout of the host allocation behind a block of `layout`: its alignment is at least that of device
/// memory.
fn actual(layout: Layout) -> Option<Layout> {
    layout.align_to(CUDA_ALLOCATION_ALIGNMENT).ok()
}

// SAFETY: the global allocator returns zeroed memory of the requested layout that no other allocation has. It is valid
// until it is deallocated.
unsafe impl MemoryResource for HostResource {
    type Kind = kind::Host;

    fn allocate(&self, stream: &Stream, layout: Layout) -> Result<Block, AllocError> {
        let invalid = InvalidLayout { size: layout.size(), alignment: layout.align() };
        let actual = actual(layout).ok_or(invalid)?;
        self.leaf.allocate_any_alignment(stream, layout, |_| {
            // SAFETY: the leaf calls this closure only for sizes other than zero.
            let ptr = unsafe { alloc_zeroed(actual) };
            NonNull::new(ptr).ok_or_else(|| DriverError::host_out_of_memory(self.leaf.device.id()))
        })
    }

    unsafe fn deallocate(&self, stream: &Stream, block: Block) -> Result<(), DeallocError> {
        self.leaf.deallocate(stream, block, |block| {
            // The allocator is not stream-ordered (RMM's system_memory_resource waits for the same reason).
            self.leaf.finish(stream)?;
            if let Some(actual) = actual(block.layout()) {
                // SAFETY: this leaf allocated the block with this layout, and the work that uses it has ended.
                unsafe { dealloc(block.as_ptr(), actual) };
            }
            Ok::<_, DeviceError>(())
        })
    }
}
