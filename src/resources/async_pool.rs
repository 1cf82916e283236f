//! [`AsyncPool`]: a stream-ordered pool of the driver, and what the leaves over such pools have in common.

use super::async_options::{CudaAsyncOptions, PoolSource};
use super::leaf::Leaf;
use crate::block::Block;
use crate::device::Device;
use crate::device::error::DeviceError;
use crate::device::stream::Stream;
use crate::error::{AllocError, DeallocError, TrimError};
use cumem_driver::owned::{OwnedPool, OwnedStream};
use cumem_driver::{
    CudaErrorCode, DriverError, DriverPoolUsage, PoolHandle, PoolMemory, PoolProperties, PoolReuse, RawPool,
};
use std::alloc::Layout;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// A stream-ordered pool of the driver.
#[derive(Debug)]
pub(super) struct AsyncPool {
    pool: Source,
    device: Device,
    /// A block was freed since a trim last waited for the device. The driver frees no memory whose free is pending.
    may_be_pending: AtomicBool,
}

#[derive(Debug)]
enum Source {
    Own(OwnedPool),
    Shared(RawPool),
}

fn unsupported<T>(device: &Device, what: &'static str) -> Result<T, DriverError> {
    Err(DriverError::NotSupported { what, device: device.id() })
}

impl AsyncPool {
    /// Creates or finds a pool of device memory, or of other memory that the caller knows the driver to have pools of.
    pub(super) fn new(device: &Device, memory: PoolMemory, options: CudaAsyncOptions) -> Result<Self, DriverError> {
        require_pools(device)?;
        let CudaAsyncOptions { source, release_threshold, initial, maximum, handle, reuse } = options;
        let (driver, d) = (device.driver(), device.ordinal());
        if source != PoolSource::Own && (maximum, handle) != (0, PoolHandle::None) {
            return unsupported(device, "a maximum or an export of a pool that exists already");
        }
        let (pool, keep) = match source {
            PoolSource::Own => (Source::Own(create(device, memory, maximum, handle)?), Some(u64::MAX)),
            PoolSource::Default => (Source::Shared(driver.default_pool(d, memory)?), None),
            PoolSource::Current if memory == PoolMemory::Device => (Source::Shared(driver.current_pool(d)?), None),
            PoolSource::Current => return unsupported(device, "a current pool of memory other than the device's"),
        };
        let pool = Self { pool, device: device.clone(), may_be_pending: AtomicBool::new(false) };
        if let Some(bytes) = release_threshold.or(keep) {
            // SAFETY: the pool is alive.
            unsafe { driver.set_release_threshold(d, pool.raw(), bytes) }?;
        }
        for (way, on) in PoolReuse::ALL.into_iter().zip(reuse) {
            // SAFETY: the pool is alive.
            on.map_or(Ok(()), |on| unsafe { driver.set_pool_reuse(d, pool.raw(), way, on) })?;
        }
        pool.reserve(initial)?;
        Ok(pool)
    }

    /// Wraps a pool of the program.
    ///
    /// # Safety
    ///
    /// The pool is one of this device and lives as long as the result.
    pub(super) unsafe fn of_program(device: &Device, pool: RawPool) -> Result<Self, DriverError> {
        require_pools(device)?;
        if pool.0 == 0 {
            let (call, code) = ("cuMemPoolGetAttribute", CudaErrorCode::INVALID_VALUE);
            return Err(DriverError::Call { call, device: device.id(), code });
        }
        // SAFETY: the caller ensures that the pool is alive. The query fails for a pool that is not the device's.
        unsafe { device.driver().pool_usage(device.ordinal(), pool) }?;
        Ok(Self { pool: Source::Shared(pool), device: device.clone(), may_be_pending: AtomicBool::new(true) })
    }

    pub(super) fn raw(&self) -> RawPool {
        match &self.pool {
            Source::Own(pool) => pool.raw(),
            Source::Shared(pool) => *pool,
        }
    }

    /// Makes the pool reserve memory: allocates it once, and frees it again.
    fn reserve(&self, bytes: usize) -> Result<(), DriverError> {
        if bytes == 0 {
            return Ok(());
        }
        let (driver, d) = (self.device.driver(), self.device.ordinal());
        let stream = OwnedStream::new(self.device.raw(), false)?;
        // SAFETY: pool and stream are alive, and no work uses the memory.
        let memory = unsafe { driver.allocate_async(d, self.raw(), bytes, stream.raw()) }?;
        // SAFETY: the memory was just allocated on this stream, and nothing uses it.
        unsafe { driver.free_async(d, memory, stream.raw()) }?;
        // SAFETY: the stream is alive.
        unsafe { driver.synchronize_stream(d, stream.raw()) }
    }

