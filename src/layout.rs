//! Sizes and alignments: functions that create a [`std::alloc::Layout`] with at least CUDA's alignment, and checked
//! arithmetic.
//!
//! # Examples
//!
//! ```
//! use cumem::layout;
//!
//! let layout = layout::array::<f32>(1000)?;
//! assert_eq!((layout.size(), layout.align()), (4000, 256));
//! # Ok::<_, layout::InvalidLayout>(())
//! ```

use std::alloc::Layout;

/// The least alignment of device-accessible blocks, in bytes. A smaller requested alignment is raised to it
/// (CUDA programming guide, "device memory accesses"; RMM's `CUDA_ALLOCATION_ALIGNMENT`).
pub const CUDA_ALLOCATION_ALIGNMENT: usize = 256;

/// The error for a size and an alignment that no memory can have.
///
/// # Examples
///
/// ```
/// use cumem::layout::{self, InvalidLayout};
///
/// let error = layout::aligned(100, 3).unwrap_err();
/// assert_eq!(error, InvalidLayout { size: 100, alignment: 3 });
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("invalid layout: {size} bytes aligned to {alignment} (a power of two, and at most isize::MAX bytes)")]
pub struct InvalidLayout {
    /// Bytes requested; `usize::MAX` if the computation of the size overflowed.
    pub size: usize,
    /// The alignment requested, in bytes.
    pub alignment: usize,
}

/// Returns the layout of `bytes` bytes at CUDA's alignment.
///
/// # Errors
///
/// Returns [`InvalidLayout`] if `bytes`, rounded up to the alignment, exceeds `isize::MAX`.
///
/// # Examples
///
/// ```
/// use cumem::layout::{self, CUDA_ALLOCATION_ALIGNMENT};
///
/// let layout = layout::bytes(1000)?;
/// assert_eq!((layout.size(), layout.align()), (1000, CUDA_ALLOCATION_ALIGNMENT));
/// assert!(layout::bytes(usize::MAX).is_err());
/// # Ok::<_, layout::InvalidLayout>(())
/// ```
#[inline]
pub fn bytes(bytes: usize) -> Result<Layout, InvalidLayout> {
    aligned(bytes, CUDA_ALLOCATION_ALIGNMENT)
}

/// Returns the layout of `bytes` bytes at `alignment`, in bytes.
///
/// # Errors
///
/// Returns [`InvalidLayout`] if `alignment` is not a power of two, or if `bytes`, rounded up to `alignment`, exceeds
/// `isize::MAX`.
///
/// # Examples
///
/// ```
/// use cumem::layout;
///
/// let page = layout::aligned(4096, 4096)?;
/// assert_eq!((page.size(), page.align()), (4096, 4096));
/// # Ok::<_, layout::InvalidLayout>(())
/// ```
#[inline]
pub fn aligned(bytes: usize, alignment: usize) -> Result<Layout, InvalidLayout> {
    Layout::from_size_align(bytes, alignment).map_err(|_| InvalidLayout { size: bytes, alignment })
}

/// Returns the layout of `len` elements of `T`, at the alignment of CUDA or of `T`, whichever is larger.
///
/// # Errors
///
/// Returns [`InvalidLayout`] if the size in bytes overflows.
///
/// # Examples
///
/// ```
/// use cumem::layout::{self, InvalidLayout};
///
/// assert_eq!(layout::array::<u64>(10)?.size(), 80);
/// let error = layout::array::<u64>(usize::MAX).unwrap_err();
/// assert_eq!(error, InvalidLayout { size: usize::MAX, alignment: 256 });
/// # Ok::<_, InvalidLayout>(())
/// ```
#[inline]
pub fn array<T>(len: usize) -> Result<Layout, InvalidLayout> {
    let alignment = align_of::<T>().max(CUDA_ALLOCATION_ALIGNMENT);
    let size = len.checked_mul(size_of::<T>()).ok_or(InvalidLayout { size: usize::MAX, alignment })?;
    aligned(size, alignment)
}

/// Returns the layout of `len` elements of `T`, at the alignment of CUDA, of `T`, or `alignment` bytes, whichever is the
/// largest.
///
/// # Errors
///
/// Returns [`InvalidLayout`] if the size in bytes overflows, or if `alignment` is not a power of two.
///
/// # Examples
///
/// ```
/// use cumem::layout::{self, InvalidLayout};
///
/// assert_eq!(layout::array_aligned::<u64>(10, 4096)?.align(), 4096);
/// assert_eq!(layout::array_aligned::<u64>(10, 1)?.align(), 256);
/// let error = layout::array_aligned::<u64>(10, 3).unwrap_err();
/// assert_eq!(error, InvalidLayout { size: 80, alignment: 3 });
/// # Ok::<_, InvalidLayout>(())
/// ```
#[inline]
pub fn array_aligned<T>(len: usize, alignment: usize) -> Result<Layout, InvalidLayout> {
    let natural = array::<T>(len)?;
    natural.align_to(alignment).map_err(|_| InvalidLayout { size: natural.size(), alignment })
}

/// Returns `n` rounded up to a multiple of `alignment`, or `None` on overflow. `alignment` must be a power of two.
///
/// # Examples
///
/// ```
/// use cumem::layout::align_up;
///
/// assert_eq!(align_up(1000, 256), Some(1024));
/// assert_eq!(align_up(usize::MAX, 256), None);
/// ```
#[inline]
pub const fn align_up(n: usize, alignment: usize) -> Option<usize> {
    debug_assert!(alignment.is_power_of_two());
    match n.checked_add(alignment - 1) {
        Some(sum) => Some(sum & !(alignment - 1)),
        None => None,
    }
}

/// Returns `n` rounded down to a multiple of `alignment`, which must be a power of two.
///
/// # Examples
///
/// ```
/// assert_eq!(cumem::layout::align_down(1000, 256), 768);
/// ```
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
