//! Sizes and alignments: [`std::alloc::Layout`], with CUDA's floor and checked arithmetic.

use std::alloc::Layout;

/// Every device-accessible block is aligned to this many bytes, whatever less was asked for
/// (CUDA programming guide, "device memory accesses"; RMM's `CUDA_ALLOCATION_ALIGNMENT`).
pub const CUDA_ALLOCATION_ALIGNMENT: usize = 256;

/// A size and an alignment that no memory can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("invalid layout: {size} bytes aligned to {alignment} (a power of two, and at most isize::MAX bytes)")]
pub struct InvalidLayout {
    /// Bytes requested; `usize::MAX` if the computation of the size overflowed.
    pub size: usize,
    /// The alignment requested, in bytes.
    pub alignment: usize,
}

/// A layout of `bytes` bytes at CUDA's alignment.
///
/// # Errors
///
/// [`InvalidLayout`] past `isize::MAX` bytes.
#[inline]
pub fn bytes(bytes: usize) -> Result<Layout, InvalidLayout> {
    aligned(bytes, CUDA_ALLOCATION_ALIGNMENT)
}

/// A layout of `bytes` bytes at `alignment`.
///
/// # Errors
///
/// [`InvalidLayout`] if `alignment` is no power of two, or `bytes` rounded up to it passes
/// `isize::MAX`.
#[inline]
pub fn aligned(bytes: usize, alignment: usize) -> Result<Layout, InvalidLayout> {
    Layout::from_size_align(bytes, alignment).map_err(|_| InvalidLayout { size: bytes, alignment })
}

/// A layout of `len` elements of `T`, at CUDA's alignment or `T`'s, whichever is larger.
///
/// # Errors
///
/// [`InvalidLayout`] if the size in bytes overflows.
#[inline]
pub fn array<T>(len: usize) -> Result<Layout, InvalidLayout> {
    let alignment = align_of::<T>().max(CUDA_ALLOCATION_ALIGNMENT);
    let size = len.checked_mul(size_of::<T>()).ok_or(InvalidLayout { size: usize::MAX, alignment })?;
    aligned(size, alignment)
}

/// `n` rounded up to a multiple of `alignment`, a power of two; `None` on overflow.
#[inline]
pub const fn align_up(n: usize, alignment: usize) -> Option<usize> {
    debug_assert!(alignment.is_power_of_two());
    match n.checked_add(alignment - 1) {
        Some(sum) => Some(sum & !(alignment - 1)),
        None => None,
    }
}

/// `n` rounded down to a multiple of `alignment`, a power of two.
#[inline]
pub const fn align_down(n: usize, alignment: usize) -> usize {
    debug_assert!(alignment.is_power_of_two());
    n & !(alignment - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding() {
        assert_eq!(align_up(0, 256), Some(0));
        assert_eq!(align_up(1, 256), Some(256));
        assert_eq!(align_up(256, 256), Some(256));
        assert_eq!(align_up(usize::MAX - 254, 256), None);
        assert_eq!(align_down(511, 256), 256);
    }

    #[test]
    fn overflow_is_an_error_with_numbers() {
        assert!(matches!(array::<u64>(usize::MAX / 4), Err(InvalidLayout { .. })));
        assert!(matches!(bytes(usize::MAX), Err(InvalidLayout { size: usize::MAX, .. })));
        assert!(matches!(aligned(1, 3), Err(InvalidLayout { alignment: 3, .. })));
        assert!(matches!(aligned(1, 0), Err(InvalidLayout { alignment: 0, .. })));
    }
}
