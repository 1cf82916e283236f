//! [`Used`]: a range of memory, and what is done to it.
#![forbid(unsafe_code)]

use super::report::Deed;
use std::ops::Range;

/// A range of addresses, and what is done to it.
pub(crate) type Used = (Range<u64>, Deed);

/// Returns the use of `bytes` bytes at `addr`.
pub(crate) fn used(addr: u64, bytes: u64, deed: Deed) -> Used {
    (addr..addr.saturating_add(bytes), deed)
}
