//! Addresses and sizes in units of 256 bytes.
#![forbid(unsafe_code)]

use cumem::CUDA_ALLOCATION_ALIGNMENT;

/// Bytes in a unit, which is what addresses and sizes are counted in.
pub(super) const UNIT: usize = CUDA_ALLOCATION_ALIGNMENT;

/// The most that one region may have: heaps count units in 32 bits.
pub(super) const REGION_MAX: u64 = 1 << 31;

/// New memory: where it is, and how many units.
#[derive(Debug, Clone, Copy)]
pub(super) struct Extent {
    pub(super) addr: u64,
    pub(super) units: u64,
}

/// Free memory on its way: `units` from `addr` on. `head`: a chunk begins there, so that it never joins
/// what lies before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Region {
    pub(super) addr: u64,
    pub(super) units: u32,
    pub(super) boundary: bool,
}

/// `addr` rounded up to a power of two, without a division.
#[inline]
pub(super) const fn align_up(addr: u64, align: u64) -> u64 {
    (addr + (align - 1)) & !(align - 1)
}
