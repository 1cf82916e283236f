//! The properties of a stream-ordered pool of the driver, as plain data.
#![forbid(unsafe_code)]

use std::fmt;

/// The memory that a stream-ordered pool of the driver allocates (`CUmemPoolProps`).
///
/// # Examples
///
/// ```
/// use cumem_driver::PoolMemory;
///
/// assert_eq!(PoolMemory::default(), PoolMemory::Device);
/// assert_eq!(PoolMemory::HostNuma(1).to_string(), "pinned memory of NUMA node 1");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum PoolMemory {
    /// Memory of the device.
    #[default]
    Device,
    /// Managed memory without a preferred location (CUDA 13.0).
    Managed,
    /// Pinned host memory on any NUMA node (CUDA 12.6).
    Host,
    /// Pinned host memory of one NUMA node (CUDA 12.2).
    HostNuma(u32),
}

impl fmt::Display for PoolMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Device => f.write_str("device memory"),
            Self::Managed => f.write_str("managed memory"),
            Self::Host => f.write_str("pinned memory"),
            Self::HostNuma(node) => write!(f, "pinned memory of NUMA node {node}"),
        }
    }
}

/// The form in which a pool can be exported to another process (`CUmemAllocationHandleType`).
///
/// # Examples
///
/// ```
/// use cumem_driver::PoolHandle;
///
/// let supported = 0b1001; // as `Attributes::pool_handle_types` reports it
/// assert!(PoolHandle::PosixFd.is_in(supported) && PoolHandle::Fabric.is_in(supported));
/// assert!(!PoolHandle::Win32.is_in(supported) && PoolHandle::None.is_in(supported));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum PoolHandle {
    /// The pool cannot be exported.
    #[default]
    None,
    /// A file descriptor, on POSIX systems.
    PosixFd,
    /// An NT handle, on Windows.
    Win32,
    /// A `D3DKMT_HANDLE`, on Windows.
    Win32Kmt,
    /// A fabric handle, for other hosts of an NVLink network.
    Fabric,
}

impl PoolHandle {
    /// Returns the driver's number of the form, which is a single bit, or zero for [`None`](Self::None).
    pub const fn bit(self) -> u32 {
        match self {
            Self::None => 0,
            Self::PosixFd => 1,
            Self::Win32 => 2,
            Self::Win32Kmt => 4,
            Self::Fabric => 8,
        }
    }

    /// Reports whether a mask of [bits](Self::bit) contains the form. Every mask contains [`None`](Self::None).
    pub const fn is_in(self, mask: u32) -> bool {
        self.bit() & mask == self.bit()
    }
}

/// The properties of a new pool.
///
/// # Examples
///
/// ```
/// use cumem_driver::{PoolHandle, PoolMemory, PoolProperties};
///
/// let mut properties = PoolProperties::new(PoolMemory::Device);
/// properties.maximum = 1 << 30;
/// assert_eq!(properties.handle, PoolHandle::None);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct PoolProperties {
    /// The memory that the pool allocates.
    pub memory: PoolMemory,
    /// The form in which the pool can be exported.
    pub handle: PoolHandle,
    /// The most bytes that the pool may reserve, or zero for the driver's default (CUDA 12.2). Zero for managed memory.
    pub maximum: usize,
}

impl PoolProperties {
    /// Creates the properties of a pool that cannot be exported and has the driver's default maximum.
    pub const fn new(memory: PoolMemory) -> Self {
        Self { memory, handle: PoolHandle::None, maximum: 0 }
    }
}

/// A way in which a pool reuses memory that was freed on another stream. All are on by default.
///
/// # Examples
///
/// ```
/// use cumem_driver::PoolReuse;
///
/// assert_eq!(PoolReuse::ALL.len(), 3);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PoolReuse {
    /// Memory whose free the allocating stream has been made to wait for
    /// (`CU_MEMPOOL_ATTR_REUSE_FOLLOW_EVENT_DEPENDENCIES`).
    FollowEvents,
    /// Memory whose free has been executed (`CU_MEMPOOL_ATTR_REUSE_ALLOW_OPPORTUNISTIC`).
    Opportunistic,
    /// Memory whose free is pending: the driver makes the allocating stream wait
    /// (`CU_MEMPOOL_ATTR_REUSE_ALLOW_INTERNAL_DEPENDENCIES`).
    InternalDependencies,
}

impl PoolReuse {
    /// All ways.
    pub const ALL: [Self; 3] = [Self::FollowEvents, Self::Opportunistic, Self::InternalDependencies];
}
