//! [`Advice`]: the six things that can be said about how memory will be used.

use crate::location::Location;
use std::fmt;

/// The six advices (`CUmem_advise`). Precedence: read-mostly, then preferred location, then accessed-by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Advice {
    /// Reads make local copies; a write collapses them (`SET_READ_MOSTLY`).
    SetReadMostly,
    /// Ends it (`UNSET_READ_MOSTLY`).
    UnsetReadMostly,
    /// Faults leave the pages there if the faulting processor can reach them (`SET_PREFERRED_LOCATION`).
    SetPreferredLocation(Location),
    /// Ends it (`UNSET_PREFERRED_LOCATION`).
    UnsetPreferredLocation,
    /// Keeps the data mapped for that processor, without moving it (`SET_ACCESSED_BY`).
    SetAccessedBy(Location),
    /// Ends it (`UNSET_ACCESSED_BY`).
    UnsetAccessedBy(Location),
}

impl Advice {
    /// The location that it names.
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
