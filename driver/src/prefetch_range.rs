//! [`PrefetchRange`]: one range of a batch of prefetches.
#![forbid(unsafe_code)]

use crate::location::Location;

/// A range of managed memory and the location to prefetch it to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PrefetchRange {
    /// Address of the first byte.
    pub addr: u64,
    /// Length in bytes.
    pub bytes: usize,
    /// The location to migrate the pages to.
    pub to: Location,
}
