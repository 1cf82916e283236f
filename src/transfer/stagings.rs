//! [`Stagings`]: the staging memory of a device. It is spare memory while no transfer uses it.

use super::device_staging::{self, DeviceStaging};
use super::host_ring::{self, HostRing};
use super::kernel_copy::KernelCopy;
use super::lease::Leases;
use super::value_slots::ValueSlots;
use crate::device::spare::{Keeper, SparePlace};
use cumem_driver::owned::RawDevice;
use std::sync::Arc;

/// Host rings of a device. Two, because the link carries both directions at once: an upload and a download can overlap.
/// A third would share the link with them, and would take another 32 MiB of pinned memory.
const HOST_RINGS: usize = 2;
/// Device stagings of a device. Two for the same reason, and because a host ring over unified memory borrows one. Each
/// takes 24 MiB of device memory.
const DEVICE_STAGINGS: usize = 2;
/// Kernel copies of a device. More than of the others, because each takes only 8 KiB of pinned memory.
const KERNEL_COPIES: usize = 8;

/// The objects that transfers borrow. Each is created at its first use.
pub(super) struct Stagings {
    pub(super) host_rings: Leases<HostRing>,
    pub(super) device_stagings: Leases<DeviceStaging>,
    pub(super) kernel_copies: Leases<KernelCopy>,
    pub(super) values: Arc<ValueSlots>,
}

impl Stagings {
    pub(super) fn new(device: &RawDevice) -> Self {
        Self {
            host_rings: Leases::new(HOST_RINGS),
            device_stagings: Leases::new(DEVICE_STAGINGS),
            kernel_copies: Leases::new(KERNEL_COPIES),
            values: Arc::new(ValueSlots::new(device)),
        }
    }

    /// Frees the objects that no transfer is using.
    pub(super) fn trim(&self) {
        self.host_rings.clear();
        self.device_stagings.clear();
        self.kernel_copies.clear();
        self.values.trim();
    }
}

/// The kernel copies and the slots for values stay, because all of them together take less than one page of device
/// memory and 128 KiB of pinned memory.
impl Keeper for Stagings {
    fn spare_bytes(&self, place: SparePlace) -> usize {
        match place {
            SparePlace::Device => self.device_stagings.idle() * device_staging::BYTES,
            SparePlace::Host => self.host_rings.idle() * host_ring::BYTES,
        }
    }

    fn free_spare(&self, place: SparePlace) -> usize {
        match place {
            SparePlace::Device => self.device_stagings.clear() * device_staging::BYTES,
            SparePlace::Host => self.host_rings.clear() * host_ring::BYTES,
        }
    }
}
