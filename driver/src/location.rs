//! [`DeviceId`] and [`Location`]: names for devices and for the places where pages can be.

use std::fmt;

/// The id of a device: of a GPU, or of a simulated device.
///
/// Devices of two simulators never have the same id, so code can detect objects of different machines by comparing ids.
///
/// # Examples
///
/// ```
/// use cumem_driver::DeviceId;
///
/// let (gpu, simulated) = (DeviceId::cuda(1), DeviceId::simulated(1, 0));
/// assert_eq!([gpu.to_string(), simulated.to_string()], ["cuda:1", "sim:0"]);
/// assert!(simulated.is_simulated() && !gpu.same_machine(simulated));
/// assert_eq!(gpu.sibling(0), DeviceId::cuda(0));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DeviceId {
    machine: u32,
    ordinal: u32,
}

impl DeviceId {
    /// Returns the id of the driver's device `ordinal`, in the order of `CUDA_VISIBLE_DEVICES`.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem_driver::DeviceId;
    /// assert_eq!(DeviceId::cuda(1).to_string(), "cuda:1");
    /// ```
    pub const fn cuda(ordinal: u32) -> Self {
        Self { machine: 0, ordinal }
    }

    /// Returns the id of device `ordinal` of simulator `machine`. Simulators are numbered from 1 within the process.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem_driver::DeviceId;
    /// assert!(DeviceId::simulated(1, 1).is_simulated());
    /// assert_eq!(DeviceId::simulated(1, 1).ordinal(), 1);
    /// ```
    pub const fn simulated(machine: u32, ordinal: u32) -> Self {
        Self { machine, ordinal }
    }

    /// Returns the number of the device within its driver or simulator.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem_driver::DeviceId;
    /// assert_eq!(DeviceId::cuda(3).ordinal(), 3);
    /// ```
    pub const fn ordinal(self) -> u32 {
        self.ordinal
    }

    /// Reports whether the device is simulated.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem_driver::DeviceId;
    /// assert!(!DeviceId::cuda(0).is_simulated());
    /// ```
    pub const fn is_simulated(self) -> bool {
        self.machine != 0
    }

    /// Returns the id of device `ordinal` of the same driver or simulator.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem_driver::DeviceId;
    /// assert_eq!(DeviceId::cuda(0).sibling(2), DeviceId::cuda(2));
    /// ```
    pub const fn sibling(self, ordinal: u32) -> Self {
        Self { machine: self.machine, ordinal }
    }

    /// Reports whether both devices belong to the driver, or both to the same simulator.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem_driver::DeviceId;
    /// assert!(DeviceId::simulated(1, 0).same_machine(DeviceId::simulated(1, 1)));
    /// assert!(!DeviceId::simulated(1, 0).same_machine(DeviceId::cuda(0)));
    /// ```
    pub const fn same_machine(self, other: Self) -> bool {
        self.machine == other.machine
    }
}

/// Writes `cuda:0`, `sim:0`, or `sim#2:0` for the first device of the process's second simulator.
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

/// A place where pages of managed memory can be (`CUmemLocation`).
///
/// # Examples
///
/// ```
/// use cumem_driver::{DeviceId, Location};
///
/// let target: Location = DeviceId::cuda(0).into();
/// assert_eq!(target, Location::Device(DeviceId::cuda(0)));
/// assert_eq!(target.to_string(), "cuda:0");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Location {
    /// The memory of a device.
    Device(DeviceId),
    /// Host memory, on any NUMA node.
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
