//! Errors: what was asked, what stood against it, and which layer said no.
//!
//! In all crates of this project a message says everything, reasons included: it may be the only line that is printed
//! or logged. The reason is the error's [`source`](std::error::Error::source) as well, for programs that look for one
//! by its type, as `with_oom_recovery` does; whoever prints the chain besides reads it twice.

use crate::block::Block;
use crate::code::CudaErrorCode;
use crate::held::Held;
use crate::location::DeviceId;
use std::fmt;

/// A call that the driver, or the simulator in its place, did not carry out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DriverError {
    /// A driver call returned an error code.
    #[error("{call} on {device} failed: {code}")]
    Call {
        /// The driver's name for the call.
        call: &'static str,
        /// The device it was made for.
        device: DeviceId,
        /// The code, as the driver returned it.
        code: CudaErrorCode,
    },
    /// PTX that the driver's compiler rejected.
    #[error("{device} cannot run this PTX: {code}: {log}")]
    Compile {
        /// The device it was compiled for.
        device: DeviceId,
        /// The code, as the driver returned it.
        code: CudaErrorCode,
        /// What the compiler said.
        log: String,
    },
    /// The installed driver is too old for a call.
    #[error("the installed driver ({driver_version}) has no {symbol}")]
    MissingSymbol {
        /// The symbol that it lacks.
        symbol: &'static str,
        /// The CUDA version that the driver reports.
        driver_version: String,
    },
    /// There is no usable driver on this machine.
    #[error("no CUDA driver: {reason}")]
    NoDriver {
        /// What was tried and what came of it.
        reason: String,
        /// The code, if a driver answered with one.
        code: Option<CudaErrorCode>,
    },
    /// No device has this number.
    #[error("there is no device {ordinal}: the driver lists {count}")]
    NoSuchDevice {
        /// The number that was asked for.
        ordinal: u32,
        /// How many devices there are.
        count: u32,
    },
    /// A profile of a simulated machine makes no sense.
    #[error("the profile of simulated device {ordinal} is not sound: {reason}")]
    UnsoundProfile {
        /// Which of them.
        ordinal: u32,
        /// The field, and what is wrong with it.
        reason: String,
    },
    /// A simulated machine was to have more devices than it can.
    #[error("a simulated machine has at most {most} devices, not {devices}")]
    TooManyDevices {
        /// Devices that were asked for.
        devices: usize,
        /// The most that there can be.
        most: usize,
    },
    /// Two objects that were used together belong to different devices.
    #[error("{what} belongs to {found}, but {expected} is needed here")]
    WrongDevice {
        /// The object that does not fit.
        what: &'static str,
        /// The device it belongs to.
        found: DeviceId,
        /// The device that it was used with.
        expected: DeviceId,
    },
    /// A per-thread default stream was given work by a thread that it does not belong to.
    #[error("a per-thread default stream of {device} was used by another thread than its own")]
    WrongThread {
        /// The stream's device.
        device: DeviceId,
    },
    /// The device cannot do this.
    #[error("{device} does not support {what}")]
    NotSupported {
        /// What was asked for.
        what: &'static str,
        /// The device that cannot.
        device: DeviceId,
    },
    /// The host is using unified memory, and the device has no concurrent managed access: nothing may run.
    #[error("{device} has no concurrent managed access, and {guards} host guards over unified memory are open")]
    HostAccess {
        /// The device.
        device: DeviceId,
        /// Guards that are open.
        guards: usize,
    },
    /// A range is not within the memory it was applied to.
    #[error("range {start}..{end} is not within {size} bytes or elements")]
    OutOfRange {
        /// Where it starts.
        start: usize,
        /// Where it ends, exclusive.
        end: usize,
        /// What there is.
        size: usize,
    },
    /// Hints were to be undone for a block that they were not given about.
    #[error("the hints were given about the block at {expected:#x}, not about the one at {found:#x}")]
    OtherBlock {
        /// The address of the block that they were given about.
        expected: u64,
        /// The address of the block that was named.
        found: u64,
    },
    /// A block or an alias was used with a resource that did not make it.
    #[error("{layer} did not make the {what} at {addr:#x}")]
    Foreign {
        /// The resource that was asked.
        layer: &'static str,
        /// What it did not make.
        what: &'static str,
        /// The address of that.
        addr: u64,
    },
    /// Memory was to be mapped a second time, and there is none.
    #[error("none of the {blocks} blocks has memory that could be mapped a second time")]
    NothingToMap {
        /// Blocks that were given.
        blocks: usize,
    },
    /// Work on the simulated device did something that a real one would not survive.
    #[error("{device}: {message}")]
    Simulation {
        /// The simulated device.
        device: DeviceId,
        /// What happened, and where.
        message: String,
    },
}

impl DriverError {
    /// The driver's code, where there is one.
    pub fn code(&self) -> Option<CudaErrorCode> {
        match self {
            Self::NoDriver { code, .. } => *code,
            Self::Call { code, .. } | Self::Compile { code, .. } => Some(*code),
            _ => None,
        }
    }

    /// The device that it is about, where it is about one.
    pub fn device(&self) -> Option<DeviceId> {
        match self {
            Self::WrongDevice { expected: device, .. }
            | Self::WrongThread { device }
            | Self::Call { device, .. }
            | Self::Compile { device, .. }
            | Self::NotSupported { device, .. }
            | Self::HostAccess { device, .. }
            | Self::Simulation { device, .. } => Some(*device),
            Self::MissingSymbol { .. }
            | Self::NoDriver { .. }
            | Self::NoSuchDevice { .. }
            | Self::UnsoundProfile { .. }
            | Self::TooManyDevices { .. }
            | Self::OutOfRange { .. }
            | Self::OtherBlock { .. }
            | Self::Foreign { .. }
            | Self::NothingToMap { .. } => None,
        }
    }

