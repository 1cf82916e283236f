//! [`Addresses`]: a reserved address range, divided into granules.

use crate::device::Device;
use cumem_driver::drop_error::{DropError, record_drop_error};
use cumem_driver::{CudaErrorCode, DriverError};
use std::fmt;
use std::num::NonZero;
use std::ops::Range;
use std::ptr::NonNull;

/// One reserved address range. [`release`](Self::release) frees it.
#[derive(Debug)]
pub(super) struct Addresses {
    start: NonNull<u8>,
    /// Bytes of the range.
    reserved: usize,
    /// Bytes of a granule.
    granularity: usize,
}

// SAFETY: the pointer is only used as an address. No method of this type accesses memory through it.
unsafe impl Send for Addresses {}
// SAFETY: as for `Send`.
unsafe impl Sync for Addresses {}

impl Addresses {
    pub(super) fn reserve(device: &Device, granules: u64, granularity: usize) -> Result<Self, DriverError> {
        let reserved = granules as usize * granularity;
        let start = device.driver().reserve_addresses(device.ordinal(), reserved)?;
        Ok(Self { start, reserved, granularity })
    }

    fn base(&self) -> u64 {
        self.start.as_ptr().expose_provenance() as u64
    }

    pub(super) fn range(&self) -> Range<u64> {
        self.base()..self.base() + self.reserved as u64
    }

    pub(super) fn granularity(&self) -> usize {
        self.granularity
    }

    /// Returns the number of granules of the range.
    pub(super) fn granules(&self) -> u64 {
        (self.reserved / self.granularity) as u64
    }

    /// Returns the address of a granule.
    pub(super) fn place(&self, granule: u64) -> NonNull<u8> {
        let offset = granule as usize * self.granularity;
        let place = NonZero::new(self.base() as usize + offset).expect("no addresses are reserved at 0");
        NonNull::with_exposed_provenance(place)
    }

    /// Returns the index of the granule that starts at an address, or `None` if no granule starts there. An address
    /// past the end of the range gives an index past the last granule.
    pub(super) fn granule(&self, addr: u64) -> Option<u64> {
        let (offset, granularity) = (addr.checked_sub(self.base())?, self.granularity as u64);
        offset.is_multiple_of(granularity).then_some(offset / granularity)
    }

    /// Frees the address range, for use in a `drop`. If `taken` granules still have memory of `what`, the range stays
    /// reserved, and the function records an error.
    pub(super) fn release(&self, device: &Device, taken: u64, what: &'static str) {
        let bytes = taken as usize * self.granularity;
        if bytes > 0 {
            return record_drop_error("reserved addresses", Err(StillMapped { what, bytes }));
        }
        // SAFETY: one call reserved the range, and nothing is mapped in it any more.
        let result = unsafe { device.driver().release_addresses(device.ordinal(), self.start, self.reserved) };
        record_drop_error("reserved addresses", result);
    }
}

/// Returns the error for a range that has no free addresses left: the code that the driver returns in that case.
pub(super) fn used_up(device: &Device) -> DriverError {
    DriverError::Call { call: "cuMemAddressReserve", device: device.id(), code: CudaErrorCode::OUT_OF_MEMORY }
}

/// The reason why an address range stays reserved.
#[derive(Debug)]
struct StillMapped {
    what: &'static str,
    bytes: usize,
}

impl fmt::Display for StillMapped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} bytes are still live", self.what, self.bytes)
    }
}

impl DropError for StillMapped {}
