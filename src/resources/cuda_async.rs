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

/// Device memory from a stream-ordered pool of the driver (`cuMemAllocFromPoolAsync`).
#[derive(Debug)]
pub struct CudaAsyncResource {
    pool: DriverPool,
    leaf: Leaf,
}

/// Which pool, and how much of it stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct CudaAsyncOptions {
    /// The pool to draw from.
    pub source: PoolSource,
    /// Bytes that the pool keeps at a synchronisation instead of giving them back to the device.
    /// `None` leaves the default pool as it is, and makes an own pool keep everything: the driver's own
    /// default of 0 costs a stall at every synchronisation (RMM #2379, #2510).
    pub release_threshold: Option<u64>,
}

/// Where a [`CudaAsyncResource`] draws from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PoolSource {
    /// A pool of its own, destroyed with it.
    Own,
    /// The device's default pool, shared with every library of the process.
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
    /// This pool, as it is; one of its own keeps everything.
    pub fn new(source: PoolSource) -> Self {
        Self { source, release_threshold: None }
    }

    /// Bytes that the pool keeps at a synchronisation.
    #[must_use]
    pub fn release_threshold(mut self, bytes: u64) -> Self {
        self.release_threshold = Some(bytes);
        self
    }
}

impl Default for CudaAsyncOptions {
    fn default() -> Self {
        Self::new(PoolSource::Own)
    }
}

impl CudaAsyncResource {
    /// A pool of its own that keeps what it has.
    ///
    /// # Errors
    ///
    /// Those of [`with_options`](Self::with_options).
    pub fn new(device: &Device) -> Result<Self, DriverError> {
        Self::with_options(device, CudaAsyncOptions::default())
    }

    /// The pool that `options` name.
    ///
    /// # Errors
    ///
    /// [`DriverError::NotSupported`] if the device has no pools (some virtual GPUs), or what the
    /// driver answers.
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
        Ok(Self { pool, leaf: Leaf::new("async", Place::Device, device) })
    }

    /// What the pool has reserved and handed out.
    ///
    /// # Errors
    ///
    /// What the driver answers.
    pub fn usage(&self) -> Result<DriverPoolUsage, DriverError> {
        let device = &self.leaf.device;
        // SAFETY: the pool is there for as long as `self` is.
        unsafe { device.driver().pool_usage(device.ordinal(), self.pool.raw()) }
    }

    /// The release threshold in force.
    ///
    /// # Errors
    ///
    /// What the driver answers.
    pub fn release_threshold(&self) -> Result<u64, DriverError> {
        let device = &self.leaf.device;
        // SAFETY: the pool is there for as long as `self` is.
        unsafe { device.driver().release_threshold(device.ordinal(), self.pool.raw()) }
    }

    /// Gives free memory back to the device until the pool holds `keep` bytes or nothing more is free.
    ///
    /// # Errors
    ///
    /// What the driver answers.
    pub fn trim_to(&self, keep: usize) -> Result<(), DriverError> {
        let device = &self.leaf.device;
        // SAFETY: the pool is there for as long as `self` is.
        unsafe { device.driver().trim_pool(device.ordinal(), self.pool.raw(), keep) }
    }
}

leaf_layer! {
    CudaAsyncResource,
    /// What the driver's pool keeps.
    fn trim_layer(&self, keep: usize) -> Result<usize, TrimError> {
        let nothing = |error| TrimError::new(0, error);
        let before = self.usage().map_err(nothing)?.reserved;
        self.trim_to(keep).map_err(nothing)?;
        Ok(before.saturating_sub(self.usage().map_err(nothing)?.reserved) as usize)
    }
}

// SAFETY: cuMemAllocFromPoolAsync returns memory of the device that nobody else has in this stream's
// order, aligned to 256 bytes or more, valid until the stream passes cuMemFreeAsync.
unsafe impl MemoryResource for CudaAsyncResource {
    type Kind = kind::Device;

    fn allocate(&self, stream: &Stream, layout: Layout) -> Result<Block, AllocError> {
        let device = &self.leaf.device;
        self.leaf.allocate(stream, layout, |bytes| {
            let raw = stream.raw()?;
            // SAFETY: pool and stream are alive, and of this device.
            Ok::<_, DeviceError>(unsafe {
                device.driver().allocate_async(device.ordinal(), self.pool.raw(), bytes, raw)
            }?)
        })
    }

    unsafe fn deallocate(&self, stream: &Stream, block: Block) -> Result<(), DeallocError> {
        let device = &self.leaf.device;
        self.leaf.deallocate(stream, block, |block| {
            let raw = stream.raw()?;
            // SAFETY: the block is this leaf's, and its uses were enqueued before this point of the stream.
            Ok::<_, DeviceError>(unsafe { device.driver().free_async(device.ordinal(), block.as_non_null(), raw) }?)
        })
    }
}
