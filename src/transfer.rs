//! Copies between the host and a buffer by the best path: what a device keeps for them, and who gets it.
//!
//! | file | what it knows |
//! |---|---|
//! | `path` | which path is best for how many bytes, and why |
//! | `ring` | memory of the process: through page-locked memory, host copy and link overlapped |
//! | `belt` | who works on which piece of it |
//! | `crew` | the threads that copy |
//! | `stage` | much page-locked memory: through plain device memory, which copy engines write |
//! | `teller` | little page-locked memory: a kernel that says when it is done |
//! | `host` | copies of the host |
//! | `gear` | memory, events and streams of the driver, given back when they go |

mod copy_threads;
mod device_staging;
mod enqueue;
mod host_copy;
mod host_ring;
mod kernel_copy;
mod lease;
mod path;
mod pipeline;
mod request;

pub use request::TransferPath;

use self::device_staging::Stage;
use self::host_ring::Ring;
use self::kernel_copy::{Kernels, Teller};
use self::lease::{Lease, Pool};
use self::path::{Caller, Plan};
use crate::device::Device;
use crate::device::error::DeviceError;
use crate::device::stream::Stream;
use cumem_driver::owned::RawDevice;
use cumem_driver::{DriverError, MemoryType};
use std::fmt;
use std::sync::{Arc, OnceLock};

pub(crate) use self::enqueue::{enqueue_copy, settle};
pub(crate) use self::host_copy::copy as host_copy;
pub(crate) use self::request::{Direction, Ends, Transfer};

/// What a device keeps to move bytes with: made when first needed, bounded, and given back with the last handle to the
/// device. When all of a kind is in use, a transfer goes the driver's own way.
pub(crate) struct Transfers {
    device: RawDevice,
    rings: Pool<Ring>,
    stages: Pool<Stage>,
    tellers: Pool<Teller>,
    kernels: OnceLock<Result<Arc<Kernels>, DriverError>>,
}

impl Transfers {
    /// Returns what a device keeps for transfers, which all handles to it share.
    #[inline]
    pub(crate) fn of(device: &Device) -> &Self {
        device.slots().get(|| Self {
            device: device.raw().clone(),
            rings: Pool::new(2),
            stages: Pool::new(2),
            tellers: Pool::new(8),
            kernels: OnceLock::new(),
        })
    }

    /// Gives back what no transfer is using.
    pub(crate) fn trim(&self) {
        self.rings.clear();
        self.stages.clear();
        self.tellers.clear();
    }

    /// Carries the transfer out, complete on return, and says how.
    ///
    /// # Safety
    ///
    /// Both ends are valid for all bytes, the one that is written for writes, and nothing uses them in a conflicting
    /// way until the call returns, besides work that was enqueued on `stream` before.
    pub(crate) unsafe fn carry(&self, transfer: Transfer, stream: &Stream) -> Result<TransferPath, DeviceError> {
        let caller = || match stream.device().pointer_info(transfer.host) {
            Ok(info) if info.memory_type == MemoryType::Host => Caller::Pinned,
            Ok(_) => Caller::Other,
            Err(_) => Caller::Pageable,
        };
        match path::plan(transfer, caller) {
            plan @ (Plan::Tell | Plan::TellThroughSlot) => {
                if let Some(mut teller) = self.teller(stream) {
                    match plan {
                        // SAFETY: by this function's contract, and the host's end is page-locked.
                        Plan::Tell => unsafe { teller.directly(transfer, stream) }?,
                        // SAFETY: by this function's contract, and the plan is for what fits.
                        _ => unsafe { teller.through_slot(transfer, stream) }?,
                    }
                    return Ok(TransferPath::Kernel);
                }
            }
            plan @ (Plan::Gather | Plan::Stage) => {
                if let Some(stage) = self.stages.lease(|| Stage::new(&self.device)) {
                    let teller = if plan == Plan::Gather { self.gathering_teller(stream) } else { None };
                    match teller {
                        // SAFETY: by this function's contract, the host's end is page-locked, and the plan is for what
                        // fits.
                        Some(mut teller) => unsafe { teller.gather(transfer, &stage, stream) },
                        // SAFETY: as above.
                        None => unsafe { stage.carry(transfer, stream) },
                    }?;
                    return Ok(TransferPath::Staged);
                }
            }
            Plan::Ring => {
                if let Some(ring) = self.rings.lease(|| Ring::new(&self.device)) {
                    let stage = if transfer.unified { self.stages.lease(|| Stage::new(&self.device)) } else { None };
                    // SAFETY: by this function's contract.
                    if unsafe { ring.carry(transfer, stage.as_deref(), stream) }? {
                        return Ok(TransferPath::Ring);
                    }
                }
            }
            Plan::Copy => {}
        }
        let raw = stream.raw()?;
        // SAFETY: by this function's contract; the wait is for this copy.
        unsafe { enqueue_copy(transfer.ends(), raw, stream) }?;
        settle(stream)?;
        Ok(TransferPath::Copy)
    }

    /// Its kernel waits for a copy that runs beside it.
    fn gathering_teller(&self, stream: &Stream) -> Option<Lease<'_, Teller>> {
        let attributes = stream.device().attributes();
        let beside = attributes.copy_engines > 0 && !attributes.integrated;
        if beside { self.teller(stream).filter(|teller| teller.gathers()) } else { None }
    }

    fn teller(&self, stream: &Stream) -> Option<Lease<'_, Teller>> {
        self.tellers.lease(|| Teller::new(&self.device, self.kernels()?, stream))
    }

    fn kernels(&self) -> Result<Arc<Kernels>, DriverError> {
        if let Some(known) = self.kernels.get() {
            return known.clone();
        }
        match Kernels::load(&self.device).map(Arc::new) {
            // This may pass; whatever else it is, the device is like that.
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
    /// Frees the memory that copies between the host and buffers are staged through, as far as no copy is using it: at
    /// most 64 MiB of pinned memory and 48 MiB of device memory. The first large copies allocate it, and the device
    /// keeps it as long as there is a handle to it.
    pub fn trim_staging(&self) {
        Transfers::of(self).trim();
    }
}
