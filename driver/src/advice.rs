//! [`Advice`]: how a range of managed memory will be used.

use crate::location::Location;
use std::fmt;

/// How a range of managed memory will be used (`CUmem_advise`). If several apply to a page, read-mostly takes
/// precedence over the preferred location, and the preferred location over accessed-by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Advice {
    /// A processor that reads a page gets its own copy. A write drops all copies but one (`SET_READ_MOSTLY`).
    SetReadMostly,
    /// Withdraws [`SetReadMostly`](Self::SetReadMostly) (`UNSET_READ_MOSTLY`).
    UnsetReadMostly,
    /// A fault leaves a page at this location if the faulting processor can map it there (`SET_PREFERRED_LOCATION`).
    SetPreferredLocation(Location),
    /// Withdraws [`SetPreferredLocation`](Self::SetPreferredLocation) (`UNSET_PREFERRED_LOCATION`).
    UnsetPreferredLocation,
    /// Keeps the pages mapped for this processor without moving them (`SET_ACCESSED_BY`).
    SetAccessedBy(Location),
    /// Withdraws [`SetAccessedBy`](Self::SetAccessedBy) for this processor (`UNSET_ACCESSED_BY`).
    UnsetAccessedBy(Location),
}

impl Advice {
    /// Returns the location that the advice names, or `None` if it names none.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem_driver::{Advice, Location};
    ///
    /// assert_eq!(Advice::SetPreferredLocation(Location::Host).location(), Some(Location::Host));
    /// assert_eq!(Advice::SetReadMostly.location(), None);
    /// ```
    pub fn location(self) -> Option<Location> {
        match self {
            Self::SetPreferredLocation(at) | Self::SetAccessedBy(at) | Self::UnsetAccessedBy(at) => Some(at),
            Self::SetReadMostly | Self::UnsetReadMostly | Self::UnsetPreferredLocation => None,
        }
    }
}

impl fmt::Display for Advice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SetReadMostly => f.write_str("read mostly"),
            Self::UnsetReadMostly => f.write_str("no longer read mostly"),
            Self::SetPreferredLocation(at) => write!(f, "prefer {at}"),
            Self::UnsetPreferredLocation => f.write_str("prefer no location"),
            Self::SetAccessedBy(by) => write!(f, "accessed by {by}"),
            Self::UnsetAccessedBy(by) => write!(f, "no longer accessed by {by}"),
        }
    }
}
