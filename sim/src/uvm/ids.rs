//! Names for the parts of managed memory: processors, ranges and blocks.

/// The host or a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Processor(u8);

impl Processor {
    pub(crate) const HOST: Self = Self(0);

    pub(crate) fn device(d: u32) -> Self {
        Self(d as u8 + 1)
    }

    pub(super) const fn from_index(index: usize) -> Self {
        Self(index as u8)
    }

    /// Returns 0 for the host and `d + 1` for device `d`.
    pub(crate) fn index(self) -> usize {
        self.0.into()
    }

    /// Returns the device's number, or `None` for the host.
    pub(crate) fn gpu(self) -> Option<usize> {
        self.index().checked_sub(1)
    }
}

/// Number of NUMA nodes of host memory that a simulated machine has.
pub(crate) const HOST_NUMA_NODES: u32 = 1;

/// The index of a managed allocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct RangeId(pub(super) u32);

/// The index of a block within a managed allocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BlockId {
    pub(super) range: RangeId,
    pub(super) index: u32,
}

/// The error for a device that has neither free memory nor a chunk to evict.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NoMemory;

/// How a managed allocation behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ManagedMode {
    /// Pages get memory at their first access and migrate one by one.
    Concurrent,
    /// For devices without concurrent managed access: all pages are device memory from the start, and all of them
    /// return to the device when a kernel is launched.
    Fixed(Processor),
}
