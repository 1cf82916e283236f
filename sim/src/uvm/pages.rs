//! Pages and blocks: their sizes, the pages of a range, and [`PageSet`]: one bit for each 4 KiB page of a 2 MiB block.

use std::ops::Range;

/// Bytes of a page: the host's page size on x86-64.
pub(crate) const PAGE: u64 = 4096;
/// Pages of a block (`PAGES_PER_UVM_VA_BLOCK`).
pub(super) const PAGES_PER_BLOCK: usize = 512;
/// Bytes of a block (`UVM_VA_BLOCK_SIZE`), and of a root chunk of device memory.
pub(crate) const BLOCK: u64 = PAGE * PAGES_PER_BLOCK as u64;
/// Pages of the 64 KiB to which a fault grows (`UVM_BIG_PAGE_SIZE`).
pub(super) const BIG_PAGE: usize = 16;

const WORDS: usize = PAGES_PER_BLOCK / 64;

/// A set of pages of one block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct PageSet([u64; WORDS]);

impl PageSet {
    pub(super) const EMPTY: Self = Self([0; WORDS]);

    /// Returns the set of the pages `start..end`.
    pub(super) fn range(start: usize, end: usize) -> Self {
        debug_assert!(start <= end && end <= PAGES_PER_BLOCK);
        let mut words = [0; WORDS];
        if start < end {
            let (first, last) = (start / 64, (end - 1) / 64);
            words[first..=last].fill(u64::MAX);
            words[first] &= u64::MAX << (start % 64);
            words[last] &= u64::MAX >> (63 - (end - 1) % 64);
        }
        Self(words)
    }

    pub(super) fn one(page: usize) -> Self {
        let mut set = Self::EMPTY;
        set.insert(page);
        set
    }

    pub(super) fn contains(&self, page: usize) -> bool {
        self.0[page / 64] >> (page % 64) & 1 != 0
    }

    pub(super) fn insert(&mut self, page: usize) {
        self.0[page / 64] |= 1 << (page % 64);
    }

    pub(super) fn is_empty(&self) -> bool {
        // Comparing the array with `==` would call `memcmp`.
        self.0.iter().fold(0, |all, word| all | word) == 0
    }

    pub(super) fn count(&self) -> usize {
        self.0.iter().map(|w| w.count_ones() as usize).sum()
    }

    pub(super) fn count_in(&self, start: usize, end: usize) -> usize {
        if start >= end {
            return 0;
        }
        let (first, last) = (start / 64, (end - 1) / 64);
        let (head, tail) = (u64::MAX << (start % 64), u64::MAX >> (63 - (end - 1) % 64));
        if first == last {
            return (self.0[first] & head & tail).count_ones() as usize;
        }
        let between = self.0[first + 1..last].iter().map(|word| word.count_ones()).sum::<u32>();
        (between + (self.0[first] & head).count_ones() + (self.0[last] & tail).count_ones()) as usize
    }

    /// Returns the lowest page.
    pub(super) fn first(&self) -> Option<usize> {
        let w = self.0.iter().position(|&w| w != 0)?;
        Some(w * 64 + self.0[w].trailing_zeros() as usize)
    }

    pub(super) fn and(self, other: &Self) -> Self {
        self.zip(other, |a, b| a & b)
    }

    pub(super) fn or(self, other: &Self) -> Self {
        self.zip(other, |a, b| a | b)
    }

    pub(super) fn minus(self, other: &Self) -> Self {
        self.zip(other, |a, b| a & !b)
    }

    fn zip(self, other: &Self, f: impl Fn(u64, u64) -> u64) -> Self {
        Self(std::array::from_fn(|w| f(self.0[w], other.0[w])))
    }

    /// Returns the contiguous runs in ascending order, as `start..end`.
    pub(super) fn runs(self) -> impl Iterator<Item = (usize, usize)> {
        let mut at = 0;
        std::iter::from_fn(move || {
            let start = self.next(at, true)?;
            let end = self.next(start, false).unwrap_or(PAGES_PER_BLOCK);
            at = end;
            Some((start, end))
        })
    }

    /// Returns the pages in ascending order.
    pub(super) fn iter(self) -> impl Iterator<Item = usize> {
        self.runs().flat_map(|(start, end)| start..end)
    }

    /// Returns the first page from `at` on that is in the set if `member` is true, or not in the set if it is false.
    fn next(&self, at: usize, member: bool) -> Option<usize> {
        let mut w = at / 64;
        let mut keep = u64::MAX << (at % 64);
        while w < WORDS {
            let word = if member { self.0[w] } else { !self.0[w] } & keep;
            if word != 0 {
                return Some(w * 64 + word.trailing_zeros() as usize);
            }
            (w, keep) = (w + 1, u64::MAX);
        }
        None
    }
}

/// Returns the pages in which a range of an allocation lies.
pub(crate) fn pages_of(offset: u64, bytes: u64) -> Range<u64> {
    offset / PAGE..(offset + bytes).div_ceil(PAGE)
}

/// Returns the number of pages in block `index` of a range of `pages` pages.
pub(super) fn block_pages(pages: u64, index: u64) -> usize {
    (pages - index * PAGES_PER_BLOCK as u64).min(PAGES_PER_BLOCK as u64) as usize
}

/// Returns the blocks that `pages` overlap, each with the overlapping pages by their number within the block.
pub(super) fn blocks_over(pages: Range<u64>) -> impl Iterator<Item = (u32, Range<usize>)> {
    let per = PAGES_PER_BLOCK as u64;
    (pages.start / per..pages.end.div_ceil(per)).map(move |index| {
        let first = index * per;
        let start = pages.start.max(first) - first;
        let end = pages.end.min(first + per) - first;
        (index as u32, start as usize..end as usize)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_runs_and_counts_agree() {
        for (start, end) in [(0, 0), (0, 1), (63, 65), (5, 512), (0, 512), (128, 192), (511, 512)] {
            let set = PageSet::range(start, end);
            assert_eq!(set.count(), end - start, "{start}..{end}");
            assert_eq!(set.count_in(0, 512), end - start);
            let expected: Vec<_> = (start < end).then_some((start, end)).into_iter().collect();
            assert_eq!(set.runs().collect::<Vec<_>>(), expected);
        }
        let both = PageSet::range(3, 70).or(&PageSet::range(100, 101));
        assert_eq!(both.runs().collect::<Vec<_>>(), [(3, 70), (100, 101)]);
        assert_eq!(both.first(), Some(3));
        assert_eq!(both.count_in(60, 128), 11);
    }
}
