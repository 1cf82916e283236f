use super::leaf::{Leaf, Place, leaf_layer};
use crate::block::{Block, MakerId};
use crate::device::Device;
use crate::device::stream::Stream;
use crate::error::{AllocError, DeallocError};
use crate::kind;
use crate::resource::MemoryResource;
use std::alloc::Layout;

/// A leaf of device memory (`cuMemAlloc`, `cuMemFree`).
///
/// An allocation and its deallocation take about 65 µs together (`benches/README.md`, H100), and the deallocation waits
/// for the device. Use a pool over this leaf.
///
/// # Examples
///
/// ```
/// use cumem::sim::Profile;
/// use cumem::{Buffer, CudaResource, Device, Stream};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let device = Device::simulated(Profile::default())?;
/// let stream = Stream::new(&device)?;
/// let squares = Buffer::from_slice(&[1, 4, 9], &stream, CudaResource::new(&device))?;
/// assert_eq!(squares.to_vec()?, [1, 4, 9]);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct CudaResource {
    leaf: Leaf,
}

impl CudaResource {
    /// Creates a resource of `device`'s memory.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Buffer, CudaResource, Device, Stream};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// let memory = CudaResource::new(&device);
    /// let numbers = Buffer::from_slice(&[1, 2, 3], &stream, &memory)?;
    /// assert_eq!(numbers.to_vec()?, [1, 2, 3]);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn new(device: &Device) -> Self {
        Self::made_by(MakerId::unique(), device)
    }

    /// Creates a resource with an existing maker id. Resources with the same id can deallocate each other's blocks.
    pub(crate) fn made_by(maker: MakerId, device: &Device) -> Self {
        Self { leaf: Leaf::made_by(maker, "device", Place::Device, device) }
    }
}

leaf_layer!(CudaResource);

// SAFETY: cuMemAlloc returns device memory that no other allocation has, aligned to 256 bytes or more, and valid until
// cuMemFree.
unsafe impl MemoryResource for CudaResource {
    type Kind = kind::Device;

    fn allocate(&self, stream: &Stream, layout: Layout) -> Result<Block, AllocError> {
        let device = &self.leaf.device;
        self.leaf.allocate(stream, layout, |bytes| device.driver().allocate_device(device.ordinal(), bytes))
    }

    unsafe fn deallocate(&self, stream: &Stream, block: Block) -> Result<(), DeallocError> {
        let device = &self.leaf.device;
        // SAFETY: this leaf made the block. All its uses are enqueued, and the call waits for them.
        self.leaf
            .deallocate(stream, block, |block| unsafe { device.driver().free(device.ordinal(), block.as_non_null()) })
    }
}
