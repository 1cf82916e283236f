//! What a driver reports about a device, its memory, a pool and a pointer.
#![forbid(unsafe_code)]

use crate::location::DeviceId;
use std::fmt;

/// What a device can do, read from the driver once, when the device is opened.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Attributes {
    /// The device's name (`cuDeviceGetName`), or the profile's.
    pub name: String,
    /// Bytes of device memory (`cuDeviceTotalMem`).
    pub total_memory: usize,
    /// Compute capability, major and minor.
    pub compute_capability: (u32, u32),
    /// Multiprocessors on the device.
    pub multiprocessors: u32,
    /// Copies that can run beside kernels (`ASYNC_ENGINE_COUNT`).
    pub copy_engines: u32,
    /// The GPU shares the host's memory (`INTEGRATED`).
    pub integrated: bool,
    /// Unified memory can be allocated (`MANAGED_MEMORY`).
    pub managed_memory: bool,
    /// Host and device may use unified memory at the same time; prefetch, advice and
    /// oversubscription need it (`CONCURRENT_MANAGED_ACCESS`). Not on Windows, WSL, Tegra, Maxwell.
    pub concurrent_managed_access: bool,
    /// The device can use `malloc`ed memory (`PAGEABLE_MEMORY_ACCESS`).
    pub pageable_memory_access: bool,
    /// ... through the host's page tables (`PAGEABLE_MEMORY_ACCESS_USES_HOST_PAGE_TABLES`).
    pub pageable_memory_access_uses_host_page_tables: bool,
    /// The host can map device memory (`DIRECT_MANAGED_MEM_ACCESS_FROM_HOST`).
    pub direct_managed_mem_access_from_host: bool,
    /// Stream-ordered pools (`MEMORY_POOLS_SUPPORTED`).
    pub memory_pools: bool,
    /// Reserving addresses and mapping memory (`VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED`).
    pub virtual_memory_management: bool,
}

impl Attributes {
    /// Facts about a device of this name and size that has none of the optional abilities.
    pub fn new(name: String, total_memory: usize) -> Self {
        Self {
            name,
            total_memory,
            compute_capability: (0, 0),
            multiprocessors: 0,
            copy_engines: 0,
            integrated: false,
            managed_memory: false,
            concurrent_managed_access: false,
            pageable_memory_access: false,
            pageable_memory_access_uses_host_page_tables: false,
            direct_managed_mem_access_from_host: false,
            memory_pools: false,
            virtual_memory_management: false,
        }
    }
}

/// The memory that a pointer points to (`cuPointerGetAttributes`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemoryInfo {
    /// Bytes that can still be allocated.
    pub free: usize,
    /// Bytes that the device has.
    pub total: usize,
}

impl MemoryInfo {
    /// So many free bytes of so many.
    pub const fn new(free: usize, total: usize) -> Self {
        Self { free, total }
    }
}

/// The memory that a stream-ordered pool of the driver holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct DriverPoolUsage {
    /// Bytes that the pool has reserved from the device (`CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT`).
    pub reserved: u64,
    /// Bytes of the reserved memory that are in live blocks (`CU_MEMPOOL_ATTR_USED_MEM_CURRENT`).
    pub used: u64,
}

impl DriverPoolUsage {
    /// So many reserved bytes, so many of them in live blocks.
    pub const fn new(reserved: u64, used: u64) -> Self {
        Self { reserved, used }
    }
}

/// The memory that a pointer points to (`cuPointerGetAttributes`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct PointerInfo {
    /// The type of the memory.
    pub memory_type: MemoryType,
    /// The device that the memory was allocated on.
    pub device: DeviceId,
}

impl PointerInfo {
    /// A pointer to memory of this type, allocated on this device.
    pub const fn new(memory_type: MemoryType, device: DeviceId) -> Self {
        Self { memory_type, device }
    }
}

/// A handle to a stream: a `CUstream` of the driver, or a stream of the simulator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MemoryType {
    /// Device memory.
    Device,
    /// Pinned (page-locked) host memory.
    Host,
    /// Unified (managed) memory. Not named `Managed`: rustc prints a type by its short name only while that name is
    /// unique, and `kind::Managed` appears in this library's compile errors.
    Unified,
}

impl fmt::Display for MemoryType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Device => "device",
            Self::Unified => "managed",
            Self::Host => "pinned",
        })
    }
}
