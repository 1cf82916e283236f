//! Prefetch, advice, discard, attachment and range attributes of unified memory.
//!
//! The driver has two forms of a location. The old functions take a device number, with -1 for the host. Drivers from
//! CUDA 12.2 have functions and attributes that can also name a NUMA node of the host. This module uses the new
//! functions for NUMA nodes only, so that everything else works with older drivers too.

use super::context::Active;
use super::graphs::relaxed;
use super::state::{CudaDriver, NumaCalls};
use super::sys::{
    self, MemAdviseV2, MemDiscardBatchAsync, MemLocation, MemPrefetchAsyncV2, MemPrefetchBatchAsync, address, handle,
};
use crate::advice::Advice;
use crate::error::DriverError;
use crate::error::code::CudaErrorCode;
use crate::location::{DeviceId, Location};
use crate::prefetch_range::PrefetchRange;
use crate::range_attributes::RangeAttributes;
use crate::raw::RawStream;
use crate::stream_attach::StreamAttach;
use cumem_libcuda::DriverVersion;
use cust::sys::{CUdevice, CUmem_advise, CUmem_range_attribute as Attribute, CUmemAttach_flags};
use smallvec::{SmallVec, smallvec};
use std::ffi::{c_int, c_uint, c_void};
use std::mem;
use std::ptr::NonNull;

/// The first driver whose range attributes can report NUMA nodes.
const NUMA_SINCE: DriverVersion = DriverVersion { major: 12, minor: 2 };

/// The device number of the host (`CU_DEVICE_CPU`).
const HOST: c_int = -1;
/// The device number for no location, or for more than one (`CU_DEVICE_INVALID`).
const NOWHERE: c_int = -2;

// Values of `CUmemLocationType`.
const TYPE_DEVICE: c_int = 1;
const TYPE_HOST: c_int = 2;
const TYPE_HOST_NUMA: c_int = 3;

// Values that CUDA 12.2 added to `CUmem_range_attribute`.
const PREFERRED_LOCATION_TYPE: c_int = 5;
const PREFERRED_LOCATION_ID: c_int = 6;
const LAST_PREFETCH_LOCATION_TYPE: c_int = 7;
const LAST_PREFETCH_LOCATION_ID: c_int = 8;

/// The functions that take a NUMA node.
impl CudaDriver {
    fn numa_calls(&self) -> Result<NumaCalls, DriverError> {
        let find = || {
            let prefetch = self.symbol("cuMemPrefetchAsync_v2")?;
            let advise = self.symbol("cuMemAdvise_v2")?;
            Ok(NumaCalls {
                // SAFETY: the type is that of the driver's function with this name.
                prefetch: unsafe { mem::transmute::<NonNull<c_void>, MemPrefetchAsyncV2>(prefetch) },
                // SAFETY: the type is that of the driver's function with this name.
                advise: unsafe { mem::transmute::<NonNull<c_void>, MemAdviseV2>(advise) },
            })
        };
        self.numa_calls.get_or_init(find).clone()
    }
}

/// A location in the form that the old or the new functions take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Target {
    Processor(CUdevice),
    Numa(c_int),
}

impl Target {
    fn typed(self) -> MemLocation {
        match self {
            Self::Processor(HOST) => MemLocation { kind: TYPE_HOST, id: 0 },
            Self::Processor(id) => MemLocation { kind: TYPE_DEVICE, id },
            Self::Numa(id) => MemLocation { kind: TYPE_HOST_NUMA, id },
        }
    }
}

/// Converts a location. A device that does not exist is passed on, because the driver rejects it. A device of a
/// simulator is rejected here.
fn target(call: &'static str, location: Location, device: DeviceId) -> Result<Target, DriverError> {
    match location {
        Location::Host => Ok(Target::Processor(HOST)),
        Location::HostNuma(node) => Ok(Target::Numa(number(node))),
        Location::Device(found) if found.same_machine(device) => Ok(Target::Processor(number(found.ordinal()))),
        Location::Device(_) => Err(DriverError::Call { call, device, code: CudaErrorCode::INVALID_DEVICE }),
    }
}

/// Converts to an integer. A number that is too large becomes the maximum, which the driver rejects.
fn number(n: u32) -> c_int {
    c_int::try_from(n).unwrap_or(c_int::MAX)
}

/// Returns the value of `CUmem_advise`.
fn advice_number(advice: Advice) -> c_int {
    let advice = match advice {
        Advice::SetReadMostly => CUmem_advise::CU_MEM_ADVISE_SET_READ_MOSTLY,
        Advice::UnsetReadMostly => CUmem_advise::CU_MEM_ADVISE_UNSET_READ_MOSTLY,
        Advice::SetPreferredLocation(_) => CUmem_advise::CU_MEM_ADVISE_SET_PREFERRED_LOCATION,
        Advice::UnsetPreferredLocation => CUmem_advise::CU_MEM_ADVISE_UNSET_PREFERRED_LOCATION,
        Advice::SetAccessedBy(_) => CUmem_advise::CU_MEM_ADVISE_SET_ACCESSED_BY,
        Advice::UnsetAccessedBy(_) => CUmem_advise::CU_MEM_ADVISE_UNSET_ACCESSED_BY,
    };
    advice as c_int
}

