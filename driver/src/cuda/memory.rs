//! Memory outside of pools, copies, and pointer attributes.

use super::context::Active;
use super::graphs::relaxed;
use super::sys::{self, StreamWriteValue32, address, handle};
use crate::error::DriverError;
use crate::error::code::CudaErrorCode;
use crate::facts::MemoryInfo;
use crate::facts::{MemoryType, PointerInfo};
use crate::location::DeviceId;
use crate::raw::RawStream;
use cust::sys::{CUdeviceptr, CUmemAttach_flags, CUmemorytype, CUpointer_attribute as Attribute};
use std::ffi::{c_int, c_uint, c_void};
use std::mem;
use std::ptr::{self, NonNull};

/// Each allocation of a driver begins at a multiple of this number. Pools count addresses in such units.
const ALIGNMENT: CUdeviceptr = 256;

/// Returns the free and total memory of the host from the operating system, because the driver reports only the
/// device's.
pub(super) fn host_memory() -> Option<MemoryInfo> {
    // SAFETY: `sysconf` accepts these names and returns a number. It accesses no memory of the caller.
    let ask = |name| usize::try_from(unsafe { libc::sysconf(name) }).ok();
    let page = ask(libc::_SC_PAGESIZE)?;
    let (free, total) = (ask(libc::_SC_AVPHYS_PAGES)?, ask(libc::_SC_PHYS_PAGES)?);
    Some(MemoryInfo { free: free.saturating_mul(page), total: total.saturating_mul(page) })
}

