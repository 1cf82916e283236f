//! [`Gaps`]: which of a range of numbers are free.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::ops::Range;

/// Free stretches of `0..size`, none of which touch, by where they start.
#[derive(Debug)]
pub(super) struct Gaps {
    free: BTreeMap<u64, u64>,
    taken: u64,
}

impl Gaps {
    /// All of `0..size` is free.
    pub(super) fn new(size: u64) -> Self {
        Self { free: BTreeMap::from([(0, size)]), taken: 0 }
    }

    /// How many are not free.
    pub(super) fn taken(&self) -> u64 {
        self.taken
    }

    /// The free stretches, from below.
    pub(super) fn iter(&self) -> impl Iterator<Item = Range<u64>> {
        self.free.iter().map(|(&at, &len)| at..at + len)
    }

    /// Takes `count` at `at` if they start a free stretch that is long enough.
    pub(super) fn take_at(&mut self, at: u64, count: u64) -> Option<u64> {
        let len = *self.free.get(&at).filter(|&&len| len >= count)?;
        self.free.remove(&at);
        if len > count {
            self.free.insert(at + count, len - count);
        }
        self.taken += count;
        Some(at)
    }

    /// Takes the lowest `count` that are in one stretch; where it starts.
    pub(super) fn take_lowest(&mut self, count: u64) -> Option<u64> {
        let at = self.free.iter().find(|&(_, &len)| len >= count).map(|(&at, _)| at)?;
        self.take_at(at, count)
    }

    /// Makes `count` from `at` on free again.
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
    fn what_is_given_back_joins_on_both_sides() {
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