/// Returns the location of a device number of the driver.
fn processor(number: c_int) -> Option<Location> {
    match number {
        HOST => Some(Location::Host),
        _ => u32::try_from(number).ok().map(|ordinal| Location::Device(DeviceId::cuda(ordinal))),
    }
}

/// Returns the location of a type and a number of the driver.
fn typed(kind: c_int, id: c_int) -> Option<Location> {
    match (kind, u32::try_from(id)) {
        (TYPE_DEVICE, Ok(ordinal)) => Some(Location::Device(DeviceId::cuda(ordinal))),
        (TYPE_HOST, _) => Some(Location::Host),
        (TYPE_HOST_NUMA, Ok(node)) => Some(Location::HostNuma(node)),
        _ => None,
    }
}

impl Active<'_> {
    /// # Safety
    ///
    /// The stream is live, and the range stays allocated until the stream has passed the prefetch.
    pub(super) unsafe fn prefetch(
        &self,
        pointer: *const u8,
        bytes: usize,
        to: Location,
        stream: RawStream,
    ) -> Result<(), DriverError> {
        let stream = handle(stream.0);
        match target("cuMemPrefetchAsync", to, self.id)? {
            Target::Processor(to) => {
                // SAFETY: the caller ensures that range and stream are valid.
                let code = unsafe { sys::cuMemPrefetchAsync(address(pointer), bytes, to, stream) };
                self.check("cuMemPrefetchAsync", code)
            }
            Target::Numa(id) => {
                let call = self.driver.numa_calls()?.prefetch;
                let to = MemLocation { kind: TYPE_HOST_NUMA, id };
                // SAFETY: the caller ensures that range and stream are valid. The flags must be zero, and they are.
                let code = unsafe { call(address(pointer), bytes, to, 0, stream) };
                self.check("cuMemPrefetchAsync_v2", code)
            }
        }
    }

    /// # Safety
    ///
    /// The stream is live, and the ranges stay allocated until the stream has passed the prefetch.
    pub(super) unsafe fn prefetch_batch(&self, ranges: &[PrefetchRange], stream: RawStream) -> Result<(), DriverError> {
        let symbol = self.driver.symbol("cuMemPrefetchBatchAsync")?;
        // SAFETY: the type is that of the driver's function with this name.
        let call = unsafe { mem::transmute::<NonNull<c_void>, MemPrefetchBatchAsync>(symbol) };
        let mut addresses: Vec<_> = ranges.iter().map(|range| range.addr).collect();
        let mut sizes: Vec<_> = ranges.iter().map(|range| range.bytes).collect();
        // `locations[i]` applies to the ranges from index `firsts[i]` up to `firsts[i + 1]`.
        let (mut locations, mut firsts) = (Vec::new(), Vec::new());
        for (index, range) in ranges.iter().enumerate() {
            if index == 0 || ranges[index - 1].to != range.to {
                locations.push(target("cuMemPrefetchBatchAsync", range.to, self.id)?.typed());
                firsts.push(index);
            }
        }
        // SAFETY: the caller ensures that ranges and stream are valid. Each array has the length that is passed with
        // it. The flags must be zero, and they are.
        let code = unsafe {
            call(
                addresses.as_mut_ptr(),
                sizes.as_mut_ptr(),
                ranges.len(),
                locations.as_mut_ptr(),
                firsts.as_mut_ptr(),
                locations.len(),
                0,
                handle(stream.0),
            )
        };
        self.check("cuMemPrefetchBatchAsync", code)
    }

    /// # Safety
    ///
    /// The contract of [`Driver::discard_batch`](crate::driver::Driver::discard_batch).
    pub(super) unsafe fn discard_batch(&self, ranges: &[(u64, usize)], stream: RawStream) -> Result<(), DriverError> {
        let symbol = self.driver.symbol("cuMemDiscardBatchAsync")?;
        // SAFETY: the type is that of the driver's function with this name.
        let call = unsafe { mem::transmute::<NonNull<c_void>, MemDiscardBatchAsync>(symbol) };
        let (mut addresses, mut sizes): (Vec<_>, Vec<_>) = ranges.iter().copied().unzip();
        let (at, bytes) = (addresses.as_mut_ptr(), sizes.as_mut_ptr());
        // SAFETY: the caller ensures that ranges and stream are valid. Both arrays have as many entries as the call is
        // given. The flags must be zero, and they are.
        let code = unsafe { call(at, bytes, ranges.len(), 0, handle(stream.0)) };
        self.check("cuMemDiscardBatchAsync", code)
    }

    /// # Safety
    ///
    /// The contract of [`Driver::attach`](crate::driver::Driver::attach).
    pub(super) unsafe fn attach(
        &self,
        pointer: *const u8,
        bytes: usize,
        to: StreamAttach,
        stream: RawStream,
    ) -> Result<(), DriverError> {
        let flags = match to {
            StreamAttach::Global => CUmemAttach_flags::CU_MEM_ATTACH_GLOBAL,
            StreamAttach::Host => CUmemAttach_flags::CU_MEM_ATTACH_HOST,
            StreamAttach::Single => CUmemAttach_flags::CU_MEM_ATTACH_SINGLE,
        };
        // SAFETY: the caller keeps the contract of an attachment.
        let code = unsafe { sys::cuStreamAttachMemAsync(handle(stream.0), address(pointer), bytes, flags as c_uint) };
        self.check("cuStreamAttachMemAsync", code)
    }

    /// # Safety
    ///
    /// The range is allocated.
    pub(super) unsafe fn advise(&self, pointer: *const u8, bytes: usize, advice: Advice) -> Result<(), DriverError> {
        // The driver ignores the location of advice that names none, but may reject an invalid location.
        let at = advice.location().unwrap_or(Location::Device(self.id));
        let advice = advice_number(advice);
        match target("cuMemAdvise", at, self.id)? {
            Target::Processor(at) => {
                // SAFETY: the caller ensures that the range is allocated.
                let code = relaxed(|| unsafe { sys::cuMemAdvise(address(pointer), bytes, advice, at) });
                self.check("cuMemAdvise", code)
            }
            Target::Numa(id) => {
                let call = self.driver.numa_calls()?.advise;
                let at = MemLocation { kind: TYPE_HOST_NUMA, id };
                // SAFETY: the caller ensures that the range is allocated.
                let code = unsafe { call(address(pointer), bytes, advice, at) };
                self.check("cuMemAdvise_v2", code)
            }
        }
    }

    pub(super) fn range_attributes(&self, pointer: *const u8, bytes: usize) -> Result<RangeAttributes, DriverError> {
        let ask = |attribute: c_int| {
            let mut value = [NOWHERE];
            self.range_attribute(pointer, bytes, attribute, &mut value).map(|()| value[0])
        };
        let read_mostly = ask(Attribute::CU_MEM_RANGE_ATTRIBUTE_READ_MOSTLY as c_int)? == 1;
        let (preferred_location, last_prefetch_location) = if self.driver.version() >= NUMA_SINCE {
            (
                typed(ask(PREFERRED_LOCATION_TYPE)?, ask(PREFERRED_LOCATION_ID)?),
                typed(ask(LAST_PREFETCH_LOCATION_TYPE)?, ask(LAST_PREFETCH_LOCATION_ID)?),
            )
        } else {
            (
                processor(ask(Attribute::CU_MEM_RANGE_ATTRIBUTE_PREFERRED_LOCATION as c_int)?),
                processor(ask(Attribute::CU_MEM_RANGE_ATTRIBUTE_LAST_PREFETCH_LOCATION as c_int)?),
            )
        };
        // Room for all devices and the host. Entries that the driver does not write stay `NOWHERE`.
        let mut accessed_by: SmallVec<[c_int; 9]> = smallvec![NOWHERE; self.driver.devices.len() + 1];
        self.range_attribute(pointer, bytes, Attribute::CU_MEM_RANGE_ATTRIBUTE_ACCESSED_BY as c_int, &mut accessed_by)?;
        let accessed_by = accessed_by.into_iter().filter_map(processor).collect();
        Ok(RangeAttributes { read_mostly, preferred_location, accessed_by, last_prefetch_location })
    }

    fn range_attribute(
        &self,
        pointer: *const u8,
        bytes: usize,
        attribute: c_int,
        value: &mut [c_int],
    ) -> Result<(), DriverError> {
        let size = size_of_val(value);
        // SAFETY: `value` is writable for `size` bytes. Every attribute queried here is one or several integers.
        let code =
            unsafe { sys::cuMemRangeGetAttribute(value.as_mut_ptr().cast(), size, attribute, address(pointer), bytes) };
        self.check("cuMemRangeGetAttribute", code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GPU: DeviceId = DeviceId::cuda(1);

    #[test]
    fn targets() {
        assert_eq!(target("call", Location::Host, GPU), Ok(Target::Processor(-1)));
        assert_eq!(target("call", Location::HostNuma(3), GPU), Ok(Target::Numa(3)));
        assert_eq!(target("call", DeviceId::cuda(7).into(), GPU), Ok(Target::Processor(7)));
        assert_eq!(target("call", DeviceId::cuda(u32::MAX).into(), GPU), Ok(Target::Processor(i32::MAX)));
        let found = DeviceId::simulated(1, 0);
        let refused = DriverError::Call { call: "call", device: GPU, code: CudaErrorCode::INVALID_DEVICE };
        assert_eq!(target("call", found.into(), GPU), Err(refused));
    }

    #[test]
    fn answers() {
        assert_eq!(processor(-1), Some(Location::Host));
        assert_eq!(processor(-2), None);
        assert_eq!(processor(1), Some(GPU.into()));
        assert_eq!(typed(1, 1), Some(GPU.into()));
        assert_eq!(typed(2, -5), Some(Location::Host));
        assert_eq!(typed(3, 0), Some(Location::HostNuma(0)));
        assert_eq!(typed(0, 0), None);
        assert_eq!(typed(1, -2), None);
        assert_eq!(typed(4, 0), None);
    }
}