impl Active<'_> {
    pub(super) fn memory_info(&self) -> Result<MemoryInfo, DriverError> {
        let (mut free, mut total) = (0, 0);
        // SAFETY: both values are writable.
        let code = unsafe { sys::cuMemGetInfo_v2(&raw mut free, &raw mut total) };
        self.check("cuMemGetInfo", code)?;
        self.expect("cuMemGetInfo", free <= total, || format!("{free} free bytes of {total}"))?;
        Ok(MemoryInfo { free, total })
    }

    pub(super) fn allocate_device(&self, bytes: usize) -> Result<NonNull<u8>, DriverError> {
        let mut address = 0;
        // SAFETY: `address` is writable.
        let code = relaxed(|| unsafe { sys::cuMemAlloc_v2(&raw mut address, bytes) });
        self.allocated("cuMemAlloc", code, address, bytes)
    }

    pub(super) fn allocate_managed(&self, bytes: usize) -> Result<NonNull<u8>, DriverError> {
        let flags = CUmemAttach_flags::CU_MEM_ATTACH_GLOBAL as c_uint;
        let mut address = 0;
        // SAFETY: `address` is writable.
        let code = relaxed(|| unsafe { sys::cuMemAllocManaged(&raw mut address, bytes, flags) });
        self.allocated("cuMemAllocManaged", code, address, bytes)
    }

    /// # Safety
    ///
    /// The memory was returned by `allocate_device` or `allocate_managed`. Only work that is already enqueued uses it.
    pub(super) unsafe fn free(&self, pointer: NonNull<u8>) -> Result<(), DriverError> {
        // SAFETY: the caller ensures that the address is a live allocation.
        let code = relaxed(|| unsafe { sys::cuMemFree_v2(address(pointer.as_ptr())) });
        self.check("cuMemFree", code)
    }

    pub(super) fn allocate_pinned(&self, bytes: usize) -> Result<NonNull<u8>, DriverError> {
        let mut pointer = ptr::null_mut();
        // SAFETY: `pointer` is writable.
        let code = relaxed(|| unsafe { sys::cuMemAllocHost_v2(&raw mut pointer, bytes) });
        self.allocated("cuMemAllocHost", code, address(pointer.cast()), bytes)
    }

    /// # Safety
    ///
    /// The memory was returned by `allocate_pinned`, and nothing uses it any more.
    pub(super) unsafe fn free_pinned(&self, pointer: NonNull<u8>) -> Result<(), DriverError> {
        // SAFETY: the caller ensures that the address is a live, unused allocation of pinned memory.
        let code = relaxed(|| unsafe { sys::cuMemFreeHost(pointer.as_ptr().cast()) });
        self.check("cuMemFreeHost", code)
    }

    /// Returns the address that an allocation call wrote, if the call succeeded.
    pub(super) fn allocated(
        &self,
        call: &'static str,
        code: sys::Code,
        address: CUdeviceptr,
        bytes: usize,
    ) -> Result<NonNull<u8>, DriverError> {
        self.check(call, code)?;
        self.allocation(call, address, bytes)
    }

    /// Returns the address of `bytes` bytes, unless it is null, is no multiple of 256, or is too high.
    pub(super) fn allocation(
        &self,
        call: &'static str,
        address: CUdeviceptr,
        bytes: usize,
    ) -> Result<NonNull<u8>, DriverError> {
        let is_valid = address.is_multiple_of(ALIGNMENT) && address.checked_add(bytes as u64).is_some();
        let pointer = NonNull::new(ptr::with_exposed_provenance_mut(address as usize)).filter(|_| is_valid);
        pointer.ok_or_else(|| {
            let answer = format!("the address {address:#x} for {bytes} bytes");
            DriverError::InvalidAnswer { call, device: self.id, answer }
        })
    }

    /// Returns the handle of an object that a call created, unless it is null.
    pub(super) fn created(&self, call: &'static str, handle: u64) -> Result<u64, DriverError> {
        self.expect(call, handle != 0, || "no handle".into()).map(|()| handle)
    }

    /// # Safety
    ///
    /// The contract of [`Driver::copy_async`](crate::driver::Driver::copy_async).
    pub(super) unsafe fn copy_async(
        &self,
        to: *mut u8,
        from: *const u8,
        bytes: usize,
        stream: RawStream,
    ) -> Result<(), DriverError> {
        // SAFETY: the caller ensures that both ranges are valid and the stream is live.
        let code = unsafe { sys::cuMemcpyAsync(address(to), address(from), bytes, handle(stream.0)) };
        self.check("cuMemcpyAsync", code)
    }

    /// # Safety
    ///
    /// The contract of [`Driver::fill_async`](crate::driver::Driver::fill_async).
    pub(super) unsafe fn fill_async(
        &self,
        to: *mut u8,
        value: u8,
        bytes: usize,
        stream: RawStream,
    ) -> Result<(), DriverError> {
        // SAFETY: the caller ensures that the range is valid and the stream is live.
        let code = unsafe { sys::cuMemsetD8Async(address(to), value, bytes, handle(stream.0)) };
        self.check("cuMemsetD8Async", code)
    }

    /// # Safety
    ///
    /// The contract of [`Driver::fill_words_async`](crate::driver::Driver::fill_words_async).
    pub(super) unsafe fn fill_words_async(
        &self,
        to: *mut u8,
        word: u32,
        words: usize,
        stream: RawStream,
    ) -> Result<(), DriverError> {
        // SAFETY: the caller ensures that the range is valid and the stream is live.
        let code = unsafe { sys::cuMemsetD32Async(address(to), word, words, handle(stream.0)) };
        self.check("cuMemsetD32Async", code)
    }

    /// # Safety
    ///
    /// The contract of [`Driver::write_value`](crate::driver::Driver::write_value).
    pub(super) unsafe fn write_value(&self, at: *mut u32, value: u32, stream: RawStream) -> Result<(), DriverError> {
        const CALL: &str = "cuStreamWriteValue32_v2";
        let find = || {
            let symbol = self.driver.symbol(CALL)?;
            // SAFETY: the type is that of the driver's function with this name.
            Ok(unsafe { mem::transmute::<NonNull<c_void>, StreamWriteValue32>(symbol) })
        };
        let call = self.driver.write_value.get_or_init(find).clone()?;
        // SAFETY: the caller ensures that the word is valid and the stream is live. Zero flags are allowed; with them,
        // earlier writes of the stream become visible before this one.
        let code = unsafe { call(handle(stream.0), address(at.cast()), value, 0) };
        self.check(CALL, code)
    }

    pub(super) fn pointer_info(&self, pointer: *const u8) -> Result<PointerInfo, DriverError> {
        const CALL: &str = "cuPointerGetAttributes";
        let mut attributes = [
            Attribute::CU_POINTER_ATTRIBUTE_MEMORY_TYPE as c_int,
            Attribute::CU_POINTER_ATTRIBUTE_IS_MANAGED as c_int,
            Attribute::CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL as c_int,
        ];
        // Zero before the call, because the driver writes some attributes as a single byte.
        let mut answers: [c_int; 3] = [0; 3];
        let mut values = answers.each_mut().map(|answer| ptr::from_mut(answer).cast());
        let (attributes, values, count) = (attributes.as_mut_ptr(), values.as_mut_ptr(), answers.len() as c_uint);
        // SAFETY: there are as many attributes as values. Each value is writable and large enough for its attribute.
        let code = unsafe { sys::cuPointerGetAttributes(count, attributes, values, address(pointer)) };
        self.check(CALL, code)?;
        let [memory_type, managed, ordinal] = answers;
        let memory_type = match memory_type {
            // The driver writes type 0 for memory that it does not know.
            0 => return Err(DriverError::Call { call: CALL, device: self.id, code: CudaErrorCode::INVALID_VALUE }),
            _ if managed != 0 => MemoryType::Unified,
            host if host == CUmemorytype::CU_MEMORYTYPE_HOST as c_int => MemoryType::Host,
            _ => MemoryType::Device,
        };
        // The driver writes a negative ordinal for memory that belongs to no device.
        let device = u32::try_from(ordinal).map_or(self.id, DeviceId::cuda);
        Ok(PointerInfo { memory_type, device })
    }
}
