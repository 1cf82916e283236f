//! [`RangeAttributes`]: what the driver remembers of the hints about a range.

use crate::advice::Advice;
use crate::location::Location;
use smallvec::SmallVec;

/// What a range of unified memory has been told (`cuMemRangeGetAttribute`).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct RangeAttributes {
    /// Every page is read-mostly.
    pub read_mostly: bool,
    /// The preferred location that all pages share.
    pub preferred_location: Option<Location>,
    /// The processors that every page stays mapped for.
    pub accessed_by: SmallVec<[Location; 4]>,
    /// Where all pages were last asked to be prefetched to; says nothing of where they are.
    pub last_prefetch_location: Option<Location>,
}

impl RangeAttributes {
    /// Whether it has been given the same advice.
    pub fn advises_as(&self, other: &Self) -> bool {
        (self.read_mostly, self.preferred_location, &self.accessed_by)
            == (other.read_mostly, other.preferred_location, &other.accessed_by)
    }

    /// The advice that brings a range, which had been told this, back to it after `advice`.
    pub fn restoring(&self, advice: Advice) -> Advice {
        match advice {
            Advice::SetReadMostly | Advice::UnsetReadMostly => match self.read_mostly {
                true => Advice::SetReadMostly,
                false => Advice::UnsetReadMostly,
            },
            Advice::SetPreferredLocation(_) | Advice::UnsetPreferredLocation => match self.preferred_location {
                Some(at) => Advice::SetPreferredLocation(at),
                None => Advice::UnsetPreferredLocation,
            },
            Advice::SetAccessedBy(by) | Advice::UnsetAccessedBy(by) => match self.accessed_by.contains(&by) {
                true => Advice::SetAccessedBy(by),
                false => Advice::UnsetAccessedBy(by),
            },
        }
    }
}
