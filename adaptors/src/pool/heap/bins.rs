//! Free nodes by size: bins whose widths grow with the size, found through two levels of bitmaps.
//!
//! Sizes are in units. Below 16 each size has its bin; above, every power of two is cut into 16, so the
//! nodes of a bin differ by less than a sixteenth.
#![forbid(unsafe_code)]

const SUB_BITS: u32 = 4;
const SUBS: usize = 1 << SUB_BITS;
const ROWS: usize = (u32::BITS - SUB_BITS) as usize + 1;

/// No node. The number is never given out, but there is something to write to: whoever links and unlinks need not ask
/// whether there is a neighbour, which the processor could not foretell.
pub(super) const NIL: u32 = 0;

/// The heads of the lists, and which of them are not empty.
#[derive(Debug)]
pub(super) struct Bins {
    rows: u32,
    subs: [u16; ROWS],
    heads: [u32; ROWS * SUBS],
}

/// The bin of nodes of `units`. Never decreases with `units`.
#[inline]
pub(super) const fn bin_of(units: u32) -> u32 {
    if units < SUBS as u32 {
        return units;
    }
    let shift = units.ilog2() - SUB_BITS;
    // The bit above the mantissa is always set: it adds the one row that the linear bins take.
    (shift << SUB_BITS) + (units >> shift)
}

impl Bins {
    pub(super) const fn new() -> Self {
        Self { rows: 0, subs: [0; ROWS], heads: [NIL; ROWS * SUBS] }
    }

    /// The first node of a bin.
    #[inline]
    pub(super) fn head(&self, bin: u32) -> u32 {
        self.heads[bin as usize]
    }

    /// Makes `node` the first of a bin; [`NIL`] empties it.
    #[inline]
    pub(super) fn set_head(&mut self, bin: u32, node: u32) {
        self.heads[bin as usize] = node;
        let (row, sub) = (bin as usize / SUBS, bin as usize % SUBS);
        let some = u16::from(node != NIL);
        self.subs[row] = self.subs[row] & !(1 << sub) | some << sub;
        self.rows = self.rows & !(1 << row) | u32::from(self.subs[row] != 0) << row;
    }

    /// The smallest bin at or above `bin` that is not empty.
    #[inline]
    pub(super) fn at_or_above(&self, bin: u32) -> Option<u32> {
        let (row, sub) = (bin as usize / SUBS, bin as usize % SUBS);
        let here = u32::from(*self.subs.get(row)?) & (u32::MAX << sub);
        if here != 0 {
            return Some((row * SUBS) as u32 + here.trailing_zeros());
        }
        // `row` is at most 28, so the shift stays below the width.
        let above = self.rows & (u32::MAX << (row + 1));
        if above == 0 {
            return None;
        }
        let row = above.trailing_zeros();
        Some(row * SUBS as u32 + self.subs[row as usize].trailing_zeros())
    }

    /// The largest bin that is not empty.
    pub(super) fn highest(&self) -> Option<u32> {
        let row = self.rows.checked_ilog2()?;
        Some(row * SUBS as u32 + self.subs[row as usize].ilog2())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bins_are_monotone_and_cover_every_size() {
        let mut last = 0;
        for units in 1..100_000 {
            let bin = bin_of(units);
            assert!(bin == last || bin == last + 1, "{units}");
            last = bin;
        }
        assert_eq!(bin_of(u32::MAX) as usize, ROWS * SUBS - 1);
    }

    #[test]
    fn search_finds_the_smallest_that_is_not_empty() {
        let mut bins = Bins::new();
        assert_eq!(bins.at_or_above(0), None);
        assert_eq!(bins.highest(), None);
        bins.set_head(40, 7);
        bins.set_head(463, 8);
        assert_eq!(bins.at_or_above(0), Some(40));
        assert_eq!(bins.at_or_above(40), Some(40));
        assert_eq!(bins.at_or_above(41), Some(463));
        assert_eq!(bins.highest(), Some(463));
        assert_eq!(bins.at_or_above(464), None);
        bins.set_head(463, NIL);
        assert_eq!(bins.at_or_above(41), None);
        assert_eq!(bins.highest(), Some(40));
    }
}
