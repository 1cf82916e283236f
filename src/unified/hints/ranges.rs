//! [`Ranges`]: ranges of addresses, each with a target, merged and ordered by address.

use cumem_driver::PrefetchRange;
use std::collections::BTreeMap;

/// A range of a plan, with the address of its block. Touching ranges of two blocks are not merged, because they may
/// belong to two allocations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PlannedRange {
    pub(super) range: PrefetchRange,
    pub(super) block: u64,
}

impl PlannedRange {
    fn addr(&self) -> u64 {
        self.range.addr
    }

    fn end(&self) -> u64 {
        self.range.addr + self.range.bytes as u64
    }
}

/// Disjoint ranges, by the address of their first byte.
#[derive(Debug, Clone, Default)]
pub(super) struct Ranges(BTreeMap<u64, PlannedRange>);

impl Ranges {
    /// Returns the ranges that overlap or touch `range`, in the order of their addresses.
    fn near(&self, range: &PlannedRange) -> impl Iterator<Item = &PlannedRange> {
        let (start, end) = (range.addr(), range.end());
        let first = self.0.range(..=start).next_back().map_or(start, |(first, _)| *first);
        self.0.range(first..=end).map(|(_, near)| near).filter(move |near| near.end() >= start)
    }

    fn overlapping(&self, range: &PlannedRange) -> impl Iterator<Item = &PlannedRange> {
        let (start, end) = (range.addr(), range.end());
        self.near(range).filter(move |near| near.addr() < end && near.end() > start)
    }

    /// Returns a range that overlaps `range` and has another target.
    pub(super) fn conflicting(&self, range: &PlannedRange) -> Option<&PlannedRange> {
        self.overlapping(range).find(|other| other.range.to != range.range.to)
    }

    /// Returns the number of bytes of `range` that are in none of the ranges.
    pub(super) fn missing(&self, range: &PlannedRange) -> usize {
        let shared = |other: &PlannedRange| other.end().min(range.end()) - other.addr().max(range.addr());
        range.range.bytes - self.overlapping(range).map(shared).sum::<u64>() as usize
    }

    /// Adds `range`, and merges it with the ranges of the same block and target that it overlaps or touches. `range`
    /// must not conflict with another.
    pub(super) fn insert(&mut self, mut range: PlannedRange) {
        let joins = |near: &&PlannedRange| near.block == range.block && near.range.to == range.range.to;
        let joined: Vec<PlannedRange> = self.near(&range).filter(joins).copied().collect();
        for other in joined {
            self.0.remove(&other.addr());
            let end = range.end().max(other.end());
            range.range.addr = range.addr().min(other.addr());
            range.range.bytes = (end - range.addr()) as usize;
        }
        self.0.insert(range.addr(), range);
    }

    /// Returns all ranges, in the order of their addresses.
    pub(super) fn to_vec(&self) -> Vec<PrefetchRange> {
        self.0.values().map(|planned| planned.range).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cumem_driver::Location;

    fn range(addr: u64, bytes: usize) -> PlannedRange {
        PlannedRange { range: PrefetchRange { addr, bytes, to: Location::Host }, block: 0 }
    }

    fn spans(ranges: &Ranges) -> Vec<(u64, usize)> {
        ranges.to_vec().iter().map(|range| (range.addr, range.bytes)).collect()
    }

    #[test]
    fn overlaps_and_touching_ranges_become_one_in_order() {
        let mut ranges = Ranges::default();
        for (addr, bytes) in [(100, 50), (300, 10), (150, 20), (90, 20), (500, 1)] {
            ranges.insert(range(addr, bytes));
        }
        assert_eq!(spans(&ranges), [(90, 80), (300, 10), (500, 1)]);
        assert_eq!(ranges.missing(&range(80, 230)), 230 - 80 - 10);
        ranges.insert(range(80, 421));
        assert_eq!(spans(&ranges), [(80, 421)]);
        assert_eq!(ranges.missing(&range(100, 100)), 0);
    }

    #[test]
    fn blocks_that_touch_stay_apart_and_targets_conflict_only_where_they_overlap() {
        let mut ranges = Ranges::default();
        ranges.insert(range(0, 100));
        ranges.insert(PlannedRange { block: 100, ..range(100, 100) });
        assert_eq!(spans(&ranges), [(0, 100), (100, 100)]);
        let to = Location::HostNuma(0);
        let elsewhere = |addr, bytes| PlannedRange { range: PrefetchRange { addr, bytes, to }, block: 0 };
        assert_eq!(ranges.conflicting(&elsewhere(200, 10)), None);
        assert_eq!(ranges.conflicting(&elsewhere(99, 10)).map(PlannedRange::addr), Some(0));
    }
}
