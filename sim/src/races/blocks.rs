//! [`Blocks`]: the blocks of pools, live or kept.
#![forbid(unsafe_code)]

use super::shadow::RecordedUse;
use std::collections::BTreeMap;
use std::ops::Range;

/// What a pool last did with a run of bytes.
#[derive(Debug, Clone)]
pub(super) struct Owner {
    /// The allocation of the block, if the detector was on.
    pub(super) allocated: Option<RecordedUse>,
    /// The free of the block, if the pool keeps the memory.
    pub(super) freed: Option<RecordedUse>,
    /// The bytes of the whole block.
    whole: (u64, u64),
}

/// A use of memory that no pool has handed out.
#[derive(Debug, Clone)]
pub(super) enum Misuse {
    /// The memory was freed.
    Freed(Owner, Range<u64>),
    /// The use leaves the block that it begins in, or reaches into a block from outside.
    OutOfBounds(Owner, Range<u64>),
}

/// The blocks that pools declared. Memory of no pool has no entry, and neither have bytes of a chunk that were never in
/// a block.
#[derive(Debug, Default)]
pub(super) struct Blocks {
    spans: BTreeMap<u64, (u64, Owner)>,
}

impl Blocks {
    pub(super) fn handed_out(&mut self, range: &Range<u64>, allocated: RecordedUse) {
        let whole = (range.start, range.end);
        self.replace(range, Some(Owner { allocated: Some(allocated), freed: None, whole }));
    }

    pub(super) fn kept(&mut self, range: &Range<u64>, freed: RecordedUse) {
        let whole = (range.start, range.end);
        let before = self.spans.get(&range.start).map(|(_, owner)| owner).filter(|owner| owner.whole == whole);
        let allocated = before.and_then(|owner| owner.allocated.clone());
        self.replace(range, Some(Owner { allocated, freed: Some(freed), whole }));
    }

    /// Forgets the blocks of a range, because the memory is no pool's any more.
    pub(super) fn forget(&mut self, range: &Range<u64>) {
        self.replace(range, None);
    }

    /// Returns the number of entries.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.spans.len()
    }

    /// Returns how a use of `range` contradicts the blocks. Several blocks may be misused, and one is returned.
    pub(super) fn misuse(&self, range: &Range<u64>) -> Option<Misuse> {
        let mut owners = self.within(range).peekable();
        let (first, start, end) = owners.peek().cloned()?;
        if start <= range.start && first.freed.is_none() {
            return (end < range.end).then(|| Misuse::OutOfBounds(first.clone(), end..range.end));
        }
        let freed = owners.find(|(owner, ..)| owner.freed.is_some());
        let common = |start: u64, end: u64| start.max(range.start)..end.min(range.end);
        Some(match freed {
            Some((owner, start, end)) => Misuse::Freed(owner.clone(), common(start, end)),
            None => Misuse::OutOfBounds(first.clone(), range.start..start),
        })
    }

    /// Iterates over the owners of bytes of `range`, each with the first address and the end of its bytes.
    fn within(&self, range: &Range<u64>) -> impl Iterator<Item = (&Owner, u64, u64)> {
        let before = self.spans.range(..range.start).next_back().filter(|(_, (end, _))| *end > range.start);
        let all = before.into_iter().chain(self.spans.range(range.clone()));
        all.map(|(&start, (end, owner))| (owner, start, *end))
    }

    fn replace(&mut self, range: &Range<u64>, owner: Option<Owner>) {
        self.split(range.start);
        self.split(range.end);
        let old: Vec<u64> = self.spans.range(range.clone()).map(|(&start, _)| start).collect();
        old.iter().for_each(|start| drop(self.spans.remove(start)));
        owner.into_iter().for_each(|owner| drop(self.spans.insert(range.start, (range.end, owner))));
    }

    /// Splits the entry that holds `at` and begins before it, so that an entry begins at `at`.
    fn split(&mut self, at: u64) {
        if let Some((_, (end, owner))) = self.spans.range_mut(..at).next_back()
            && *end > at
        {
            let rest = (std::mem::replace(end, at), owner.clone());
            self.spans.insert(at, rest);
        }
    }
}
