//! [`Allocation`]: one piece of allocated memory and its kind, and [`MemoryRef`]: an address in one.
#![forbid(unsafe_code)]

use crate::handles::Key;
use crate::heap::AddressSource;
use crate::uvm::RangeId;

/// The kind of an allocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AllocationKind {
    Device,
    Managed(RangeId),
    Pinned,
    /// A segment of a stream-ordered pool.
    Segment(Key),
    /// Memory mapped behind reserved addresses. The value is the first address of the reservation.
    Mapped(u64),
    /// A second mapping, behind reserved addresses, of memory that is mapped elsewhere. The value is the
    /// first address of the reservation that holds the second mapping.
    Alias(u64),
}

impl AllocationKind {
    /// Reports whether it is device memory that never migrates.
    pub(crate) fn is_plain(self) -> bool {
        matches!(self, Self::Device | Self::Segment(_)) || self.is_mapped()
    }

    /// Reports whether it is mapped behind reserved addresses.
    pub(crate) fn is_mapped(self) -> bool {
        matches!(self, Self::Mapped(_) | Self::Alias(_))
    }
}

/// How an allocation was made, and so the call that may free it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// An allocation of the driver.
    Driver,
    /// A segment of a stream-ordered pool of managed or pinned memory. (A segment of device memory is a kind.)
    Pool(Key),
    /// Pinned memory of a NUMA node or of huge pages.
    Pages,
    /// Memory of the program that is registered. Its bytes are the program's.
    Registered,
    /// Memory of the system's allocator, which the driver does not know.
    System,
}

/// One allocation of the simulated driver.
#[derive(Debug)]
pub(crate) struct Allocation {
    pub(crate) serial: u64,
    pub(crate) device: u32,
    pub(crate) kind: AllocationKind,
    pub(crate) origin: Origin,
    /// Requested bytes; only these may be used.
    pub(crate) bytes: u64,
    /// Bytes of device or host memory that the allocation occupies.
    pub(crate) counted: u64,
    pub(super) source: AddressSource,
}

/// An address within an allocation, or within adjacent pieces of one reservation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MemoryRef {
    /// Serial number of the allocation, or of the newest of several pieces.
    pub(crate) serial: u64,
    pub(crate) device: u32,
    pub(crate) kind: AllocationKind,
    pub(crate) origin: Origin,
    pub(crate) base: u64,
    pub(crate) bytes: u64,
    pub(crate) offset: u64,
}

impl MemoryRef {
    /// Returns the stream-ordered pool that the memory is a segment of.
    pub(crate) fn pool(&self) -> Option<Key> {
        match (self.kind, self.origin) {
            (AllocationKind::Segment(pool), _) | (_, Origin::Pool(pool)) => Some(pool),
            _ => None,
        }
    }
}

/// Why an address range cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RangeError {
    /// The simulator never allocated the address, or no longer remembers that it did.
    Unknown,
    /// The range runs past the end of the allocation at `base`, which has `bytes` bytes.
    Crosses { base: u64, bytes: u64 },
    /// The address lies in an allocation that was freed.
    Freed { base: u64, bytes: u64 },
    /// The address is reserved, but nothing is mapped there.
    Unmapped,
}
