//! Stream-ordered memory pools (drivers from CUDA 11.2). cust has no wrapper for these calls.

use super::context::Active;
use super::graphs::relaxed;
use super::state::CudaDriver;
use super::sys::{self, MemGetDefaultMemPool, MemLocation, MemPoolProps, address, handle, number};
use crate::error::DriverError;
use crate::facts::DriverPoolUsage;
use crate::pool::{PoolMemory, PoolProperties, PoolReuse};
use crate::raw::{RawPool, RawStream};
use cust::sys::{
    CUmemAccess_flags, CUmemAccessDesc, CUmemLocation, CUmemLocationType, CUmemPool_attribute as Attribute,
};
use std::ffi::{c_int, c_void};
use std::mem;
use std::ptr::{self, NonNull};

/// The functions that this module calls. All came with CUDA 11.2; the module checks that the driver has each of them.
const SYMBOLS: [&str; 10] = [
    "cuDeviceGetDefaultMemPool",
    "cuDeviceGetMemPool",
    "cuMemPoolSetAccess",
    "cuMemPoolCreate",
    "cuMemPoolDestroy",
    "cuMemPoolSetAttribute",
    "cuMemPoolGetAttribute",
    "cuMemPoolTrimTo",
    "cuMemAllocFromPoolAsync",
    "cuMemFreeAsync",
];

impl CudaDriver {
    /// Checks that the driver has memory pools. Called before a pool exists, so that calls with a pool need no check.
    fn require_pools(&self) -> Result<(), DriverError> {
        let require = || SYMBOLS.iter().try_for_each(|symbol| self.symbol(symbol).map(drop));
        self.pools.get_or_init(require).clone()
    }
}

// Values of `CUmemAllocationType`.
const PINNED: c_int = 1;
const MANAGED: c_int = 2;

// Values of `CUmemLocationType`.
const NOWHERE: c_int = 0;
const DEVICE: c_int = 1;
const HOST: c_int = 2;
const HOST_NUMA: c_int = 3;

const READ_AND_WRITE: CUmemAccess_flags = CUmemAccess_flags::CU_MEM_ACCESS_FLAGS_PROT_READWRITE;

