use super::leaf::{Leaf, Place, leaf_layer};
use crate::block::Block;
use crate::device::Device;
use crate::device::error::DeviceError;
use crate::device::stream::Stream;
use crate::error::{AllocError, DeallocError, TrimError};
use crate::kind;
use crate::resource::MemoryResource;
use cumem_driver::owned::OwnedPool;
use cumem_driver::{DriverError, DriverPoolUsage, RawPool};
use std::alloc::Layout;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

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
    pool: DriverPool,
    leaf: Leaf,
    /// A block was freed since a trim last waited for the device. The driver frees no memory whose free is pending.
    may_be_pending: AtomicBool,
}

/// The options of a [`CudaAsyncResource`]: the pool of the driver, and its release threshold.
///
/// # Examples
///
/// ```
/// use cumem::resources::{CudaAsyncOptions, PoolSource};
/// use cumem::sim::Profile;
/// use cumem::{CudaAsyncResource, Device};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let device = Device::simulated(Profile::default())?;
/// let options = CudaAsyncOptions::new(PoolSource::Own).release_threshold(1 << 30);
/// assert_eq!((options.get_source(), options.get_release_threshold()), (PoolSource::Own, Some(1 << 30)));
/// let resource = CudaAsyncResource::with_options(&device, options)?;
/// assert_eq!(resource.release_threshold()?, 1 << 30);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CudaAsyncOptions {
    source: PoolSource,
    release_threshold: Option<u64>,
}

/// The pool of the driver that a [`CudaAsyncResource`] allocates from.
///
/// # Examples
///
/// ```
/// use cumem::resources::{CudaAsyncOptions, PoolSource};
/// use cumem::sim::Profile;
/// use cumem::{CudaAsyncResource, Device};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let device = Device::simulated(Profile::default())?;
/// let own = CudaAsyncResource::new(&device)?;
/// let shared = CudaAsyncResource::with_options(&device, CudaAsyncOptions::new(PoolSource::Default))?;
/// assert_eq!(own.release_threshold()?, u64::MAX); // keeps all its memory
/// assert_eq!(shared.release_threshold()?, 0); // the driver's default, left as it is
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PoolSource {
    /// A new pool, which is destroyed with the resource.
    Own,
    /// The device's default pool, which all libraries of the process share.
    Default,
}

#[derive(Debug)]
enum DriverPool {
    Own(OwnedPool),
    Default(RawPool),
}

impl DriverPool {
    fn raw(&self) -> RawPool {
        match self {
            Self::Own(pool) => pool.raw(),
            Self::Default(pool) => *pool,
        }
    }
}

impl CudaAsyncOptions {
    /// Creates options for this pool, without a release threshold.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::resources::{CudaAsyncOptions, PoolSource};
    /// let options = CudaAsyncOptions::new(PoolSource::Default);
    /// assert_eq!(options.get_release_threshold(), None);
    /// ```
    pub fn new(source: PoolSource) -> Self {
        Self { source, release_threshold: None }
    }

    /// Sets the bytes that the pool keeps at a synchronization instead of freeing them to the device.
    ///
    /// Without this option, the threshold of the device's default pool is left as it is, and an own pool keeps all its
    /// memory. The driver's default of 0 bytes would cost a stall at every synchronization (RMM #2379, #2510).
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::resources::{CudaAsyncOptions, PoolSource};
    /// let options = CudaAsyncOptions::new(PoolSource::Own).release_threshold(1 << 30);
    /// assert_eq!(options.get_release_threshold(), Some(1 << 30)); // keeps at most 1 GiB at a synchronization
    /// ```
    #[must_use]
    pub fn release_threshold(mut self, bytes: u64) -> Self {
        self.release_threshold = Some(bytes);
        self
    }

    /// Returns the pool to allocate from.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::resources::{CudaAsyncOptions, PoolSource};
    /// assert_eq!(CudaAsyncOptions::default().get_source(), PoolSource::Own);
    /// ```
    pub fn get_source(&self) -> PoolSource {
        self.source
    }

    /// Returns the bytes that the pool keeps at a synchronization, or `None` if they are not set.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::resources::{CudaAsyncOptions, PoolSource};
    /// assert_eq!(CudaAsyncOptions::default().get_release_threshold(), None);
    /// ```
    pub fn get_release_threshold(&self) -> Option<u64> {
        self.release_threshold
    }
}

impl Default for CudaAsyncOptions {
    fn default() -> Self {
        Self::new(PoolSource::Own)
    }
}

