//! [`Shadow`]: the last write of each byte, and the reads since.
#![forbid(unsafe_code)]

use super::clock::{Actor, Clock};
use super::report::Use;
use smallvec::SmallVec;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

/// One use of a range: step `number` of `actor`.
#[derive(Debug, Clone)]
pub(super) struct Step {
    pub(super) actor: Actor,
    pub(super) number: u64,
    pub(super) what: Arc<Use>,
}

impl Step {
    pub(super) fn known_to(&self, clock: &Clock) -> bool {
        self.number <= clock.of(self.actor)
    }
}

/// The recorded uses of a run of bytes.
#[derive(Debug, Clone, Default)]
struct Cell {
    /// The last write, allocation or free.
    last: Option<Step>,
    /// The reads since `last`: the latest of each actor.
    reads: SmallVec<[Step; 2]>,
}

/// The recorded uses of all memory: see the [module](self).
#[derive(Debug, Default)]
pub(super) struct Shadow {
    spans: BTreeMap<u64, (u64, Cell)>,
}

impl Shadow {
    /// Splits the span that holds `at` and begins before it, so that a span begins at `at`.
    fn split(&mut self, at: u64) {
        if let Some((_, (end, cell))) = self.spans.range_mut(..at).next_back()
            && *end > at
        {
            let rest = (std::mem::replace(end, at), cell.clone());
            self.spans.insert(at, rest);
        }
    }

    /// Calls `each` with every recorded write, allocation or free in `range`, and if `all` is true, with every read.
    pub(super) fn met(&self, range: &Range<u64>, all: bool, mut each: impl FnMut(&Step, Range<u64>)) {
        let before = self.spans.range(..range.start).next_back().filter(|(_, (end, _))| *end > range.start);
        for (&start, (end, cell)) in before.into_iter().chain(self.spans.range(range.clone())) {
            let common = start.max(range.start)..(*end).min(range.end);
            let reads = cell.reads.iter().filter(|_| all);
            cell.last.iter().chain(reads).for_each(|step| each(step, common.clone()));
        }
    }

    /// Records `step` as the last write, allocation or free of `range`. `None` forgets all recorded uses.
    pub(super) fn overwrite(&mut self, range: Range<u64>, step: Option<Step>) {
        self.split(range.start);
        self.split(range.end);
        let gone: SmallVec<[u64; 8]> = self.spans.range(range.clone()).map(|(&start, _)| start).collect();
        gone.iter().for_each(|start| drop(self.spans.remove(start)));
        if let Some(step) = step {
            self.spans.insert(range.start, (range.end, Cell { last: Some(step), reads: SmallVec::new() }));
        }
    }

    /// Records that `step` read `range`.
    pub(super) fn read(&mut self, range: Range<u64>, step: &Step) {
        self.split(range.start);
        self.split(range.end);
        let mut at = range.start;
        let mut gaps: SmallVec<[Range<u64>; 4]> = SmallVec::new();
        for (&start, (end, cell)) in self.spans.range_mut(range.clone()) {
            if at < start {
                gaps.push(at..start);
            }
            at = *end;
            cell.reads.retain(|read| read.actor != step.actor);
            cell.reads.push(step.clone());
        }
        if at < range.end {
            gaps.push(at..range.end);
        }
        for gap in gaps {
            let cell = Cell { last: None, reads: SmallVec::from_iter([step.clone()]) };
            self.spans.insert(gap.start, (gap.end, cell));
        }
    }
}
