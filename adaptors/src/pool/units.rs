//! Addresses and sizes in units of 256 bytes.
#![forbid(unsafe_code)]

use cumem::layout::CUDA_ALLOCATION_ALIGNMENT;

/// Bytes in a unit.
pub(super) const UNIT: usize = CUDA_ALLOCATION_ALIGNMENT;

/// The most units that one region may have, because heaps count units in 32 bits.
pub(super) const REGION_MAX: u64 = 1 << 31;

/// A range of addresses, in units.
#[derive(Debug, Clone, Copy)]
pub(super) struct Extent {
    pub(super) addr: u64,
    pub(super) units: u64,
}

/// A range of free memory on its way to or from a heap. If `boundary` is true, the region never joins the memory before
/// it, because a chunk or a stitch begins there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Region {
    pub(super) addr: u64,
    pub(super) units: u32,
    pub(super) boundary: bool,
}

/// Rounds `addr` up to a multiple of a power of two, without a division.
#[inline]
pub(super) const fn align_up(addr: u64, align: u64) -> u64 {
    (addr + (align - 1)) & !(align - 1)
}
