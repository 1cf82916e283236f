//! [`Transfers`]: the buffers and streams that a device keeps for transfers, and the run of a transfer.

use super::device_staging::DeviceStaging;
use super::enqueue::{enqueue_copy, wait_for_stream};
use super::host_ring::HostRing;
use super::kernel_copy::{KernelCopy, Kernels};
use super::lease::Lease;
use super::path::{self, HostMemory, Plan};
use super::request::{Transfer, TransferPath};
use super::stagings::Stagings;
use super::value_slots::ValueSlots;
use crate::device::Device;
use crate::device::error::DeviceError;
use crate::device::stream::Stream;
use cumem_driver::owned::RawDevice;
use cumem_driver::{DriverError, MemoryType};
use std::fmt;
use std::sync::{Arc, OnceLock};

/// The staging memory and the kernels that a device keeps for transfers.
///
/// Each object is created at its first use, and dropped with the last handle to the device. Large staging memory is
/// dropped earlier if a leaf is out of memory. The number of objects is limited. A transfer that finds all objects of a
/// type in use is a plain copy of the driver.
pub(crate) struct Transfers {
    device: RawDevice,
    stagings: Arc<Stagings>,
    kernels: OnceLock<Result<Arc<Kernels>, DriverError>>,
}

impl Transfers {
    /// Returns the value that `device` keeps for transfers. All handles to the device share this value.
    #[inline]
    pub(crate) fn of(device: &Device) -> &Self {
        device.slots().get(|| {
            let stagings = Arc::new(Stagings::new(device.raw()));
            device.spare().add(Arc::<Stagings>::clone(&stagings));
            Self { device: device.raw().clone(), stagings, kernels: OnceLock::new() }
        })
    }

    /// Runs the transfer, and returns its path.
    ///
    /// # Safety
    ///
    /// The contract of [`Transfer`].
    pub(crate) unsafe fn run(&self, transfer: Transfer, stream: &Stream) -> Result<TransferPath, DeviceError> {
        let host_memory = || match stream.device().pointer_info(transfer.host) {
            Ok(info) if info.memory_type == MemoryType::Host => HostMemory::Pinned,
            Ok(_) => HostMemory::Other,
            Err(_) => HostMemory::Pageable,
        };
        match path::plan(transfer, host_memory) {
            plan @ (Plan::Kernel | Plan::KernelSlot) => {
                if let Some(mut kernel_copy) = self.kernel_copy(stream) {
                    match plan {
                        // SAFETY: the caller keeps the contract of `Transfer`. This plan is for pinned memory and
                        // aligned ends.
                        Plan::Kernel => unsafe { kernel_copy.run(transfer, stream) }?,
                        // SAFETY: the caller keeps the contract of `Transfer`. This plan is for copies that fit into
                        // the slot, and for an aligned device end.
                        _ => unsafe { kernel_copy.run_through_slot(transfer, stream) }?,
                    }
                    return Ok(TransferPath::Kernel);
                }
            }
            plan @ (Plan::KernelGather | Plan::Staged) => {
                if let Some(staging) = self.device_staging() {
                    let kernel_copy =
                        if plan == Plan::KernelGather { self.gathering_kernel_copy(stream) } else { None };
                    match kernel_copy {
                        // SAFETY: the caller keeps the contract of `Transfer`, and the lease excludes other users. This
                        // plan is for pinned memory, aligned ends, and copies that fit into a slot of `staging`.
                        Some(mut kernel_copy) => unsafe { kernel_copy.run_gather(transfer, &staging, stream) },
                        // SAFETY: the caller keeps the contract of `Transfer`, and both plans are for pinned memory.
                        None => unsafe { staging.run(transfer, stream) },
                    }?;
                    return Ok(TransferPath::Staged);
                }
            }
            Plan::Ring => {
                if let Some(ring) = self.stagings.host_rings.lease(|| HostRing::new(&self.device)) {
                    let staging = if transfer.unified { self.device_staging() } else { None };
                    // SAFETY: the caller keeps the contract of `Transfer`.
                    if unsafe { ring.run(transfer, staging.as_deref(), stream) }? {
                        return Ok(TransferPath::Ring);
                    }
                }
            }
            Plan::Copy => {}
        }
        let raw = stream.raw()?;
        // SAFETY: the caller keeps the contract of `Transfer`, and this function waits for the copy below.
        unsafe { enqueue_copy(transfer.ends(), raw, stream) }?;
        wait_for_stream(stream)?;
        Ok(TransferPath::Copy)
    }

    /// Returns the pinned memory for single values.
    pub(crate) fn values(&self) -> &Arc<ValueSlots> {
        &self.stagings.values
    }

    fn device_staging(&self) -> Option<Lease<'_, DeviceStaging>> {
        self.stagings.device_stagings.lease(|| DeviceStaging::new(&self.device))
    }

    /// Returns a kernel copy that can gather. Its kernel waits for a copy that a copy engine runs at the same time, so
    /// the device needs such an engine.
    fn gathering_kernel_copy(&self, stream: &Stream) -> Option<Lease<'_, KernelCopy>> {
        let attributes = stream.device().attributes();
        let overlaps = attributes.copy_engines > 0 && !attributes.integrated;
        if overlaps { self.kernel_copy(stream).filter(|kernel_copy| kernel_copy.can_gather()) } else { None }
    }

    fn kernel_copy(&self, stream: &Stream) -> Option<Lease<'_, KernelCopy>> {
        self.stagings.kernel_copies.lease(|| KernelCopy::new(&self.device, self.kernels()?, stream))
    }

    fn kernels(&self) -> Result<Arc<Kernels>, DriverError> {
        if let Some(known) = self.kernels.get() {
            return known.clone();
        }
        match Kernels::load(&self.device).map(Arc::new) {
            // The next load may find memory. Every other error is permanent for this device, so it is kept.
            Err(error) if error.is_out_of_memory() => Err(error),
            known => self.kernels.get_or_init(|| known).clone(),
        }
    }
}

impl fmt::Debug for Transfers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transfers").finish_non_exhaustive()
    }
}

impl Device {
    /// Frees the staging memory of copies between the host and buffers, except memory that a copy is using.
    ///
    /// This is at most 64 MiB of pinned memory and 48 MiB of device memory for large copies, and about 128 KiB of pinned
    /// memory for small ones. The first copies allocate it, and the device keeps it as long as a handle to the device
    /// exists. The library frees the staging memory of large copies itself before a leaf reports that it is out of
    /// memory, and in [`trim_stack`](crate::LayerExt::trim_stack).
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem::sim::Profile;
    /// use cumem::{Buffer, Device, ManagedResource, Stream};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let device = Device::simulated(Profile::default())?;
    /// let stream = Stream::new(&device)?;
    /// let mut buffer = Buffer::<u8, _>::zeroed(32 << 20, &stream, ManagedResource::new(&device)?)?;
    /// let _ = buffer.upload(&vec![1; 32 << 20])?; // allocates staging memory
    /// drop(buffer);
    /// device.trim_staging();
    /// assert_eq!(device.simulator().expect("the device is simulated").live_allocations().pinned.bytes, 0);
    /// # Ok(())
    /// # }
    /// ```
    pub fn trim_staging(&self) {
        Transfers::of(self).stagings.trim();
    }
}