    pub(super) fn usage(&self) -> Result<DriverPoolUsage, DriverError> {
        // SAFETY: the pool lives as long as `self`.
        unsafe { self.device.driver().pool_usage(self.device.ordinal(), self.raw()) }
    }

    pub(super) fn release_threshold(&self) -> Result<u64, DriverError> {
        // SAFETY: the pool lives as long as `self`.
        unsafe { self.device.driver().release_threshold(self.device.ordinal(), self.raw()) }
    }

    pub(super) fn reuses(&self, way: PoolReuse) -> Result<bool, DriverError> {
        // SAFETY: the pool lives as long as `self`.
        unsafe { self.device.driver().pool_reuse(self.device.ordinal(), self.raw(), way) }
    }

    pub(super) fn open_to(&self, peer: &Device) -> Result<(), DeviceError> {
        let (device, other) = (&self.device, peer.id());
        if !other.same_machine(device.id()) {
            return Err(DeviceError::WrongDevice { what: "the other device", found: other, expected: device.id() });
        }
        // SAFETY: the pool lives as long as `self`.
        Ok(unsafe { device.driver().set_pool_access(device.ordinal(), self.raw(), other.ordinal()) }?)
    }

    pub(super) fn trim_to(&self, keep: usize) -> Result<(), DriverError> {
        // SAFETY: the pool lives as long as `self`.
        unsafe { self.device.driver().trim_pool(self.device.ordinal(), self.raw(), keep) }
    }

    /// Trims the pool. If that leaves more than `keep` bytes, the host waits for frees that are pending.
    pub(super) fn trim_and_wait(&self, keep: usize) -> Result<usize, TrimError> {
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
        let waited = self.device.synchronize().map_err(DeviceError::from).and_then(|()| Ok(trim()?));
        let left = waited.map_err(|error| {
            self.may_be_pending.store(true, Relaxed);
            TrimError::new(trimmed, error)
        })?;
        Ok(before.saturating_sub(left))
    }

    pub(super) fn allocate(&self, leaf: &Leaf, stream: &Stream, layout: Layout) -> Result<Block, AllocError> {
        let device = &leaf.device;
        leaf.allocate(stream, layout, |bytes| {
            let raw = stream.raw()?;
            // SAFETY: pool and stream are alive and belong to this device.
            Ok::<_, DeviceError>(unsafe { device.driver().allocate_async(device.ordinal(), self.raw(), bytes, raw) }?)
        })
    }

    /// # Safety
    ///
    /// The contract of [`MemoryResource::deallocate`](crate::MemoryResource::deallocate).
    pub(super) unsafe fn deallocate(&self, leaf: &Leaf, stream: &Stream, block: Block) -> Result<(), DeallocError> {
        let device = &leaf.device;
        leaf.deallocate(stream, block, |block| {
            let raw = stream.usable_here()?.raw()?;
            // SAFETY: this leaf made the block, and all its uses were enqueued before this point of the stream.
            unsafe { device.driver().free_async(device.ordinal(), block.as_non_null(), raw) }?;
            self.may_be_pending.store(true, Relaxed);
            Ok::<_, DeviceError>(())
        })
    }
}

fn require_pools(device: &Device) -> Result<(), DriverError> {
    match device.attributes().memory_pools {
        true => Ok(()),
        false => unsupported(device, "stream-ordered memory pools"),
    }
}

fn create(device: &Device, memory: PoolMemory, maximum: usize, handle: PoolHandle) -> Result<OwnedPool, DriverError> {
    if !handle.is_in(device.attributes().pool_handle_types) {
        return unsupported(device, "the export of a pool in this form");
    }
    let mut properties = PoolProperties::new(memory);
    (properties.maximum, properties.handle) = (maximum, handle);
    OwnedPool::new(device.raw(), &properties)
}

