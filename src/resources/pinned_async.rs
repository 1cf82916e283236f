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

/// A leaf of pinned host memory from a stream-ordered pool of the driver. Allocation and deallocation are stream-ordered,
/// while those of [`PinnedResource`](crate::PinnedResource) take about 0.8 ms. The device can access the memory.
///
/// # Examples
///
/// ```
/// use cumem::resources::PinnedAsyncResource;
/// use cumem::sim::Profile;
/// use cumem::{Buffer, Device, Stream};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let device = Device::simulated(Profile::default())?;
/// let stream = Stream::new(&device)?;
/// let mut numbers = Buffer::from_slice(&[1, 2, 3], &stream, PinnedAsyncResource::new(&device)?)?;
/// numbers.host_write()?[1] = 20;
/// assert_eq!(numbers.to_vec()?, [1, 20, 3]);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct PinnedAsyncResource {
    pool: AsyncPool,
    leaf: Leaf,
}

impl PinnedAsyncResource {
    const PLACE: Place = Place::Host;

    /// Creates a resource with these options.
    ///
    /// # Errors
    ///
    /// Returns [`DriverError::NotSupported`] if the device has no pools of pinned memory, if the options set an export,
    /// which such pools do not have, or a maximum of a pool that exists already, or if they name the current pool; or the
    /// driver's error.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem::resources::{CudaAsyncOptions, PinnedAsyncResource};
    /// use cumem::sim::Profile;
    /// use cumem::Device;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let device = Device::simulated(Profile::default())?;
    /// let options = CudaAsyncOptions::default().initial_size(64 << 20).maximum_size(1 << 30);
    /// let memory = PinnedAsyncResource::with_options(&device, options)?;
    /// assert!(memory.usage()?.reserved >= 64 << 20);
    /// # Ok(())
    /// # }
    /// ```
    pub fn with_options(device: &Device, options: CudaAsyncOptions) -> Result<Self, DriverError> {
        Self::of_memory(device, PoolMemory::Host, device.attributes().host_memory_pools, options)
    }

    /// Creates a resource whose memory is all of one NUMA node of the host.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`with_options`](Self::with_options), and `CUDA_ERROR_INVALID_VALUE` or another code of the
    /// driver for a node that does not exist.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem::resources::{CudaAsyncOptions, PinnedAsyncResource};
    /// use cumem::sim::Profile;
    /// use cumem::Device;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let device = Device::simulated(Profile::default())?;
    /// let node = device.attributes().host_numa_node.unwrap_or(0); // the closest one
    /// let _memory = PinnedAsyncResource::on_node(&device, node, CudaAsyncOptions::default())?;
    /// assert!(PinnedAsyncResource::on_node(&device, 77, CudaAsyncOptions::default()).is_err());
    /// # Ok(())
    /// # }
    /// ```
    pub fn on_node(device: &Device, node: u32, options: CudaAsyncOptions) -> Result<Self, DriverError> {
        Self::of_memory(device, PoolMemory::HostNuma(node), device.attributes().host_numa_memory_pools, options)
    }

    fn of_memory(
        device: &Device,
        memory: PoolMemory,
        supported: bool,
        options: CudaAsyncOptions,
    ) -> Result<Self, DriverError> {
        let unsupported = |what| Err(DriverError::NotSupported { what, device: device.id() });
        if !supported {
            return unsupported("stream-ordered pools of pinned memory");
        }
        if options.handle != Default::default() {
            return unsupported("an export of a pool of pinned memory");
        }
        Ok(Self::over(device, AsyncPool::new(device, memory, options)?))
    }
}

pool_leaf!(PinnedAsyncResource, kind::Pinned, "pinned_async", "pinned memory");
