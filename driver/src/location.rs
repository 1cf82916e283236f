//! [`DeviceId`] and [`Location`]: which device, and where pages are or should be.

use std::fmt;

/// A device of this process: one of the driver's, or one of a simulator's.
///
/// Two simulators never share an id, so mixing their objects is found out by comparison.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DeviceId {
    machine: u32,
    ordinal: u32,
}

impl DeviceId {
    /// The driver's device number `ordinal`, as `CUDA_VISIBLE_DEVICES` orders them.
    pub const fn cuda(ordinal: u32) -> Self {
        Self { machine: 0, ordinal }
    }

    /// Device `ordinal` of the process's simulator number `machine`, counted from 1.
    pub const fn simulated(machine: u32, ordinal: u32) -> Self {
        Self { machine, ordinal }
    }

    /// Its number within its driver or simulator.
    pub const fn ordinal(self) -> u32 {
        self.ordinal
    }

    /// Whether it belongs to a simulator.
    pub const fn is_simulated(self) -> bool {
        self.machine != 0
    }

    /// Device `ordinal` of the same driver or simulator.
    pub const fn sibling(self, ordinal: u32) -> Self {
        Self { machine: self.machine, ordinal }
    }

    /// Whether both belong to the driver, or to the same simulator.
    pub const fn same_machine(self, other: Self) -> bool {
        self.machine == other.machine
    }
}

/// `cuda:0`, `sim:0`, and `sim#2:0` for the first device of the process's second simulator.
impl fmt::Display for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.machine {
            0 => write!(f, "cuda:{}", self.ordinal),
            1 => write!(f, "sim:{}", self.ordinal),
            n => write!(f, "sim#{n}:{}", self.ordinal),
        }
    }
}

impl fmt::Debug for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Where the pages of unified memory are, or should be (`CUmemLocation`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Location {
    /// The memory of a device.
    Device(DeviceId),
    /// Host memory, on whichever NUMA node.
    Host,
    /// Host memory of one NUMA node (drivers from 12.2).
    HostNuma(u32),
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Device(id) => id.fmt(f),
            Self::Host => f.write_str("host"),
            Self::HostNuma(node) => write!(f, "host numa {node}"),
        }
    }
}

impl From<DeviceId> for Location {
    fn from(id: DeviceId) -> Self {
        Self::Device(id)
    }
}
