//! [`RangeAttributes`]: the advice and the last prefetch of a range.

use crate::advice::Advice;
use crate::location::Location;
use smallvec::SmallVec;

/// The advice and the last prefetch that hold for all pages of a range of managed memory (`cuMemRangeGetAttribute`).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct RangeAttributes {
    /// Whether every page is read-mostly.
    pub read_mostly: bool,
    /// The preferred location that all pages share, or `None` if they differ or have none.
    pub preferred_location: Option<Location>,
    /// The processors for which every page stays mapped.
    pub accessed_by: SmallVec<[Location; 4]>,
    /// The target of the last prefetch, if it is the same for all pages. The pages may have moved since.
    pub last_prefetch_location: Option<Location>,
}

impl RangeAttributes {
    /// Reports whether both have the same advice.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem_driver::{Location, RangeAttributes};
    ///
    /// let mut prefetched = RangeAttributes::default();
    /// prefetched.last_prefetch_location = Some(Location::Host);
    /// assert!(prefetched.advises_as(&RangeAttributes::default())); // a prefetch is no advice
    /// ```
    pub fn advises_as(&self, other: &Self) -> bool {
        (self.read_mostly, self.preferred_location, &self.accessed_by)
            == (other.read_mostly, other.preferred_location, &other.accessed_by)
    }

    /// Returns the advice that undoes `advice` on a range that had these attributes before.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem_driver::{Advice, Location, RangeAttributes};
    ///
    /// let mut before = RangeAttributes::default();
    /// assert_eq!(before.restoring(Advice::SetReadMostly), Advice::UnsetReadMostly);
    /// before.preferred_location = Some(Location::Host);
    /// let undo = before.restoring(Advice::UnsetPreferredLocation);
    /// assert_eq!(undo, Advice::SetPreferredLocation(Location::Host));
    /// ```
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
