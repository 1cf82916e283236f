//! [`Operation`]: a piece of work in a stream, as data, and [`StreamPoint`]: a point between two of them.
#![forbid(unsafe_code)]

use super::bytes::FillValue;
use super::handles::Key;
use super::memory::{AllocationKind, MemoryRef};
use super::uvm::{Processor, RangeId};
use cumem_driver::{DriverError, HostKernel};
use std::ops::Range;

/// A point in a stream's work. It is reached when the first `seq` operations of the stream are done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct StreamPoint {
    pub(super) stream: Key,
    pub(super) seq: u64,
}

/// An operation that starts at `ready` at the earliest.
#[derive(Debug)]
pub(super) struct Operation {
    pub(super) ready: u64,
    pub(super) name: &'static str,
    pub(super) action: Action,
}

/// The action of an operation of a stream.
#[derive(Debug)]
pub(super) enum Action {
    Copy {
        dst: Endpoint,
        src: Endpoint,
        bytes: u64,
        engine: EngineKind,
    },
    Fill {
        dst: Endpoint,
        value: FillValue,
        bytes: u64,
    },
    Kernel {
        kernel: Box<HostKernel>,
        ranges: Box<[Option<MemoryRef>]>,
    },
    Prefetch {
        memory: MemoryRef,
        range: RangeId,
        pages: Range<u64>,
        to: Processor,
    },
    /// Discards the contents of pages.
    Discard {
        memory: MemoryRef,
        range: RangeId,
        pages: Range<u64>,
    },
    /// Records the time of an event.
    Record(Key),
    /// Waits for a point in another stream.
    Wait(StreamPoint),
    /// Failed when it started, and occupies this engine. A kernel that will not run is kept here until it can be
    /// dropped outside the lock, because dropping the values that it captured may call the driver.
    Failed(EngineKind, Option<Box<HostKernel>>),
}

/// One end of a copy or fill.
#[derive(Debug)]
pub(super) enum Endpoint {
    /// An address in a simulated allocation.
    Simulated(u64, MemoryRef),
    /// An address in ordinary host memory, which is used only before the call returns.
    Pageable(u64),
    /// Bytes that were copied during the call.
    Staged(Box<[u8]>),
}

/// The memory at an address that a call names.
#[derive(Debug, Clone, Copy)]
pub(super) enum Place {
    /// An address in a simulated allocation.
    Simulated(u64, MemoryRef),
    /// An address in ordinary host memory.
    Pageable(u64),
}

impl From<Place> for Endpoint {
    fn from(place: Place) -> Self {
        match place {
            Place::Simulated(addr, memory) => Self::Simulated(addr, memory),
            Place::Pageable(addr) => Self::Pageable(addr),
        }
    }
}

impl Place {
    pub(super) fn on_device(self) -> bool {
        matches!(self, Self::Simulated(_, memory) if memory.kind != AllocationKind::Pinned)
    }
}

/// The engines of a device, for which operations compete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EngineKind {
    Compute = 0,
    ToDevice = 1,
    ToHost = 2,
    /// For copies within the device and between devices.
    DeviceToDevice = 3,
}

/// The result of an operation at its end.
#[derive(Debug)]
pub(super) enum Completion {
    Done,
    Kernel(Box<HostKernel>),
    Failed(DriverError),
    /// A kernel that will not run, and the reason, unless it was reported before.
    Discarded(Box<HostKernel>, Option<DriverError>),
}

impl Action {
    /// Reports whether the action runs, or drops, the Rust code of a kernel.
    pub(super) fn is_kernel(&self) -> bool {
        matches!(self, Self::Kernel { .. } | Self::Failed(_, Some(_)))
    }

    pub(super) fn engine(&self) -> EngineKind {
        match self {
            Self::Copy { engine, .. } | Self::Failed(engine, _) => *engine,
            Self::Prefetch { to, .. } if *to == Processor::HOST => EngineKind::ToHost,
            Self::Prefetch { .. } => EngineKind::ToDevice,
            Self::Fill { .. } | Self::Kernel { .. } => EngineKind::Compute,
            Self::Discard { .. } | Self::Record(_) | Self::Wait(_) => EngineKind::Compute,
        }
    }
}

impl Endpoint {
    /// Returns the device that owns the memory, if it is plain device memory.
    pub(super) fn owner(&self) -> Option<u32> {
        match self {
            Self::Simulated(_, memory) if memory.kind.is_plain() => Some(memory.device),
            _ => None,
        }
    }
}
