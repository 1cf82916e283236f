//! Free nodes by size, in bins whose widths grow with the size. Two levels of bitmaps find a bin.
//!
//! Sizes are in units. Below 16, each size has its own bin. Above, every power of two is cut into 16 bins, so the sizes
//! in a bin differ by less than a sixteenth.
#![forbid(unsafe_code)]

/// The logarithm of the number of bins in each power of two.
const SHIFT: u32 = 4;
/// Bins in a bitmap word.
const WIDTH: usize = u64::BITS as usize;
const WORDS: usize = ((u32::BITS - SHIFT + 1) << SHIFT).div_ceil(u64::BITS) as usize;

/// The number that means "no node". No node gets this number, but its table entry exists and may be written. Code that
/// links and unlinks nodes therefore needs no check for a missing neighbour, which the branch predictor could not
/// predict.
pub(super) const NIL: u32 = 0;

/// The first node of each bin, and a bitmap of the bins that are not empty.
#[derive(Debug)]
pub(super) struct Bins {
    /// The bins that are not empty.
    bits: [u64; WORDS],
    heads: [u32; WORDS * WIDTH],
}

/// Returns the bin of nodes of `units`. It never decreases as `units` grows.
#[inline]
pub(super) const fn bin_of(units: u32) -> u32 {
    // The added bit changes the logarithm only of sizes below 16, which have a bin each. This needs no branch.
    let shift = (units | 1 << SHIFT).ilog2() - SHIFT;
    // The bit above the mantissa is always set, and adds the one row that the linear bins take.
    (shift << SHIFT) + (units >> shift)
}

impl Bins {
    pub(super) const fn new() -> Self {
        Self { bits: [0; WORDS], heads: [NIL; WORDS * WIDTH] }
    }

    /// Returns the first node of a bin.
    #[inline]
    pub(super) fn head(&self, bin: u32) -> u32 {
        self.heads[bin as usize % (WORDS * WIDTH)]
    }

    /// Makes `node` the first node of a bin.
    #[inline]
    pub(super) fn push(&mut self, bin: u32, node: u32) {
        let bin = bin as usize % (WORDS * WIDTH);
        self.heads[bin] = node;
        self.bits[bin / WIDTH] |= 1 << (bin % WIDTH);
    }

    /// Replaces the first node of a bin by `next`. [`NIL`] empties the bin.
    #[inline]
    pub(super) fn pop(&mut self, bin: u32, next: u32) {
        let bin = bin as usize % (WORDS * WIDTH);
        self.heads[bin] = next;
        self.bits[bin / WIDTH] &= !(u64::from(next == NIL) << (bin % WIDTH));
    }

    /// Returns the smallest bin at or above `bin` that is not empty.
    #[inline]
    pub(super) fn at_or_above(&self, bin: u32) -> Option<u32> {
        let (word, bit) = (bin as usize / WIDTH, bin as usize % WIDTH);
        let here = self.bits[word % WORDS] & (u64::MAX << bit);
        if here != 0 {
            return Some((word * WIDTH) as u32 + here.trailing_zeros());
        }
        let word = (word + 1..WORDS).find(|&word| self.bits[word] != 0)?;
        Some((word * WIDTH) as u32 + self.bits[word].trailing_zeros())
    }

    /// Returns the largest bin that is not empty.
    pub(super) fn highest(&self) -> Option<u32> {
        let word = self.bits.iter().rposition(|&bits| bits != 0)?;
        Some((word * WIDTH) as u32 + self.bits[word].ilog2())
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
        assert_eq!(bin_of(u32::MAX), 463);
    }

    #[test]
    fn search_finds_the_smallest_that_is_not_empty() {
        let mut bins = Bins::new();
        assert_eq!(bins.at_or_above(0), None);
        assert_eq!(bins.highest(), None);
        bins.push(40, 7);
        bins.push(463, 8);
        assert_eq!(bins.at_or_above(0), Some(40));
        assert_eq!(bins.at_or_above(40), Some(40));
        assert_eq!(bins.at_or_above(41), Some(463));
        assert_eq!(bins.highest(), Some(463));
        assert_eq!(bins.at_or_above(464), None);
        bins.pop(463, NIL);
        assert_eq!(bins.at_or_above(41), None);
        assert_eq!(bins.highest(), Some(40));
    }
}
