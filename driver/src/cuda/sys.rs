//! Declarations of the driver's functions.
//!
//! `cust_raw` declares the same symbols. They are declared again because `cust_raw` returns a Rust enum of the codes of
//! CUDA 11.4. A newer driver returns other codes, which must never become a value of that enum. [`Code`] holds any
//! number. For the same reason, parameters that are enums in C are integers here.

use crate::error::DriverError;
use crate::error::code::CudaErrorCode;
use crate::location::DeviceId;
use cust::sys::{
    CUcontext, CUdevice, CUdeviceptr, CUevent, CUfunction, CUgraph, CUgraphExec, CUmemAccessDesc, CUmemAllocationProp,
    CUmemGenericAllocationHandle, CUmemoryPool, CUmodule, CUstream,
};
use std::ffi::{c_char, c_int, c_uchar, c_uint, c_ulonglong, c_void};
use std::ptr;

/// A `CUresult` with any value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
#[must_use]
pub(super) struct Code(u32);

impl Code {
    const SUCCESS: Self = Self(0);

    /// Returns an error that names the call, unless the code is success.
    #[inline]
    pub(super) fn check(self, call: &'static str, device: DeviceId) -> Result<(), DriverError> {
        if self.is_success() { Ok(()) } else { Err(self.error(call, device)) }
    }

    /// Converts the result of a query: `CUDA_ERROR_NOT_READY` means false, success means true. Other codes are errors.
    #[inline]
    pub(super) fn ready(self, call: &'static str, device: DeviceId) -> Result<bool, DriverError> {
        if self.number() == CudaErrorCode::NOT_READY { Ok(false) } else { self.check(call, device).map(|()| true) }
    }

    pub(super) fn is_success(self) -> bool {
        self == Self::SUCCESS
    }

    pub(super) fn number(self) -> CudaErrorCode {
        CudaErrorCode(self.0)
    }

    #[cold]
    fn error(self, call: &'static str, device: DeviceId) -> DriverError {
        let code = self.number();
        // cumem-libcuda returns this code for a function that the driver lacks. A driver also returns it for other
        // reasons.
        if code == CudaErrorCode::NOT_FOUND
            && let Some((symbol, driver_version)) = missing(call)
        {
            return DriverError::MissingSymbol { symbol, driver_version };
        }
        DriverError::Call { call, device, code }
    }
}

/// Returns the symbol of a call and the driver's version if the driver lacks the symbol.
fn missing(call: &str) -> Option<(&'static str, String)> {
    let versioned = format!("{call}_v2");
    let known = |name: &str| cumem_libcuda::SYMBOLS.iter().copied().find(|symbol| *symbol == name);
    let symbol = known(&versioned).or_else(|| known(call))?;
    let missing = cumem_libcuda::load().ok()?.require(symbol).err()?;
    Some((symbol, missing.driver_version.to_string()))
}

/// `CUmemLocation`. `cust_raw` declares it only in the form of CUDA 11.4.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub(super) struct MemLocation {
    pub(super) kind: c_int,
    pub(super) id: c_int,
}

/// `CUmemPoolProps` in the form of CUDA 12.2. `cust_raw` declares that of 11.4, whose reserved bytes the newer fields have
/// taken: the size is the same. A driver that does not know a field requires zero there.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub(super) struct MemPoolProps {
    pub(super) allocation: c_int,
    pub(super) handles: c_int,
    pub(super) location: MemLocation,
    pub(super) win32_security: *mut c_void,
    pub(super) maximum: usize,
    pub(super) usage: u16,
    pub(super) reserved: [u8; 54],
}

const _: () = assert!(size_of::<MemPoolProps>() == 88);

/// The type of `cuMemGetDefaultMemPool` (CUDA 13.0).
pub(super) type MemGetDefaultMemPool =
    unsafe extern "C" fn(*mut CUmemoryPool, *mut MemLocation, allocation: c_int) -> Code;
