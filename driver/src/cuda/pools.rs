//! Stream-ordered memory pools (drivers from CUDA 11.2). cust has no wrapper for these calls.

use super::context::Active;
use super::graphs::relaxed;
use super::state::CudaDriver;
use super::sys::{self, address, handle, number};
use crate::error::DriverError;
use crate::facts::DriverPoolUsage;
use crate::raw::{RawPool, RawStream};
use cust::sys::{
    CUmemAllocationHandleType, CUmemAllocationType, CUmemLocation, CUmemLocationType, CUmemPool_attribute as Attribute,
    CUmemPoolProps,
};
use std::ffi::c_int;
use std::ptr::{self, NonNull};

/// The functions that this module calls. All came with CUDA 11.2; the module checks that the driver has each of them.
const SYMBOLS: [&str; 8] = [
    "cuDeviceGetDefaultMemPool",
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

impl Active<'_> {
    pub(super) fn default_pool(&self) -> Result<RawPool, DriverError> {
        self.driver.require_pools()?;
        let mut pool = ptr::null_mut();
        // SAFETY: `pool` is writable.
        let code = relaxed(|| unsafe { sys::cuDeviceGetDefaultMemPool(&raw mut pool, self.device()) });
        self.check("cuDeviceGetDefaultMemPool", code)?;
        self.created("cuDeviceGetDefaultMemPool", number(pool)).map(RawPool)
    }

    pub(super) fn create_pool(&self) -> Result<RawPool, DriverError> {
        self.driver.require_pools()?;
        let properties = CUmemPoolProps {
            allocType: CUmemAllocationType::CU_MEM_ALLOCATION_TYPE_PINNED,
            handleTypes: CUmemAllocationHandleType::CU_MEM_HANDLE_TYPE_NONE,
            location: CUmemLocation { type_: CUmemLocationType::CU_MEM_LOCATION_TYPE_DEVICE, id: self.device() },
            win32SecurityAttributes: ptr::null_mut(),
            // Newer drivers read a maximum size and a usage from these bytes. Zero means the default.
            reserved: [0; 64],
        };
        let mut pool = ptr::null_mut();
        // SAFETY: `pool` is writable, and `properties` is complete.
        let code = relaxed(|| unsafe { sys::cuMemPoolCreate(&raw mut pool, &raw const properties) });
        self.check("cuMemPoolCreate", code)?;
        self.created("cuMemPoolCreate", number(pool)).map(RawPool)
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

// The structure has kept its size: newer fields replaced reserved bytes.
const _: () = assert!(size_of::<CUmemPoolProps>() == 88);