/// The methods of the leaves over stream-ordered pools, with examples for each leaf, and their traits.
macro_rules! pool_leaf {
    ($resource:ident, $kind:ty, $name:literal, $safety:literal) => {
        impl $resource {
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
            /// # use cumem::{Buffer, Device, Stream};
            #[doc = concat!("use cumem::resources::", stringify!($resource), ";")]
            ///
            /// # let device = Device::simulated(Profile::default())?;
            /// # let stream = Stream::new(&device)?;
            #[doc = concat!("let memory = ", stringify!($resource), "::new(&device)?;")]
            /// let numbers = Buffer::from_slice(&[1, 2, 3], &stream, &memory)?;
            /// assert_eq!(numbers.to_vec()?, [1, 2, 3]);
            /// # Ok::<_, Box<dyn std::error::Error>>(())
            /// ```
            pub fn new(device: &Device) -> Result<Self, DriverError> {
                Self::with_options(device, CudaAsyncOptions::default())
            }

            fn over(device: &Device, pool: AsyncPool) -> Self {
                Self { pool, leaf: Leaf::new($name, Self::PLACE, device) }
            }

            /// Creates a resource over a pool that the program or another library has created. The resource does not
            /// destroy the pool, and changes none of its attributes.
            ///
            /// # Errors
            ///
            /// Returns `CUDA_ERROR_INVALID_VALUE` for a null handle, [`DriverError::NotSupported`] if the device has no
            /// stream-ordered pools, or the driver's error.
            ///
            /// # Safety
            ///
            #[doc = concat!("The handle is of a pool of ", $safety, " that this device can access, and")]
            /// that is not destroyed before the resource and all its blocks are gone.
            ///
            /// # Examples
            ///
            /// ```
            /// # use cumem::sim::Profile;
            /// # use cumem::{Buffer, Device, Stream};
            #[doc = concat!("use cumem::resources::", stringify!($resource), ";")]
            ///
            /// # let device = Device::simulated(Profile::default())?;
            /// # let stream = Stream::new(&device)?;
            #[doc = concat!("let owner = ", stringify!($resource), "::new(&device)?;")]
            /// // SAFETY: `owner` lives longer than the view.
            #[doc = concat!("let view = unsafe { ", stringify!($resource), "::from_raw_pool(&device, owner.pool_handle()) }?;")]
            /// let _zeros = Buffer::<u8, _>::zeroed(1 << 20, &stream, &view)?;
            /// assert_eq!(owner.usage()?.used, 1 << 20);
            /// # Ok::<_, Box<dyn std::error::Error>>(())
            /// ```
            pub unsafe fn from_raw_pool(device: &Device, pool: RawPool) -> Result<Self, DriverError> {
                // SAFETY: the caller ensures that the pool is the device's, and lives long enough.
                Ok(Self::over(device, unsafe { AsyncPool::of_program(device, pool) }?))
            }

            /// Returns the driver's handle of the pool (`CUmemoryPool`), which is valid as long as the resource.
            ///
            /// # Examples
            ///
            /// ```
            /// # use cumem::sim::Profile;
            /// # use cumem::Device;
            #[doc = concat!("use cumem::resources::", stringify!($resource), ";")]
            ///
            /// # let device = Device::simulated(Profile::default())?;
            #[doc = concat!("let memory = ", stringify!($resource), "::new(&device)?;")]
            /// assert_ne!(memory.pool_handle().0, 0); // for a call of the driver, such as cuMemPoolExportToShareableHandle
            /// # Ok::<_, Box<dyn std::error::Error>>(())
            /// ```
            pub fn pool_handle(&self) -> RawPool {
                self.pool.raw()
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
            /// # use cumem::{Buffer, Device, Stream};
            #[doc = concat!("use cumem::resources::", stringify!($resource), ";")]
            ///
            /// # let device = Device::simulated(Profile::default())?;
            /// # let stream = Stream::new(&device)?;
            #[doc = concat!("let memory = ", stringify!($resource), "::new(&device)?;")]
            /// let _zeros = Buffer::<u8, _>::zeroed(1 << 20, &stream, &memory)?;
            /// let usage = memory.usage()?;
            /// assert_eq!(usage.used, 1 << 20);
            /// assert!(usage.reserved >= usage.used);
            /// # Ok::<_, Box<dyn std::error::Error>>(())
            /// ```
            pub fn usage(&self) -> Result<DriverPoolUsage, DriverError> {
                self.pool.usage()
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
            /// # use cumem::Device;
            #[doc = concat!("use cumem::resources::", stringify!($resource), ";")]
            ///
            /// # let device = Device::simulated(Profile::default())?;
            #[doc = concat!("let memory = ", stringify!($resource), "::new(&device)?;")]
            /// assert_eq!(memory.release_threshold()?, u64::MAX); // its own pool keeps all its memory
            /// # Ok::<_, Box<dyn std::error::Error>>(())
            /// ```
            pub fn release_threshold(&self) -> Result<u64, DriverError> {
                self.pool.release_threshold()
            }

            /// Reports whether the pool reuses memory in this way.
            ///
            /// # Errors
            ///
            /// Returns the driver's error.
            ///
            /// # Examples
            ///
            /// ```
            /// # use cumem::sim::Profile;
            /// # use cumem::Device;
            #[doc = concat!("use cumem::resources::{", stringify!($resource), ", PoolReuse};")]
            ///
            /// # let device = Device::simulated(Profile::default())?;
            #[doc = concat!("let memory = ", stringify!($resource), "::new(&device)?;")]
            /// assert!(memory.reuses(PoolReuse::Opportunistic)?); // the driver's default
            /// # Ok::<_, Box<dyn std::error::Error>>(())
            /// ```
            pub fn reuses(&self, way: PoolReuse) -> Result<bool, DriverError> {
                self.pool.reuses(way)
            }

            /// Frees unused memory of the pool to the system, until the pool holds `keep` bytes or no unused memory is
            /// left. Memory counts as unused once the stream has passed its free.
            /// [`LayerExt::trim_stack`](crate::LayerExt::trim_stack) waits for that; this function does not wait.
            ///
            /// # Errors
            ///
            /// Returns the driver's error.
            ///
            /// # Examples
            ///
            /// ```
            /// # use cumem::sim::Profile;
            /// # use cumem::{Buffer, Device, Stream};
            #[doc = concat!("use cumem::resources::", stringify!($resource), ";")]
            ///
            /// # let device = Device::simulated(Profile::default())?;
            /// # let stream = Stream::new(&device)?;
            #[doc = concat!("let memory = ", stringify!($resource), "::new(&device)?;")]
            /// drop(Buffer::<u8, _>::zeroed(64 << 20, &stream, &memory)?);
            /// stream.synchronize()?;
            /// assert!(memory.usage()?.reserved >= 64 << 20); // the pool has kept the memory
            /// memory.trim_to(0)?;
            /// assert_eq!(memory.usage()?.reserved, 0);
            /// # Ok::<_, Box<dyn std::error::Error>>(())
            /// ```
            pub fn trim_to(&self, keep: usize) -> Result<(), DriverError> {
                self.pool.trim_to(keep)
            }

            /// Lets another device of the machine access the memory of the pool (`cuMemPoolSetAccess`).
            ///
            /// # Errors
            ///
            /// Returns [`DeviceError::WrongDevice`] for a device of another machine, and the driver's error, for example
            /// `CUDA_ERROR_INVALID_DEVICE` if the devices have no peer access.
            ///
            /// # Examples
            ///
            /// ```
            /// use cumem::Device;
            #[doc = concat!("use cumem::resources::", stringify!($resource), ";")]
            /// use cumem::sim::{Profile, Simulator};
            ///
            /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
            /// let machine = Simulator::new([Profile::default(), Profile::default()])?;
            /// let (first, second) = (Device::of_simulator(&machine, 0)?, Device::of_simulator(&machine, 1)?);
            #[doc = concat!("let memory = ", stringify!($resource), "::new(&first)?;")]
            /// memory.open_to(&second)?; // kernels of the second device may use blocks of the first
            /// # Ok(())
            /// # }
            /// ```
            pub fn open_to(&self, peer: &Device) -> Result<(), DeviceError> {
                self.pool.open_to(peer)
            }
        }

        leaf_layer! {
            $resource,
            /// Trims the pool of the driver. If that leaves more than `keep` bytes, the host waits for frees that are
            /// pending.
            fn trim_layer(&self, keep: usize) -> Result<usize, TrimError> {
                self.pool.trim_and_wait(keep)
            }
        }

        // SAFETY: cuMemAllocFromPoolAsync returns memory of the pool's kind that no other allocation has in the order of
        // this stream, aligned to 256 bytes or more, and valid until the stream passes cuMemFreeAsync.
        unsafe impl MemoryResource for $resource {
            type Kind = $kind;

            fn allocate(&self, stream: &Stream, layout: Layout) -> Result<Block, AllocError> {
                self.pool.allocate(&self.leaf, stream, layout)
            }

            unsafe fn deallocate(&self, stream: &Stream, block: Block) -> Result<(), DeallocError> {
                // SAFETY: the caller keeps the contract of this method, which is the same.
                unsafe { self.pool.deallocate(&self.leaf, stream, block) }
            }
        }
    };
}
pub(super) use pool_leaf;