/// The type of `cuMemDiscardBatchAsync` (CUDA 13.0).
pub(super) type MemDiscardBatchAsync =
    unsafe extern "C" fn(*mut CUdeviceptr, *mut usize, count: usize, flags: c_ulonglong, CUstream) -> Code;
/// The type of `cuMemPrefetchAsync_v2` (CUDA 12.2).
pub(super) type MemPrefetchAsyncV2 =
    unsafe extern "C" fn(CUdeviceptr, usize, MemLocation, flags: c_uint, CUstream) -> Code;
/// The type of `cuMemPrefetchBatchAsync` (CUDA 13.0).
pub(super) type MemPrefetchBatchAsync = unsafe extern "C" fn(
    *mut CUdeviceptr,
    *mut usize,
    count: usize,
    *mut MemLocation,
    first_of_location: *mut usize,
    locations: usize,
    flags: c_ulonglong,
    CUstream,
) -> Code;
/// The type of `cuStreamWriteValue32_v2` (CUDA 11.7). Drivers refuse the function without the suffix unless it is
/// enabled explicitly.
pub(super) type StreamWriteValue32 = unsafe extern "C" fn(CUstream, CUdeviceptr, value: u32, flags: c_uint) -> Code;
/// The type of `cuStreamGetId` (CUDA 12.0).
pub(super) type StreamGetId = unsafe extern "C" fn(CUstream, id: *mut c_ulonglong) -> Code;
/// The type of `cuCtxRecordEvent` (CUDA 12.5).
pub(super) type CtxRecordEvent = unsafe extern "C" fn(CUcontext, CUevent) -> Code;
/// The type of `cuMemAdvise_v2` (CUDA 12.2).
pub(super) type MemAdviseV2 = unsafe extern "C" fn(CUdeviceptr, usize, advice: c_int, MemLocation) -> Code;

