//! [`Gaps`]: the free parts of a range of numbers.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::ops::Range;

/// The free parts of `0..size`. Two of them never touch. The key is the start of a part, the value its length.
#[derive(Debug)]
pub(super) struct Gaps {
    free: BTreeMap<u64, u64>,
    taken: u64,
}

impl Gaps {
    /// Creates the gaps of `0..size`, all of it free.
    pub(super) fn new(size: u64) -> Self {
        Self { free: BTreeMap::from([(0, size)]), taken: 0 }
    }

    /// Returns how many numbers are not free.
    pub(super) fn taken(&self) -> u64 {
        self.taken
    }

    /// Returns the free parts in ascending order.
    pub(super) fn iter(&self) -> impl Iterator<Item = Range<u64>> {
        self.free.iter().map(|(&at, &len)| at..at + len)
    }

    /// Takes the numbers `at..at + count` if a free part starts at `at` and is long enough. Returns `at`.
    pub(super) fn take_at(&mut self, at: u64, count: u64) -> Option<u64> {
        let len = *self.free.get(&at).filter(|&&len| len >= count)?;
        self.free.remove(&at);
        if len > count {
            self.free.insert(at + count, len - count);
        }
        self.taken += count;
        Some(at)
    }

    /// Takes `count` numbers from the lowest free part that is long enough. Returns the first of them.
    pub(super) fn take_lowest(&mut self, count: u64) -> Option<u64> {
        let at = self.free.iter().find(|&(_, &len)| len >= count).map(|(&at, _)| at)?;
        self.take_at(at, count)
    }

    /// Makes the numbers `at..at + count` free again.
    pub(super) fn give(&mut self, at: u64, count: u64) {
        self.taken -= count;
        let (mut at, mut count) = (at, count);
        if let Some((&start, &len)) = self.free.range(..at).next_back()
            && start + len == at
        {
            (at, count) = (start, len + count);
        }
        if let Some(after) = self.free.remove(&(at + count)) {
            count += after;
        }
        self.free.insert(at, count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_stretch_that_fits_is_taken() {
        let mut gaps = Gaps::new(10);
        let all: Vec<_> = (0..5).map(|_| gaps.take_lowest(2)).collect();
        assert_eq!(all, [Some(0), Some(2), Some(4), Some(6), Some(8)]);
        assert_eq!(gaps.take_lowest(1), None);
        gaps.give(2, 2);
        gaps.give(6, 4);
        assert_eq!(gaps.take_lowest(3), Some(6));
        assert_eq!(gaps.take_lowest(2), Some(2));
        assert!(gaps.iter().eq(std::iter::once(9..10)));
        assert_eq!(gaps.take_at(9, 2), None);
        assert_eq!(gaps.take_at(9, 1), Some(9));
    }

    #[test]
    fn a_freed_range_merges_with_both_neighbours() {
        for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [2, 0, 1], [1, 2, 0], [2, 1, 0]] {
            let mut gaps = Gaps::new(9);
            assert_eq!(gaps.take_lowest(9), Some(0));
            for third in order {
                gaps.give(third * 3, 3);
            }
            assert!(gaps.taken() == 0 && gaps.iter().eq(std::iter::once(0..9)));
        }
    }
}
