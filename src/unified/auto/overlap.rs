//! The overlap of two ranges.
#![forbid(unsafe_code)]

use std::ops::Range;

/// Returns the number of bytes that are in both ranges.
pub(super) fn overlap(a: &Range<usize>, b: &Range<usize>) -> usize {
    a.end.min(b.end).saturating_sub(a.start.max(b.start))
}
