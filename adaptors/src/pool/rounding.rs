//! [`Rounding`]: the number of units that a request is rounded up to.
#![forbid(unsafe_code)]

use super::units::{REGION_MAX, UNIT};

/// Rounds requests up to whole units. With divisions, it rounds up to one of that many sizes between each power of two
/// and the next.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rounding {
    /// The logarithm of the number of divisions.
    shift: u32,
    /// Up to this many units, sizes are not rounded.
    exact: u64,
    /// The most bytes, beyond whole units, that rounding adds to a request.
    added_max: u64,
    /// The most units that a block may have.
    largest: u64,
}

impl Rounding {
    /// No rounding beyond whole units.
    pub(super) const EXACT: Self = Self { shift: u32::BITS, exact: REGION_MAX, added_max: 0, largest: REGION_MAX };

    /// Creates a rounding with `divisions`, which must be a power of two.
    pub(super) fn new(divisions: u32) -> Self {
        let shift = divisions.trailing_zeros();
        let largest_division = (REGION_MAX / 2) >> shift;
        // Up to this size, a division is one unit.
        let exact = (u64::from(divisions) << 1).min(REGION_MAX);
        Self { shift, exact, added_max: largest_division.saturating_sub(1) * UNIT as u64, largest: REGION_MAX }
    }

    /// Returns the same rounding for requests of up to `bytes`.
    pub(super) fn up_to(self, bytes: usize) -> Self {
        let largest = self.largest.min((bytes / UNIT) as u64);
        Self { largest, exact: self.exact.min(largest), ..self }
    }

    /// Returns the units of a block for `bytes`, or `None` if no block may be that large.
    #[inline]
    pub(super) fn units_of(&self, bytes: usize) -> Option<u32> {
        let units = bytes.div_ceil(UNIT) as u64;
        if units <= self.exact { Some(units as u32) } else { self.rounded(units) }
    }

    /// Returns the most bytes of a request whose block takes at most `bytes`.
    pub(super) fn largest_within(&self, bytes: usize) -> usize {
        let units = ((bytes / UNIT) as u64).min(self.largest);
        let fits = if units <= self.exact { units } else { units - units % self.division(units) };
        fits as usize * UNIT
    }

    /// Returns the difference between the sizes next to `units`, which must not be 0.
    #[inline]
    fn division(&self, units: u64) -> u64 {
        (1 << units.ilog2()) >> self.shift.min(units.ilog2())
    }

    /// Reports whether a block of `units` can belong to a request of `asked` bytes. `asked` includes the unused bytes
    /// of the request's last unit.
    #[inline]
    pub(super) fn allows(&self, units: u32, asked: u64) -> bool {
        // A negative difference wraps around and fails the check as well. The exact rounded size is not computed here,
        // because every free makes this check.
        (u64::from(units) * UNIT as u64).wrapping_sub(asked) <= self.added_max
    }

    #[inline(never)]
    fn rounded(&self, units: u64) -> Option<u32> {
        if units > self.largest {
            return None;
        }
        // A size below a power of two rounds up to that power at most, so the result never exceeds the largest region.
        Some(units.next_multiple_of(self.division(units)) as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_pytorch_rounds() {
        // "Size 1200 lies between 1024 and 2048; with 4 divisions the values are 1024, 1280, 1536 and 1792."
        let cut = |divisions, bytes| Rounding::new(divisions).units_of(bytes).unwrap() as usize * UNIT;
        assert_eq!(cut(4, 1200), 1280);
        assert_eq!(cut(4, 1281), 1536);
        assert_eq!([1, 2, 8].map(|divisions| cut(divisions, (1 << 20) + 1)), [2 << 20, 3 << 19, 9 << 17]);
        assert_eq!([1, 2, 8].map(|divisions| cut(divisions, 1 << 20)), [1 << 20; 3]);
        assert_eq!([1, 256, 257, 512, 513].map(|bytes| cut(16, bytes)), [256, 256, 512, 512, 768]);
    }

    #[test]
    fn by_less_than_one_division_and_always_the_same() {
        for divisions in (0..=31).map(|n| 1 << n) {
            let rounding = Rounding::new(divisions);
            for units in (1..3000_u64).chain((11..=31).flat_map(|n| [(1 << n) - 1, 1 << n])) {
                let cut = rounding.units_of(units as usize * UNIT).unwrap();
                let below = 1 << units.ilog2();
                assert!(u64::from(cut) >= units && u64::from(cut) - units < (below / u64::from(divisions)).max(1));
                assert!(rounding.allows(cut, units * UNIT as u64), "{units} units, {divisions} divisions");
                let most = rounding.largest_within(units as usize * UNIT);
                assert!(rounding.units_of(most).is_some_and(|cut| u64::from(cut) <= units), "{units} units");
                assert!(rounding.units_of(most + 1).is_none_or(|cut| u64::from(cut) > units), "{units} units");
                assert!(!rounding.allows(cut, u64::from(cut) * UNIT as u64 + 1));
            }
            assert_eq!(rounding.units_of((REGION_MAX as usize + 1) * UNIT), None);
        }
    }

    #[test]
    fn up_to_a_largest_request() {
        let asked = [1023, 1024, 1025, 1281];
        let up_to = |bytes, rounding: Rounding| asked.map(|asked| rounding.up_to(bytes).units_of(asked));
        assert_eq!(up_to(1200, Rounding::EXACT), [Some(4), Some(4), None, None]);
        assert_eq!(up_to(1280, Rounding::new(2)), [Some(4), Some(4), Some(6), None]);
        assert_eq!(up_to(255, Rounding::new(2)), [None; 4]);
    }

    #[test]
    fn without_divisions_whole_units() {
        assert_eq!([1, 256, 257, 1 << 30].map(|bytes| Rounding::EXACT.units_of(bytes).unwrap()), [1, 1, 2, 1 << 22]);
        assert_eq!(Rounding::EXACT.units_of((REGION_MAX as usize + 1) * UNIT), None);
        assert_eq!([511, 512, 513].map(|asked| Rounding::EXACT.allows(2, asked)), [false, true, false]);
    }
}
