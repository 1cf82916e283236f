use super::async_options::CudaAsyncOptions;
use super::async_pool::{AsyncPool, pool_leaf};
use super::leaf::{Leaf, Place, leaf_layer};
use crate::block::Block;
use crate::device::Device;
use crate::device::error::DeviceError;
use crate::device::stream::Stream;
use crate::error::{AllocError, DeallocError, TrimError};
use crate::kind;
use crate::resource::MemoryResource;
use cumem_driver::{DriverError, DriverPoolUsage, PoolMemory, PoolReuse, RawPool};
use std::alloc::Layout;

/// A leaf of device memory from a stream-ordered pool of the driver (`cuMemAllocFromPoolAsync`).
///
/// # Examples
///
/// ```
/// use cumem::sim::Profile;
/// use cumem::{Buffer, CudaAsyncResource, Device, Stream};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let device = Device::simulated(Profile::default())?;
/// let stream = Stream::new(&device)?;
/// let resource = CudaAsyncResource::new(&device)?;
/// let numbers = Buffer::from_slice(&[1, 2, 3], &stream, &resource)?;
/// assert!(resource.usage()?.used >= numbers.size_bytes() as u64);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct CudaAsyncResource {
    pool: AsyncPool,
    leaf: Leaf,
}

impl CudaAsyncResource {
    const PLACE: Place = Place::Device;

    /// Creates a resource with these options. For an example, see [`CudaAsyncOptions`].
    ///
    /// # Errors
    ///
    /// Returns [`DriverError::NotSupported`] if the device has no stream-ordered pools (some virtual GPUs), or cannot
    /// export them in the form of the options, or if the options set a maximum or an export of a pool that exists already;
    /// or the driver's error.
    pub fn with_options(device: &Device, options: CudaAsyncOptions) -> Result<Self, DriverError> {
        Ok(Self::over(device, AsyncPool::new(device, PoolMemory::Device, options)?))
    }
}

pool_leaf!(CudaAsyncResource, kind::Device, "async", "device memory");