impl CudaAsyncResource {
    /// Creates a resource with a new pool, which keeps all its memory.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`with_options`](Self::with_options).
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Buffer, CudaAsyncResource, Device, Stream};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// let memory = CudaAsyncResource::new(&device)?;
    /// let numbers = Buffer::from_slice(&[1, 2, 3], &stream, &memory)?;
    /// assert_eq!(numbers.to_vec()?, [1, 2, 3]);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn new(device: &Device) -> Result<Self, DriverError> {
        Self::with_options(device, CudaAsyncOptions::default())
    }

    /// Creates a resource with these options. For an example, see [`CudaAsyncOptions`].
    ///
    /// # Errors
    ///
    /// Returns [`DriverError::NotSupported`] if the device has no stream-ordered pools (some virtual GPUs), or the
    /// driver's error.
    pub fn with_options(device: &Device, options: CudaAsyncOptions) -> Result<Self, DriverError> {
        if !device.attributes().memory_pools {
            return Err(DriverError::NotSupported { what: "stream-ordered memory pools", device: device.id() });
        }
        let (driver, d) = (device.driver(), device.ordinal());
        let (pool, keep) = match options.source {
            PoolSource::Own => (DriverPool::Own(OwnedPool::new(device.raw())?), Some(u64::MAX)),
            PoolSource::Default => (DriverPool::Default(driver.default_pool(d)?), None),
        };
        if let Some(bytes) = options.release_threshold.or(keep) {
            // SAFETY: the pool is alive.
            unsafe { driver.set_release_threshold(d, pool.raw(), bytes) }?;
        }
        let leaf = Leaf::new("async", Place::Device, device);
        Ok(Self { pool, leaf, may_be_pending: AtomicBool::new(false) })
    }

    /// Returns the bytes that the pool has reserved, and the bytes of them that are in live blocks.
    ///
    /// # Errors
    ///
    /// Returns the driver's error.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Buffer, CudaAsyncResource, Device, Stream};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// let memory = CudaAsyncResource::new(&device)?;
    /// let _zeros = Buffer::<u8, _>::zeroed(1 << 20, &stream, &memory)?;
    /// let usage = memory.usage()?;
    /// assert_eq!(usage.used, 1 << 20);
    /// assert!(usage.reserved >= usage.used);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn usage(&self) -> Result<DriverPoolUsage, DriverError> {
        let device = &self.leaf.device;
        // SAFETY: the pool lives as long as `self`.
        unsafe { device.driver().pool_usage(device.ordinal(), self.pool.raw()) }
    }

    /// Returns the release threshold of the pool in bytes.
    ///
    /// # Errors
    ///
    /// Returns the driver's error.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{CudaAsyncResource, Device};
    /// # let device = Device::simulated(Profile::default())?;
    /// let memory = CudaAsyncResource::new(&device)?;
    /// assert_eq!(memory.release_threshold()?, u64::MAX); // its own pool keeps all its memory
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn release_threshold(&self) -> Result<u64, DriverError> {
        let device = &self.leaf.device;
        // SAFETY: the pool lives as long as `self`.
        unsafe { device.driver().release_threshold(device.ordinal(), self.pool.raw()) }
    }

    /// Frees unused memory of the pool to the device, until the pool holds `keep` bytes or no unused memory is left.
    /// Memory counts as unused once the stream has passed its free. [`LayerExt::trim_stack`](crate::LayerExt::trim_stack)
    /// waits for that; this function does not wait.
    ///
    /// # Errors
    ///
    /// Returns the driver's error.
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
    /// drop(Buffer::<u8, _>::zeroed(64 << 20, &stream, &resource)?);
    /// stream.synchronize()?;
    /// assert!(resource.usage()?.reserved >= 64 << 20); // the pool has kept the memory
    /// resource.trim_to(0)?;
    /// assert_eq!(resource.usage()?.reserved, 0);
    /// # Ok(())
    /// # }
    /// ```
    pub fn trim_to(&self, keep: usize) -> Result<(), DriverError> {
        let device = &self.leaf.device;
        // SAFETY: the pool lives as long as `self`.
        unsafe { device.driver().trim_pool(device.ordinal(), self.pool.raw(), keep) }
    }
}

leaf_layer! {
    CudaAsyncResource,
    /// Trims the pool of the driver. If that leaves more than `keep` bytes, the host waits for frees that are pending.
    fn trim_layer(&self, keep: usize) -> Result<usize, TrimError> {
        let reserved = || self.usage().map(|usage| usage.reserved as usize);
        let nothing = |error| TrimError::new(0, error);
        let before = reserved().map_err(nothing)?;
        let trim = || {
            self.trim_to(keep)?;
            reserved()
        };
        let left = trim().map_err(nothing)?;
        let trimmed = before.saturating_sub(left);
        if left <= keep || !self.may_be_pending.swap(false, Relaxed) {
            return Ok(trimmed);
        }
        let waited = self.leaf.device.synchronize().map_err(DeviceError::from).and_then(|()| Ok(trim()?));
        let left = waited.map_err(|error| {
            self.may_be_pending.store(true, Relaxed);
            TrimError::new(trimmed, error)
        })?;
        Ok(before.saturating_sub(left))
    }
}

// SAFETY: cuMemAllocFromPoolAsync returns device memory that no other allocation has in the order of this stream,
// aligned to 256 bytes or more, and valid until the stream passes cuMemFreeAsync.
unsafe impl MemoryResource for CudaAsyncResource {
    type Kind = kind::Device;

    fn allocate(&self, stream: &Stream, layout: Layout) -> Result<Block, AllocError> {
        let device = &self.leaf.device;
        self.leaf.allocate(stream, layout, |bytes| {
            let raw = stream.raw()?;
            // SAFETY: pool and stream are alive and belong to this device.
            Ok::<_, DeviceError>(unsafe {
                device.driver().allocate_async(device.ordinal(), self.pool.raw(), bytes, raw)
            }?)
        })
    }

    unsafe fn deallocate(&self, stream: &Stream, block: Block) -> Result<(), DeallocError> {
        let device = &self.leaf.device;
        self.leaf.deallocate(stream, block, |block| {
            let raw = stream.usable_here()?.raw()?;
            // SAFETY: this leaf made the block, and all its uses were enqueued before this point of the stream.
            unsafe { device.driver().free_async(device.ordinal(), block.as_non_null(), raw) }?;
            self.may_be_pending.store(true, Relaxed);
            Ok::<_, DeviceError>(())
        })
    }
}