// SAFETY: the prototypes are those of cuda.h, with integers for its enums. cumem-libcuda defines every one of these
// symbols.
unsafe extern "C" {
    pub(super) fn cuInit(flags: c_uint) -> Code;
    pub(super) fn cuDeviceGetName(name: *mut c_char, size: c_int, device: CUdevice) -> Code;
    pub(super) fn cuDeviceGetAttribute(value: *mut c_int, attribute: c_int, device: CUdevice) -> Code;
    pub(super) fn cuDevicePrimaryCtxRetain(context: *mut CUcontext, device: CUdevice) -> Code;
    pub(super) fn cuDevicePrimaryCtxRelease_v2(device: CUdevice) -> Code;
    pub(super) fn cuCtxGetCurrent(context: *mut CUcontext) -> Code;
    pub(super) fn cuCtxSetCurrent(context: CUcontext) -> Code;
    pub(super) fn cuCtxSynchronize() -> Code;

    pub(super) fn cuStreamCreate(stream: *mut CUstream, flags: c_uint) -> Code;
    pub(super) fn cuStreamCreateWithPriority(stream: *mut CUstream, flags: c_uint, priority: c_int) -> Code;
    pub(super) fn cuCtxGetStreamPriorityRange(least: *mut c_int, greatest: *mut c_int) -> Code;
    pub(super) fn cuStreamDestroy_v2(stream: CUstream) -> Code;
    pub(super) fn cuStreamSynchronize(stream: CUstream) -> Code;
    pub(super) fn cuStreamQuery(stream: CUstream) -> Code;
    pub(super) fn cuStreamWaitEvent(stream: CUstream, event: CUevent, flags: c_uint) -> Code;

    pub(super) fn cuEventCreate(event: *mut CUevent, flags: c_uint) -> Code;
    pub(super) fn cuEventDestroy_v2(event: CUevent) -> Code;
    pub(super) fn cuEventRecord(event: CUevent, stream: CUstream) -> Code;
    pub(super) fn cuEventQuery(event: CUevent) -> Code;
    pub(super) fn cuEventSynchronize(event: CUevent) -> Code;
    pub(super) fn cuEventElapsedTime(milliseconds: *mut f32, start: CUevent, end: CUevent) -> Code;

    pub(super) fn cuMemGetInfo_v2(free: *mut usize, total: *mut usize) -> Code;
    pub(super) fn cuMemAlloc_v2(address: *mut CUdeviceptr, bytes: usize) -> Code;
    pub(super) fn cuMemAllocManaged(address: *mut CUdeviceptr, bytes: usize, flags: c_uint) -> Code;
    pub(super) fn cuMemFree_v2(address: CUdeviceptr) -> Code;
    pub(super) fn cuMemAllocHost_v2(pointer: *mut *mut c_void, bytes: usize) -> Code;
    pub(super) fn cuMemFreeHost(pointer: *mut c_void) -> Code;
    pub(super) fn cuMemHostRegister_v2(pointer: *mut c_void, bytes: usize, flags: c_uint) -> Code;
    pub(super) fn cuMemHostUnregister(pointer: *mut c_void) -> Code;
    pub(super) fn cuMemcpyAsync(to: CUdeviceptr, from: CUdeviceptr, bytes: usize, stream: CUstream) -> Code;
    pub(super) fn cuMemsetD32Async(to: CUdeviceptr, value: c_uint, words: usize, stream: CUstream) -> Code;
    pub(super) fn cuMemsetD8Async(to: CUdeviceptr, value: c_uchar, bytes: usize, stream: CUstream) -> Code;
    pub(super) fn cuPointerGetAttributes(
        count: c_uint,
        attributes: *mut c_int,
        values: *mut *mut c_void,
        address: CUdeviceptr,
    ) -> Code;

    pub(super) fn cuMemGetAllocationGranularity(
        granularity: *mut usize,
        properties: *const CUmemAllocationProp,
        option: c_int,
    ) -> Code;
    pub(super) fn cuMemAddressReserve(
        address: *mut CUdeviceptr,
        bytes: usize,
        alignment: usize,
        at: CUdeviceptr,
        flags: c_ulonglong,
    ) -> Code;
    pub(super) fn cuMemAddressFree(address: CUdeviceptr, bytes: usize) -> Code;
    pub(super) fn cuMemCreate(
        handle: *mut CUmemGenericAllocationHandle,
        bytes: usize,
        properties: *const CUmemAllocationProp,
        flags: c_ulonglong,
    ) -> Code;
    pub(super) fn cuMemRelease(handle: CUmemGenericAllocationHandle) -> Code;
    pub(super) fn cuMemMap(
        address: CUdeviceptr,
        bytes: usize,
        offset: usize,
        handle: CUmemGenericAllocationHandle,
        flags: c_ulonglong,
    ) -> Code;
    pub(super) fn cuMemRetainAllocationHandle(handle: *mut CUmemGenericAllocationHandle, address: *mut c_void) -> Code;
    pub(super) fn cuMemUnmap(address: CUdeviceptr, bytes: usize) -> Code;
    pub(super) fn cuMemSetAccess(
        address: CUdeviceptr,
        bytes: usize,
        access: *const CUmemAccessDesc,
        count: usize,
    ) -> Code;

    pub(super) fn cuDeviceGetDefaultMemPool(pool: *mut CUmemoryPool, device: CUdevice) -> Code;
    pub(super) fn cuDeviceGetMemPool(pool: *mut CUmemoryPool, device: CUdevice) -> Code;
    pub(super) fn cuDeviceCanAccessPeer(can: *mut c_int, device: CUdevice, peer: CUdevice) -> Code;
    pub(super) fn cuMemPoolSetAccess(pool: CUmemoryPool, access: *const CUmemAccessDesc, count: usize) -> Code;
    pub(super) fn cuMemPoolCreate(pool: *mut CUmemoryPool, properties: *const MemPoolProps) -> Code;
    pub(super) fn cuMemPoolDestroy(pool: CUmemoryPool) -> Code;
    pub(super) fn cuMemPoolSetAttribute(pool: CUmemoryPool, attribute: c_int, value: *mut c_void) -> Code;
    pub(super) fn cuMemPoolGetAttribute(pool: CUmemoryPool, attribute: c_int, value: *mut c_void) -> Code;
    pub(super) fn cuMemPoolTrimTo(pool: CUmemoryPool, keep: usize) -> Code;
    pub(super) fn cuMemAllocFromPoolAsync(
        address: *mut CUdeviceptr,
        bytes: usize,
        pool: CUmemoryPool,
        stream: CUstream,
    ) -> Code;
    pub(super) fn cuMemFreeAsync(address: CUdeviceptr, stream: CUstream) -> Code;

    pub(super) fn cuMemPrefetchAsync(address: CUdeviceptr, bytes: usize, to: CUdevice, stream: CUstream) -> Code;
    pub(super) fn cuMemAdvise(address: CUdeviceptr, bytes: usize, advice: c_int, device: CUdevice) -> Code;
    pub(super) fn cuStreamAttachMemAsync(stream: CUstream, address: CUdeviceptr, bytes: usize, flags: c_uint) -> Code;
    pub(super) fn cuMemRangeGetAttribute(
        value: *mut c_void,
        value_bytes: usize,
        attribute: c_int,
        address: CUdeviceptr,
        bytes: usize,
    ) -> Code;

    pub(super) fn cuThreadExchangeStreamCaptureMode(mode: *mut c_int) -> Code;
    pub(super) fn cuStreamBeginCapture_v2(stream: CUstream, mode: c_int) -> Code;
    pub(super) fn cuStreamEndCapture(stream: CUstream, graph: *mut CUgraph) -> Code;
    pub(super) fn cuStreamGetCaptureInfo(stream: CUstream, status: *mut c_int, id: *mut u64) -> Code;
    pub(super) fn cuGraphDestroy(graph: CUgraph) -> Code;
    pub(super) fn cuGraphInstantiateWithFlags(exec: *mut CUgraphExec, graph: CUgraph, flags: c_ulonglong) -> Code;
    pub(super) fn cuGraphLaunch(exec: CUgraphExec, stream: CUstream) -> Code;
    pub(super) fn cuGraphExecDestroy(exec: CUgraphExec) -> Code;

    pub(super) fn cuModuleLoadDataEx(
        module: *mut CUmodule,
        image: *const c_void,
        count: c_uint,
        options: *mut c_int,
        values: *mut *mut c_void,
    ) -> Code;
    pub(super) fn cuModuleUnload(module: CUmodule) -> Code;
    pub(super) fn cuModuleGetFunction(function: *mut CUfunction, module: CUmodule, name: *const c_char) -> Code;
    pub(super) fn cuLaunchKernel(
        function: CUfunction,
        grid_x: c_uint,
        grid_y: c_uint,
        grid_z: c_uint,
        block_x: c_uint,
        block_y: c_uint,
        block_z: c_uint,
        shared_bytes: c_uint,
        stream: CUstream,
        parameters: *mut *mut c_void,
        extra: *mut *mut c_void,
    ) -> Code;
}

/// Converts a handle to the number that the rest of this library keeps.
#[inline]
pub(super) fn number<T>(handle: *mut T) -> u64 {
    handle.expose_provenance() as u64
}

/// Converts a number back to the handle.
#[inline]
pub(super) fn handle<T>(number: u64) -> *mut T {
    ptr::with_exposed_provenance_mut(number as usize)
}

/// Converts a pointer to a device address.
#[inline]
pub(super) fn address(pointer: *const u8) -> CUdeviceptr {
    pointer.expose_provenance() as CUdeviceptr
}
