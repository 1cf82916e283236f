//! [`Addresses`]: reserved addresses, counted in granules from their start.

use crate::device::Device;
use cumem_driver::drop_error::{DropError, record_drop_error};
use cumem_driver::{CudaErrorCode, DriverError};
use std::fmt;
use std::num::NonZero;
use std::ops::Range;
use std::ptr::NonNull;

/// Reserved in one piece, and given back by [`release`](Self::release).
#[derive(Debug)]
pub(super) struct Addresses {
    start: NonNull<u8>,
    /// Bytes.
    reserved: usize,
    /// Bytes.
    granularity: usize,
}

// SAFETY: the pointer is an address, of which whoever maps memory there takes a part.
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

    /// How many granules they are.
    pub(super) fn granules(&self) -> u64 {
        (self.reserved / self.granularity) as u64
    }

    /// Where a granule begins.
    pub(super) fn place(&self, granule: u64) -> NonNull<u8> {
        let offset = granule as usize * self.granularity;
        let place = NonZero::new(self.base() as usize + offset).expect("no addresses are reserved at 0");
        NonNull::with_exposed_provenance(place)
    }

    /// The granule that begins at an address, from the start of these addresses on.
    pub(super) fn granule(&self, addr: u64) -> Option<u64> {
        let (offset, granularity) = (addr.checked_sub(self.base())?, self.granularity as u64);
        offset.is_multiple_of(granularity).then_some(offset / granularity)
    }

    /// Gives them back in a drop, unless memory is still mapped behind `taken` granules: that of `what`.
    pub(super) fn release(&self, device: &Device, taken: u64, what: &'static str) {
        let bytes = taken as usize * self.granularity;
        if bytes > 0 {
            return record_drop_error("reserved addresses", Err(StillMapped { what, bytes }));
        }
        // SAFETY: they were reserved in one piece, and nothing is mapped there any more.
        let result = unsafe { device.driver().release_addresses(device.ordinal(), self.start, self.reserved) };
        record_drop_error("reserved addresses", result);
    }
}

/// The error of a driver that has no addresses left.
pub(super) fn used_up(device: &Device) -> DriverError {
    DriverError::Call { call: "cuMemAddressReserve", device: device.id(), code: CudaErrorCode::OUT_OF_MEMORY }
}

/// Why the addresses stay reserved.
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

impl DropError for StillMapped {
    fn is_driver_shut_down(&self) -> bool {
        false
    }
}
