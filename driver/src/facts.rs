//! The properties that a driver reports: of a device, of memory, of a pool and of a pointer.
#![forbid(unsafe_code)]

use crate::location::DeviceId;
use std::fmt;

/// The properties and capabilities of a device.
///
/// # Examples
///
/// ```
/// use cumem_driver::Attributes;
///
/// let mut attributes = Attributes::new("a device of a test".into(), 8 << 30);
/// attributes.compute_capability = (8, 6);
/// assert!(!attributes.managed_memory && attributes.total_memory == 8 << 30);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Attributes {
    /// The name of the device (`cuDeviceGetName`), or of the profile of a simulated device.
    pub name: String,
    /// Bytes of device memory (`cuDeviceTotalMem`).
    pub total_memory: usize,
    /// Compute capability, major and minor.
    pub compute_capability: (u32, u32),
    /// Number of multiprocessors.
    pub multiprocessors: u32,
    /// Number of copies that can run beside kernels (`ASYNC_ENGINE_COUNT`).
    pub copy_engines: u32,
    /// Whether the GPU shares the host's memory (`INTEGRATED`).
    pub integrated: bool,
    /// Whether unified (managed) memory can be allocated (`MANAGED_MEMORY`).
    pub managed_memory: bool,
    /// Whether host and device may use managed memory at the same time (`CONCURRENT_MANAGED_ACCESS`). Prefetch, advice
    /// and oversubscription need it. False on Windows, WSL, Tegra and Maxwell.
    pub concurrent_managed_access: bool,
    /// Whether kernels can use memory from `malloc` (`PAGEABLE_MEMORY_ACCESS`).
    pub pageable_memory_access: bool,
    /// Whether the device uses the host's page tables for such memory
    /// (`PAGEABLE_MEMORY_ACCESS_USES_HOST_PAGE_TABLES`).
    pub pageable_memory_access_uses_host_page_tables: bool,
    /// Whether the host can map device memory (`DIRECT_MANAGED_MEM_ACCESS_FROM_HOST`).
    pub direct_managed_mem_access_from_host: bool,
    /// Whether the device has stream-ordered memory pools (`MEMORY_POOLS_SUPPORTED`).
    pub memory_pools: bool,
    /// Whether the driver has stream-ordered pools of managed memory (CUDA 13.0, and all devices have concurrent managed
    /// access).
    pub managed_memory_pools: bool,
    /// Whether the device can use stream-ordered pools of pinned memory (`HOST_MEMORY_POOLS_SUPPORTED`).
    pub host_memory_pools: bool,
    /// Whether the device can use such pools of one NUMA node (`HOST_NUMA_MEMORY_POOLS_SUPPORTED`).
    pub host_numa_memory_pools: bool,
    /// The forms in which a stream-ordered pool can be exported, as [bits](crate::PoolHandle::bit)
    /// (`MEMPOOL_SUPPORTED_HANDLE_TYPES`).
    pub pool_handle_types: u32,
    /// Whether the device can access memory that the program has registered, at its address
    /// (`HOST_REGISTER_SUPPORTED`, `CAN_USE_HOST_POINTER_FOR_REGISTERED_MEM`).
    pub host_register: bool,
    /// The NUMA node of the host that is closest to the device (`HOST_NUMA_ID`), or `None` if the driver does not know.
    pub host_numa_node: Option<u32>,
    /// Whether addresses can be reserved and memory mapped at them (`VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED`).
    pub virtual_memory_management: bool,
}

impl Attributes {
    /// Creates the properties of a device with this name and memory size in bytes. All other fields are zero or false.
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
            managed_memory_pools: false,
            host_memory_pools: false,
            host_numa_memory_pools: false,
            pool_handle_types: 0,
            host_register: false,
            host_numa_node: None,
            virtual_memory_management: false,
        }
    }
}

/// The free and total memory of a device (`cuMemGetInfo`) or of the host.
///
/// # Examples
///
/// ```
/// use cumem_driver::MemoryInfo;
///
/// let memory = MemoryInfo::new(3 << 30, 8 << 30);
/// assert_eq!(memory.total - memory.free, 5 << 30); // in use
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemoryInfo {
    /// Bytes that can still be allocated.
    pub free: usize,
    /// All bytes of the device or the host.
    pub total: usize,
}

impl MemoryInfo {
    /// Creates the value from the free bytes and all bytes.
    pub const fn new(free: usize, total: usize) -> Self {
        Self { free, total }
    }
}

/// The memory that a stream-ordered pool of the driver holds.
///
/// # Examples
///
/// ```
/// use cumem_driver::DriverPoolUsage;
///
/// let usage = DriverPoolUsage::new(64 << 20, 48 << 20);
/// assert_eq!(usage.reserved - usage.used, 16 << 20); // a trim can free at most so much
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct DriverPoolUsage {
    /// Bytes that the pool has reserved from the device (`CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT`).
    pub reserved: u64,
    /// Bytes of the reserved memory that are in live blocks (`CU_MEMPOOL_ATTR_USED_MEM_CURRENT`).
    pub used: u64,
}

impl DriverPoolUsage {
    /// Creates the value from the reserved bytes and the bytes of them that are in live blocks.
    pub const fn new(reserved: u64, used: u64) -> Self {
        Self { reserved, used }
    }
}

/// The memory that a pointer points to (`cuPointerGetAttributes`).
///
/// # Examples
///
/// ```
/// use cumem_driver::{DeviceId, MemoryType, PointerInfo};
///
/// let info = PointerInfo::new(MemoryType::Unified, DeviceId::cuda(0));
/// assert_eq!(format!("{} memory of {}", info.memory_type, info.device), "managed memory of cuda:0");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct PointerInfo {
    /// The type of the memory.
    pub memory_type: MemoryType,
    /// The device that the memory was allocated on.
    pub device: DeviceId,
}

impl PointerInfo {
    /// Creates the value from the type of the memory and the device that it was allocated on.
    pub const fn new(memory_type: MemoryType, device: DeviceId) -> Self {
        Self { memory_type, device }
    }
}

/// The type of the memory that a pointer points to (`CUmemorytype`).
///
/// # Examples
///
/// ```
/// use cumem_driver::MemoryType;
///
/// let names = [MemoryType::Device, MemoryType::Host, MemoryType::Unified].map(|kind| kind.to_string());
/// assert_eq!(names, ["device", "pinned", "managed"]);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MemoryType {
    /// Device memory.
    Device,
    /// Pinned (page-locked) host memory.
    Host,
    /// Unified (managed) memory. Not named `Managed`: rustc prints a type by its short name only while that name is
    /// unique, and `cumem::kind::Managed` appears in compile errors of cumem.
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
