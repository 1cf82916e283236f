//! Reserved addresses, and device memory mapped at them (drivers from CUDA 10.2). cust has no wrapper for these calls.

use super::context::Active;
use super::sys::{self, address};
use crate::error::DriverError;
use cust::sys::{
    CUdevice, CUdeviceptr, CUmemAccess_flags, CUmemAccessDesc, CUmemAllocationGranularity_flags,
    CUmemAllocationHandleType, CUmemAllocationProp, CUmemAllocationType, CUmemGenericAllocationHandle, CUmemLocation,
    CUmemLocationType,
};
use std::ffi::c_int;
use std::ptr::{self, NonNull};

impl Active<'_> {
    fn location(&self) -> CUmemLocation {
        location_of(self.device())
    }

    /// Returns the properties of ordinary device memory.
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
        // SAFETY: `bytes` is writable, and `properties` is complete.
        let code = unsafe { sys::cuMemGetAllocationGranularity(&raw mut bytes, &raw const properties, minimum) };
        self.check("cuMemGetAllocationGranularity", code)?;
        // No larger than the memory of a device, so that sums of granules do not overflow.
        let is_valid = bytes.is_power_of_two() && bytes <= 1 << 40;
        self.expect("cuMemGetAllocationGranularity", is_valid, || format!("a granularity of {bytes} bytes"))?;
        Ok(bytes)
    }

    pub(super) fn reserve_addresses(&self, bytes: usize) -> Result<NonNull<u8>, DriverError> {
        let mut address = 0;
        // SAFETY: `address` is writable. The zeroes leave alignment, address and flags to the driver.
        let code = unsafe { sys::cuMemAddressReserve(&raw mut address, bytes, 0, 0, 0) };
        self.check("cuMemAddressReserve", code)?;
        self.allocation("cuMemAddressReserve", address, bytes)
    }

    /// # Safety
    ///
    /// The range is one reservation of `reserve_addresses`, and nothing is mapped in it.
    pub(super) unsafe fn release_addresses(&self, pointer: NonNull<u8>, bytes: usize) -> Result<(), DriverError> {
        // SAFETY: the caller ensures that the range is one unmapped reservation.
        let code = unsafe { sys::cuMemAddressFree(address(pointer.as_ptr()), bytes) };
        self.check("cuMemAddressFree", code)
    }

    /// # Safety
    ///
    /// The addresses are reserved, and nothing is mapped at them.
    pub(super) unsafe fn map(&self, pointer: NonNull<u8>, bytes: usize) -> Result<(), DriverError> {
        let properties = self.properties();
        let mut memory = 0;
        // SAFETY: `memory` is writable, and `properties` is complete.
        let code = unsafe { sys::cuMemCreate(&raw mut memory, bytes, &raw const properties, 0) };
        self.check("cuMemCreate", code)?;
        // SAFETY: the caller ensures that the addresses are reserved and unmapped. The memory is new, and has `bytes`
        // bytes.
        unsafe { self.map_and_release(pointer, bytes, memory) }?;
        let result = self.make_accessible(address(pointer.as_ptr()), bytes);
        if result.is_err() {
            // SAFETY: the range was just mapped, and nothing uses it yet.
            unsafe { self.unmap(pointer, bytes) }?;
        }
        result
    }

    /// # Safety
    ///
    /// The addresses are reserved, and nothing is mapped at them. Each piece is what one call of `map` mapped.
    pub(super) unsafe fn map_again(
        &self,
        pointer: NonNull<u8>,
        pieces: &[(NonNull<u8>, usize)],
    ) -> Result<(), DriverError> {
        let mut mapped = 0;
        let all = pieces.iter().try_for_each(|&(piece, bytes)| {
            let at = pointer.map_addr(|addr| addr.saturating_add(mapped));
            // SAFETY: the caller ensures that the addresses are reserved and unmapped, and that the piece is one
            // mapping.
            unsafe { self.map_piece_again(at, piece, bytes) }?;
            mapped += bytes;
            Ok(())
        });
        let result = all.and_then(|()| self.make_accessible(address(pointer.as_ptr()), mapped));
        if result.is_err() && mapped > 0 {
            // SAFETY: the range was just mapped, and nothing uses it yet.
            unsafe { self.unmap(pointer, mapped) }?;
        }
        result
    }

    /// # Safety
    ///
    /// The contract of [`map_again`](Self::map_again), for this one piece.
    unsafe fn map_piece_again(&self, at: NonNull<u8>, piece: NonNull<u8>, bytes: usize) -> Result<(), DriverError> {
        let mut memory = 0;
        // SAFETY: `memory` is writable, and the caller ensures that memory is mapped at the piece's address.
        let code = unsafe { sys::cuMemRetainAllocationHandle(&raw mut memory, piece.as_ptr().cast()) };
        self.check("cuMemRetainAllocationHandle", code)?;
        // SAFETY: the caller ensures that the addresses are unmapped, and that the piece is the whole of this memory.
        unsafe { self.map_and_release(at, bytes, memory) }
    }

    /// Maps memory and releases its handle. The mappings keep the memory; when the last of them is removed, it is
    /// freed.
    ///
    /// # Safety
    ///
    /// The addresses are reserved, and nothing is mapped at them. The memory has `bytes` bytes, and its handle is not
    /// used afterwards.
    unsafe fn map_and_release(
        &self,
        pointer: NonNull<u8>,
        bytes: usize,
        memory: CUmemGenericAllocationHandle,
    ) -> Result<(), DriverError> {
        let at = address(pointer.as_ptr());
        // SAFETY: the caller ensures that the addresses are reserved and unmapped, and that the memory has this size.
        let mapped = self.check("cuMemMap", unsafe { sys::cuMemMap(at, bytes, 0, memory, 0) });
        // SAFETY: the handle is valid, and the caller does not use it afterwards.
        let released = self.check("cuMemRelease", unsafe { sys::cuMemRelease(memory) });
        mapped?;
        if released.is_err() {
            // SAFETY: the range was just mapped, and nothing uses it yet.
            unsafe { self.unmap(pointer, bytes) }?;
        }
        released
    }

    pub(super) fn can_access_peer(&self, peer: u32) -> Result<bool, DriverError> {
        if peer == self.id.ordinal() {
            return Ok(true);
        }
        let mut can = 0;
        // SAFETY: `can` is writable. The driver rejects a device that does not exist.
        let code = unsafe { sys::cuDeviceCanAccessPeer(&raw mut can, self.device(), device_number(peer)) };
        self.check("cuDeviceCanAccessPeer", code).map(|()| can != 0)
    }

    /// # Safety
    ///
    /// The range is one or several whole mappings of `map` or `map_again`.
    pub(super) unsafe fn set_access(&self, pointer: NonNull<u8>, bytes: usize, peer: u32) -> Result<(), DriverError> {
        self.give_access(location_of(device_number(peer)), address(pointer.as_ptr()), bytes)
    }

    fn make_accessible(&self, at: CUdeviceptr, bytes: usize) -> Result<(), DriverError> {
        self.give_access(self.location(), at, bytes)
    }

    fn give_access(&self, location: CUmemLocation, at: CUdeviceptr, bytes: usize) -> Result<(), DriverError> {
        let access = CUmemAccessDesc { location, flags: CUmemAccess_flags::CU_MEM_ACCESS_FLAGS_PROT_READWRITE };
        // SAFETY: `access` is complete, and the range is mapped.
        let code = unsafe { sys::cuMemSetAccess(at, bytes, &raw const access, 1) };
        self.check("cuMemSetAccess", code)
    }

    /// # Safety
    ///
    /// The range is one or several whole mappings of `map` or `map_again`, and nothing uses it any more.
    pub(super) unsafe fn unmap(&self, pointer: NonNull<u8>, bytes: usize) -> Result<(), DriverError> {
        // SAFETY: the caller ensures that the range is mapped and unused.
        let code = unsafe { sys::cuMemUnmap(address(pointer.as_ptr()), bytes) };
        self.check("cuMemUnmap", code)
    }
}

fn location_of(device: CUdevice) -> CUmemLocation {
    CUmemLocation { type_: CUmemLocationType::CU_MEM_LOCATION_TYPE_DEVICE, id: device }
}

/// Converts an ordinal. A number that is too large becomes the maximum, which the driver rejects.
fn device_number(ordinal: u32) -> CUdevice {
    CUdevice::try_from(ordinal).unwrap_or(CUdevice::MAX)
}
