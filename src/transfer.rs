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

mod belt;
mod crew;
mod gear;
mod host;
mod path;
mod pool;
mod ring;
mod stage;
mod teller;

pub use path::TransferPath;

use self::gear::Door;
use self::path::{Caller, Plan};
use self::pool::{Lease, Pool};
use self::ring::Ring;
use self::stage::Stage;
use self::teller::{Kernels, Teller};
use crate::driver::{Driver, MemoryType, RawStream};
use crate::error::DriverError;
use crate::location::DeviceId;
use crate::per_device::Shared;
use crate::stream::Stream;
use std::fmt;
use std::sync::{Arc, OnceLock};

pub(crate) use self::host::{Ends, copy as host_copy};
pub(crate) use self::path::Direction;

/// What a device keeps to move bytes with: made when first needed, bounded, and given back with the last handle to the
/// device. When all of a kind is in use, a transfer goes the driver's own way.
pub(crate) struct Transfers {
    door: Door,
    rings: Pool<Ring>,
    stages: Pool<Stage>,
    tellers: Pool<Teller>,
    kernels: OnceLock<Result<Arc<Kernels>, DriverError>>,
}

/// One transfer between the host and device-accessible memory.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Transfer {
    /// The host's end.
    pub(crate) host: *mut u8,
    /// The device's end.
    pub(crate) device: *mut u8,
    /// Not zero.
    pub(crate) bytes: usize,
    pub(crate) direction: Direction,
    /// The device's end is unified memory, to which the driver copies otherwise than to device memory.
    pub(crate) unified: bool,
    /// The path that somebody has asked for.
    pub(crate) by: Option<TransferPath>,
}

impl Transfers {
    /// What the device keeps, which all handles to it share.
    pub(crate) fn of(id: DeviceId, driver: &Arc<dyn Driver>) -> Arc<Self> {
        static KNOWN: Shared<Transfers> = Shared::new();
        KNOWN.of(id, || Self {
            door: Door::new(driver, id.ordinal()),
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
    pub(crate) unsafe fn carry(&self, transfer: Transfer, stream: &Stream) -> Result<TransferPath, DriverError> {
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
                if let Some(stage) = self.stages.lease(|| Stage::new(&self.door)) {
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
                if let Some(ring) = self.rings.lease(|| Ring::new(&self.door)) {
                    let stage = if transfer.unified { self.stages.lease(|| Stage::new(&self.door)) } else { None };
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
        self.tellers.lease(|| Teller::new(&self.door, self.kernels()?, stream))
    }

    fn kernels(&self) -> Result<Arc<Kernels>, DriverError> {
        if let Some(known) = self.kernels.get() {
            return known.clone();
        }
        match Kernels::load(&self.door).map(Arc::new) {
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

impl Transfer {
    fn ends(&self) -> Ends {
        let Self { host, device, bytes, direction, .. } = *self;
        match direction {
            Direction::ToDevice => Ends { to: device, from: host, bytes },
            Direction::ToHost => Ends { to: host, from: device, bytes },
        }
    }
}

/// Enqueues a copy on `raw`, a stream of the device of `stream`.
///
/// # Safety
///
/// Both ends are valid, and used by nothing in conflict, until the stream has passed the copy.
pub(crate) unsafe fn enqueue_copy(ends: Ends, raw: RawStream, stream: &Stream) -> Result<(), DriverError> {
    let device = stream.device();
    // SAFETY: by this function's contract; both streams are alive.
    device.enqueue(|| unsafe { device.driver().copy_async(device.ordinal(), ends.to, ends.from, ends.bytes, raw) })
}

/// Waits for a transfer from or to memory of the caller: page-locked memory is read and written until it is done.
///
/// A synchronisation that fails reports earlier work, after the wait. Should it have failed before, the device is
/// waited for; where that fails too, the context is lost, and nothing is written any more.
pub(crate) fn settle(stream: &Stream) -> Result<(), DriverError> {
    stream.synchronize().or_else(|error| stream.device().synchronize().and(Err(error)))
}
