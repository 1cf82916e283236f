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

/// A leaf of managed memory from a stream-ordered pool of the driver (CUDA 13.0). Allocation and deallocation are
/// stream-ordered, while those of [`ManagedResource`](crate::ManagedResource) wait for the device. The pool's memory has no
/// preferred location.
///
/// # Examples
///
/// ```
/// use cumem::resources::ManagedAsyncResource;
/// use cumem::sim::Profile;
/// use cumem::{Device, Stream, UnifiedBuffer};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let device = Device::simulated(Profile::default())?;
/// let stream = Stream::new(&device)?;
/// let mut numbers = UnifiedBuffer::from_slice(&[1, 2, 3], &stream, ManagedAsyncResource::new(&device)?)?;
/// numbers.host_write()?[1] = 20; // waits for the stream
/// let _ = numbers.prefetch(device.id())?;
/// assert_eq!(numbers.to_vec()?, [1, 20, 3]);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct ManagedAsyncResource {
    pool: AsyncPool,
    leaf: Leaf,
}

impl ManagedAsyncResource {
    const PLACE: Place = Place::Managed;

    /// Creates a resource with these options.
    ///
    /// # Errors
    ///
    /// Returns [`DriverError::NotSupported`] if the driver has no pools of managed memory (before CUDA 13.0, or if a device
    /// has no concurrent managed access), if the options set a maximum or an export, which such pools do not have, or if
    /// they name the current pool; or the driver's error.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem::resources::{CudaAsyncOptions, ManagedAsyncResource, PoolSource};
    /// use cumem::sim::Profile;
    /// use cumem::Device;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let device = Device::simulated(Profile::default())?;
    /// let options = CudaAsyncOptions::new(PoolSource::Default); // RMM's cuda_async_managed_memory_resource
    /// assert_eq!(ManagedAsyncResource::with_options(&device, options)?.release_threshold()?, 0);
    ///
    /// let old = Device::simulated(Profile::wsl())?;
    /// let error = ManagedAsyncResource::new(&old).unwrap_err().to_string();
    /// assert!(error.ends_with("does not support stream-ordered pools of managed memory"));
    /// # Ok(())
    /// # }
    /// ```
    pub fn with_options(device: &Device, options: CudaAsyncOptions) -> Result<Self, DriverError> {
        let unsupported = |what| Err(DriverError::NotSupported { what, device: device.id() });
        if !device.attributes().managed_memory_pools {
            return unsupported("stream-ordered pools of managed memory");
        }
        if options.maximum > 0 || options.handle != Default::default() {
            return unsupported("a maximum or an export of a pool of managed memory");
        }
        Ok(Self::over(device, AsyncPool::new(device, PoolMemory::Managed, options)?))
    }
}

pool_leaf!(ManagedAsyncResource, kind::Managed, "managed_async", "managed memory");