impl Active<'_> {
    /// Returns the type of allocation and the location of a pool.
    fn pool_place(&self, memory: PoolMemory) -> (c_int, MemLocation) {
        let (allocation, kind, id) = match memory {
            PoolMemory::Device => (PINNED, DEVICE, self.device()),
            PoolMemory::Managed => (MANAGED, NOWHERE, 0),
            PoolMemory::Host => (PINNED, HOST, 0),
            // A number that is too large becomes the maximum, which the driver rejects.
            PoolMemory::HostNuma(node) => (PINNED, HOST_NUMA, c_int::try_from(node).unwrap_or(c_int::MAX)),
        };
        (allocation, MemLocation { kind, id })
    }

    pub(super) fn default_pool(&self, memory: PoolMemory) -> Result<RawPool, DriverError> {
        self.driver.require_pools()?;
        let mut pool = ptr::null_mut();
        if memory == PoolMemory::Device {
            // SAFETY: `pool` is writable.
            let code = relaxed(|| unsafe { sys::cuDeviceGetDefaultMemPool(&raw mut pool, self.device()) });
            self.check("cuDeviceGetDefaultMemPool", code)?;
            return self.created("cuDeviceGetDefaultMemPool", number(pool)).map(RawPool);
        }
        let symbol = self.driver.symbol("cuMemGetDefaultMemPool")?;
        // SAFETY: the type is that of the driver's function with this name.
        let call = unsafe { mem::transmute::<NonNull<c_void>, MemGetDefaultMemPool>(symbol) };
        let (allocation, mut location) = self.pool_place(memory);
        // SAFETY: `pool` is writable, and `location` is complete.
        let code = relaxed(|| unsafe { call(&raw mut pool, &raw mut location, allocation) });
        self.check("cuMemGetDefaultMemPool", code)?;
        let pool = self.created("cuMemGetDefaultMemPool", number(pool)).map(RawPool)?;
        self.open_host_pool(memory, pool)?;
        Ok(pool)
    }

    pub(super) fn current_pool(&self) -> Result<RawPool, DriverError> {
        self.driver.require_pools()?;
        let mut pool = ptr::null_mut();
        // SAFETY: `pool` is writable.
        let code = relaxed(|| unsafe { sys::cuDeviceGetMemPool(&raw mut pool, self.device()) });
        self.check("cuDeviceGetMemPool", code)?;
        self.created("cuDeviceGetMemPool", number(pool)).map(RawPool)
    }

    pub(super) fn create_pool(&self, of: &PoolProperties) -> Result<RawPool, DriverError> {
        self.driver.require_pools()?;
        let (allocation, location) = self.pool_place(of.memory);
        let properties = MemPoolProps {
            allocation,
            handles: of.handle.bit().cast_signed(),
            location,
            win32_security: ptr::null_mut(),
            maximum: of.maximum,
            usage: 0,
            reserved: [0; 54],
        };
        let mut pool = ptr::null_mut();
        // SAFETY: `pool` is writable, and `properties` is complete.
        let code = relaxed(|| unsafe { sys::cuMemPoolCreate(&raw mut pool, &raw const properties) });
        self.check("cuMemPoolCreate", code)?;
        let pool = self.created("cuMemPoolCreate", number(pool)).map(RawPool)?;
        if let Err(error) = self.open_host_pool(of.memory, pool) {
            // SAFETY: the pool was just created, and has no memory.
            unsafe { self.destroy_pool(pool) }?;
            return Err(error);
        }
        Ok(pool)
    }

    /// Lets the device access the memory of a pool of host memory, which at first only the host can access.
    fn open_host_pool(&self, memory: PoolMemory, pool: RawPool) -> Result<(), DriverError> {
        match memory {
            // SAFETY: the pool was just created, or is one of the driver.
            PoolMemory::Host | PoolMemory::HostNuma(_) => unsafe { self.set_pool_access(pool, self.id.ordinal()) },
            PoolMemory::Device | PoolMemory::Managed => Ok(()),
        }
    }

    /// # Safety
    ///
    /// The pool is live.
    pub(super) unsafe fn set_pool_access(&self, pool: RawPool, peer: u32) -> Result<(), DriverError> {
        let location = CUmemLocation {
            type_: CUmemLocationType::CU_MEM_LOCATION_TYPE_DEVICE,
            id: c_int::try_from(peer).unwrap_or(c_int::MAX),
        };
        let access = CUmemAccessDesc { location, flags: READ_AND_WRITE };
        // SAFETY: `access` is complete. The caller ensures that the pool is live.
        let code = relaxed(|| unsafe { sys::cuMemPoolSetAccess(handle(pool.0), &raw const access, 1) });
        self.check("cuMemPoolSetAccess", code)
    }

    /// # Safety
    ///
    /// The pool is live.
    pub(super) unsafe fn set_pool_reuse(&self, pool: RawPool, reuse: PoolReuse, on: bool) -> Result<(), DriverError> {
        let mut value = c_int::from(on);
        // SAFETY: the caller ensures that the pool is live. The value of these attributes is an integer.
        let code = relaxed(|| unsafe {
            sys::cuMemPoolSetAttribute(handle(pool.0), reuse_attribute(reuse), (&raw mut value).cast())
        });
        self.check("cuMemPoolSetAttribute", code)
    }

    /// # Safety
    ///
    /// The pool is live.
    pub(super) unsafe fn pool_reuse(&self, pool: RawPool, reuse: PoolReuse) -> Result<bool, DriverError> {
        let mut value: c_int = 0;
        // SAFETY: the caller ensures that the pool is live. The value of these attributes is an integer.
        let code = relaxed(|| unsafe {
            sys::cuMemPoolGetAttribute(handle(pool.0), reuse_attribute(reuse), (&raw mut value).cast())
        });
        self.check("cuMemPoolGetAttribute", code).map(|()| value != 0)
    }

    /// # Safety
    ///
    /// The pool is live, and no memory is allocated from it afterwards.
    pub(super) unsafe fn destroy_pool(&self, pool: RawPool) -> Result<(), DriverError> {
        // SAFETY: the caller ensures that the pool is live.
        let code = relaxed(|| unsafe { sys::cuMemPoolDestroy(handle(pool.0)) });
        self.check("cuMemPoolDestroy", code)
    }

    /// # Safety
    ///
    /// The pool is live.
    pub(super) unsafe fn set_release_threshold(&self, pool: RawPool, bytes: u64) -> Result<(), DriverError> {
        let attribute = Attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD as c_int;
        let mut value = bytes;
        // SAFETY: the caller ensures that the pool is live. The value of this attribute has 64 bits.
        let code =
            relaxed(|| unsafe { sys::cuMemPoolSetAttribute(handle(pool.0), attribute, (&raw mut value).cast()) });
        self.check("cuMemPoolSetAttribute", code)
    }

    /// # Safety
    ///
    /// The pool is live.
    pub(super) unsafe fn release_threshold(&self, pool: RawPool) -> Result<u64, DriverError> {
        // SAFETY: the caller ensures that the pool is live. The value of this attribute has 64 bits.
        unsafe { self.pool_attribute(pool, Attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD) }
    }

    /// # Safety
    ///
    /// The pool is live.
    pub(super) unsafe fn pool_usage(&self, pool: RawPool) -> Result<DriverPoolUsage, DriverError> {
        // SAFETY: the caller ensures that the pool is live. The value of this attribute has 64 bits.
        let reserved = unsafe { self.pool_attribute(pool, Attribute::CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT) }?;
        // SAFETY: the caller ensures that the pool is live. The value of this attribute has 64 bits.
        let used = unsafe { self.pool_attribute(pool, Attribute::CU_MEMPOOL_ATTR_USED_MEM_CURRENT) }?;
        let answer = || format!("{used} used bytes of {reserved}");
        self.expect("cuMemPoolGetAttribute", used <= reserved, answer)?;
        Ok(DriverPoolUsage { reserved, used })
    }

    /// # Safety
    ///
    /// The pool is live, and the value of the attribute has 64 bits.
    unsafe fn pool_attribute(&self, pool: RawPool, attribute: Attribute) -> Result<u64, DriverError> {
        let mut value: u64 = 0;
        // SAFETY: `value` is writable and has the size of the attribute. The caller ensures that the pool is live.
        let code = relaxed(|| unsafe {
            sys::cuMemPoolGetAttribute(handle(pool.0), attribute as c_int, (&raw mut value).cast())
        });
        self.check("cuMemPoolGetAttribute", code)?;
        Ok(value)
    }

    /// # Safety
    ///
    /// The pool is live.
    pub(super) unsafe fn trim_pool(&self, pool: RawPool, keep: usize) -> Result<(), DriverError> {
        // SAFETY: the caller ensures that the pool is live.
        let code = relaxed(|| unsafe { sys::cuMemPoolTrimTo(handle(pool.0), keep) });
        self.check("cuMemPoolTrimTo", code)
    }

    /// # Safety
    ///
    /// Pool and stream are live.
    pub(super) unsafe fn allocate_async(
        &self,
        pool: RawPool,
        bytes: usize,
        stream: RawStream,
    ) -> Result<NonNull<u8>, DriverError> {
        let (pool, stream) = (handle(pool.0), handle(stream.0));
        let mut address = 0;
        // SAFETY: `address` is writable. The caller ensures that pool and stream are live.
        let code = relaxed(|| unsafe { sys::cuMemAllocFromPoolAsync(&raw mut address, bytes, pool, stream) });
        self.allocated("cuMemAllocFromPoolAsync", code, address, bytes)
    }

    /// # Safety
    ///
    /// The memory was returned by `allocate_async`. The stream is live, and all uses come before this point of it.
    pub(super) unsafe fn free_async(&self, pointer: NonNull<u8>, stream: RawStream) -> Result<(), DriverError> {
        // SAFETY: the caller ensures that the memory is live, that its uses come before, and that the stream is live.
        let code = relaxed(|| unsafe { sys::cuMemFreeAsync(address(pointer.as_ptr()), handle(stream.0)) });
        self.check("cuMemFreeAsync", code)
    }
}

fn reuse_attribute(reuse: PoolReuse) -> c_int {
    let attribute = match reuse {
        PoolReuse::FollowEvents => Attribute::CU_MEMPOOL_ATTR_REUSE_FOLLOW_EVENT_DEPENDENCIES,
        PoolReuse::Opportunistic => Attribute::CU_MEMPOOL_ATTR_REUSE_ALLOW_OPPORTUNISTIC,
        PoolReuse::InternalDependencies => Attribute::CU_MEMPOOL_ATTR_REUSE_ALLOW_INTERNAL_DEPENDENCIES,
    };
    attribute as c_int
}
