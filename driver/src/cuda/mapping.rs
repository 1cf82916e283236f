//! Reserved addresses, and device memory mapped behind them (drivers from CUDA 10.2), for which cust has no wrapper.

use super::context::Active;
use super::sys::{self, address, handle};
use crate::error::DriverError;
use cust::sys::{
    CUdeviceptr, CUmemAccess_flags, CUmemAccessDesc, CUmemAllocationGranularity_flags, CUmemAllocationHandleType,
    CUmemAllocationProp, CUmemAllocationType, CUmemGenericAllocationHandle, CUmemLocation, CUmemLocationType,
};
use std::ffi::c_int;
use std::ptr::{self, NonNull};

impl Active<'_> {
    fn location(&self) -> CUmemLocation {
        CUmemLocation { type_: CUmemLocationType::CU_MEM_LOCATION_TYPE_DEVICE, id: self.device() }
    }

    /// Plain memory of the device.
    fn properties(&self) -> CUmemAllocationProp {
        CUmemAllocationProp {
            type_: CUmemAllocationType::CU_MEM_ALLOCATION_TYPE_PINNED,
            requestedHandleTypes: CUmemAllocationHandleType::CU_MEM_HANDLE_TYPE_NONE,
            location: self.location(),
            win32HandleMetaData: ptr::null_mut(),
            allocFlags: Default::default(),
        }
    }

    pub(super) fn mapping_granularity(&self) -> Result<usize, DriverError> {
        let properties = self.properties();
        let minimum = CUmemAllocationGranularity_flags::CU_MEM_ALLOC_GRANULARITY_MINIMUM as c_int;
        let mut bytes = 0;
        // SAFETY: `bytes` is writable, `properties` complete.
        let code = unsafe { sys::cuMemGetAllocationGranularity(&raw mut bytes, &raw const properties, minimum) };
        self.check("cuMemGetAllocationGranularity", code)?;
        Ok(bytes)
    }

    pub(super) fn reserve_addresses(&self, bytes: usize) -> Result<NonNull<u8>, DriverError> {
        let mut address = 0;
        // SAFETY: `address` is writable; alignment, place and flags are left to the driver.
        let code = unsafe { sys::cuMemAddressReserve(&raw mut address, bytes, 0, 0, 0) };
        self.check("cuMemAddressReserve", code)?;
        self.not_null("cuMemAddressReserve", handle(address))
    }

    /// # Safety
    ///
    /// The addresses were reserved above, in one piece, and nothing is mapped there.
    pub(super) unsafe fn release_addresses(&self, pointer: NonNull<u8>, bytes: usize) -> Result<(), DriverError> {
        // SAFETY: by the contract.
        let code = unsafe { sys::cuMemAddressFree(address(pointer.as_ptr()), bytes) };
        self.check("cuMemAddressFree", code)
    }

    /// # Safety
    ///
    /// The addresses are reserved, and nothing is mapped there.
    pub(super) unsafe fn map(&self, pointer: NonNull<u8>, bytes: usize) -> Result<(), DriverError> {
        let properties = self.properties();
        let mut memory = 0;
        // SAFETY: `memory` is writable, `properties` complete.
        let code = unsafe { sys::cuMemCreate(&raw mut memory, bytes, &raw const properties, 0) };
        self.check("cuMemCreate", code)?;
        // SAFETY: by the contract, and the memory is new.
        unsafe { self.map_and_release(pointer, bytes, memory) }?;
        let result = self.make_accessible(address(pointer.as_ptr()), bytes);
        if result.is_err() {
            // SAFETY: just mapped, and used by nothing.
            unsafe { self.unmap(pointer, bytes) }?;
        }
        result
    }

    /// # Safety
    ///
    /// The addresses are reserved, and nothing is mapped there; each piece was mapped by one call of `map`, whole.
    pub(super) unsafe fn map_again(
        &self,
        pointer: NonNull<u8>,
        pieces: &[(NonNull<u8>, usize)],
    ) -> Result<(), DriverError> {
        let mut mapped = 0;
        let all = pieces.iter().try_for_each(|&(piece, bytes)| {
            let at = pointer.map_addr(|addr| addr.saturating_add(mapped));
            // SAFETY: by the contract.
            unsafe { self.map_piece_again(at, piece, bytes) }?;
            mapped += bytes;
            Ok(())
        });
        let result = all.and_then(|()| self.make_accessible(address(pointer.as_ptr()), mapped));
        if result.is_err() && mapped > 0 {
            // SAFETY: just mapped, and used by nothing.
            unsafe { self.unmap(pointer, mapped) }?;
        }
        result
    }

    /// # Safety
    ///
    /// As for [`map_again`](Self::map_again).
    unsafe fn map_piece_again(&self, at: NonNull<u8>, piece: NonNull<u8>, bytes: usize) -> Result<(), DriverError> {
        let mut memory = 0;
        // SAFETY: `memory` is writable, and memory is mapped at the piece's address.
        let code = unsafe { sys::cuMemRetainAllocationHandle(&raw mut memory, piece.as_ptr().cast()) };
        self.check("cuMemRetainAllocationHandle", code)?;
        // SAFETY: by the contract; the memory is the whole piece.
        unsafe { self.map_and_release(at, bytes, memory) }
    }

    /// Maps memory and lets go of its handle: mappings keep it, and without any it is freed.
    ///
    /// # Safety
    ///
    /// The addresses are reserved, and nothing is mapped there; the memory has as many bytes, and its handle is used
    /// no more.
    unsafe fn map_and_release(
        &self,
        pointer: NonNull<u8>,
        bytes: usize,
        memory: CUmemGenericAllocationHandle,
    ) -> Result<(), DriverError> {
        let at = address(pointer.as_ptr());
        // SAFETY: by the contract.
        let mapped = self.check("cuMemMap", unsafe { sys::cuMemMap(at, bytes, 0, memory, 0) });
        // SAFETY: by the contract.
        let released = self.check("cuMemRelease", unsafe { sys::cuMemRelease(memory) });
        mapped?;
        if released.is_err() {
            // SAFETY: just mapped, and used by nothing.
            unsafe { self.unmap(pointer, bytes) }?;
        }
        released
    }

    fn make_accessible(&self, at: CUdeviceptr, bytes: usize) -> Result<(), DriverError> {
        let access =
            CUmemAccessDesc { location: self.location(), flags: CUmemAccess_flags::CU_MEM_ACCESS_FLAGS_PROT_READWRITE };
        // SAFETY: `access` is complete, and the range is mapped.
        let code = unsafe { sys::cuMemSetAccess(at, bytes, &raw const access, 1) };
        self.check("cuMemSetAccess", code)
    }

    /// # Safety
    ///
    /// The range was mapped above, in one piece or several, and nothing uses it any more.
    pub(super) unsafe fn unmap(&self, pointer: NonNull<u8>, bytes: usize) -> Result<(), DriverError> {
        // SAFETY: by the contract.
        let code = unsafe { sys::cuMemUnmap(address(pointer.as_ptr()), bytes) };
        self.check("cuMemUnmap", code)
    }
}
