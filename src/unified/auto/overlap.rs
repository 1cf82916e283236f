//! How much two ranges share.
#![forbid(unsafe_code)]

use std::ops::Range;

/// Bytes that both ranges have.
pub(super) fn overlap(a: &Range<usize>, b: &Range<usize>) -> usize {
    a.end.min(b.end).saturating_sub(a.start.max(b.start))
}
