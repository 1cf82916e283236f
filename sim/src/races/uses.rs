//! [`UsedRange`]: a range of memory and the kind of its use.
#![forbid(unsafe_code)]

use super::report::AccessKind;
use std::ops::Range;

/// A range of addresses and the kind of its use.
pub(crate) type UsedRange = (Range<u64>, AccessKind);

/// Returns the use of `bytes` bytes at `addr`.
pub(crate) fn used_range(addr: u64, bytes: u64, kind: AccessKind) -> UsedRange {
    (addr..addr.saturating_add(bytes), kind)
}