    /// What the driver would say if host memory ran out.
    pub(crate) fn host_out_of_memory(device: DeviceId) -> Self {
        Self::Call { call: "malloc", device, code: CudaErrorCode::OUT_OF_MEMORY }
    }

    /// Whether it is the driver's way of saying that memory ran out.
    pub fn is_out_of_memory(&self) -> bool {
        self.code() == Some(CudaErrorCode::OUT_OF_MEMORY)
    }
}

/// A block that could not be allocated. Nothing was allocated, and no counter moved.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AllocError {
    /// The memory that a leaf draws from has run out.
    #[error("out of memory: {layer} was asked for {requested} bytes, {free} of {total} are free on {device}")]
    OutOfMemory {
        /// The leaf that failed.
        layer: &'static str,
        /// Bytes asked for.
        requested: usize,
        /// Bytes free on the device, or of the host for host memory, just after the failure; 0 if nobody could say.
        free: usize,
        /// Bytes that the device (the host) has.
        total: usize,
        /// The device.
        device: DeviceId,
    },
    /// A suballocator holds no block that is large enough and may not, or cannot, grow.
    #[error("out of memory: {layer} was asked for {requested} bytes; it holds {held}{}", Because(upstream))]
    Exhausted {
        /// The suballocator.
        layer: &'static str,
        /// Bytes asked for.
        requested: usize,
        /// What it has.
        held: Box<Held>,
        /// Why the upstream gave it no more, where it was asked.
        upstream: Option<Box<AllocError>>,
    },
    /// A limit would be passed.
    #[error("limit reached: {requested} bytes were asked for, {allocated} of {limit} are in use")]
    LimitExceeded {
        /// Bytes asked for.
        requested: usize,
        /// Bytes counted against the limit before.
        allocated: usize,
        /// The limit.
        limit: usize,
    },
    /// Size and alignment that no memory can have.
    #[error("invalid layout: {size} bytes aligned to {alignment} (a power of two, and at most isize::MAX bytes)")]
    InvalidLayout {
        /// Bytes asked for; `usize::MAX` where the computation of the size overflowed.
        size: usize,
        /// The alignment asked for.
        alignment: usize,
    },
    /// An alignment that this resource cannot give.
    #[error("{layer} aligns to at most {maximum} bytes, {alignment} were asked for")]
    UnsupportedAlignment {
        /// The resource.
        layer: &'static str,
        /// The alignment asked for.
        alignment: usize,
        /// The most it can give.
        maximum: usize,
    },
    /// The block was allocated, but could not be prefetched; it has been given back.
    #[error("{requested} bytes were allocated and given back, because they could not be prefetched: {source}")]
    PrefetchFailed {
        /// Bytes asked for.
        requested: usize,
        /// Why not.
        source: DriverError,
    },
    /// The driver refused for another reason than want of memory.
    #[error(transparent)]
    Driver(#[from] DriverError),
}

impl AllocError {
    /// Whether memory ran out, or a limit or maximum was reached: less demand could succeed.
    pub fn is_out_of_memory(&self) -> bool {
        match self {
            Self::OutOfMemory { .. } | Self::Exhausted { .. } | Self::LimitExceeded { .. } => true,
            Self::Driver(error) => error.is_out_of_memory(),
            _ => false,
        }
    }
}

struct Because<'a>(&'a Option<Box<AllocError>>);

impl fmt::Display for Because<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(error) => write!(f, "; {error}"),
            None => Ok(()),
        }
    }
}

/// A block that was not accepted back. It is still live, and here.
#[derive(Debug, thiserror::Error)]
#[error("{reason} ({} bytes at {:#x})", block.size(), block.addr())]
#[non_exhaustive]
pub struct DeallocError {
    /// The block, as it was given.
    pub block: Block,
    /// Why it was not accepted.
    #[source]
    pub reason: DeallocReason,
}

/// Why a block was not accepted back.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DeallocReason {
    /// The resource did not make it.
    #[error("{layer} did not make this block")]
    Foreign {
        /// The resource that was asked.
        layer: &'static str,
    },
    /// More would be returned than is counted as out.
    #[error("{layer} counts {outstanding} bytes as allocated, {returned} were to be returned")]
    NotOutstanding {
        /// The adaptor that counts.
        layer: &'static str,
        /// Bytes that it counts as allocated.
        outstanding: usize,
        /// Bytes of the block.
        returned: usize,
    },
    /// The driver refused.
    #[error(transparent)]
    Driver(#[from] DriverError),
}

/// A layer could not give back all that it keeps unused; it still has the rest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("after {trimmed} bytes, memory could not be given back: {reason}")]
#[non_exhaustive]
pub struct TrimError {
    /// Bytes that were given back all the same.
    pub trimmed: usize,
    /// Why no more were: the first reason met.
    #[source]
    pub reason: DeallocReason,
}

impl TrimError {
    /// `trimmed` bytes given back, and no more for `reason`.
    #[cold]
    pub fn new(trimmed: usize, reason: impl Into<DeallocReason>) -> Self {
        Self { trimmed, reason: reason.into() }
    }
}

impl DeallocError {
    /// `block`, not accepted for `reason`.
    #[cold]
    pub fn new(block: Block, reason: impl Into<DeallocReason>) -> Self {
        Self { block, reason: reason.into() }
    }

    /// `block`, which `layer` did not make.
    #[cold]
    pub fn foreign(layer: &'static str, block: Block) -> Self {
        Self::new(block, DeallocReason::Foreign { layer })
    }
}
