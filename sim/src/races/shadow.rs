//! [`Shadow`]: for each byte, who wrote it last and who read it since.
#![forbid(unsafe_code)]

use super::clock::{Actor, Clock};
use super::report::Use;
use smallvec::SmallVec;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

/// One use of a range, with its place in the order of things.
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

/// What is known of a run of bytes.
#[derive(Debug, Clone, Default)]
struct Cell {
    /// The last write, or where the memory was allocated or freed since.
    last: Option<Step>,
    /// The reads after it, the latest of each actor.
    reads: SmallVec<[Step; 2]>,
}

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct Shadow {
    spans: BTreeMap<u64, (u64, Cell)>,
}

impl Shadow {
    /// A span begins at `at`, if one goes over it.
    fn split(&mut self, at: u64) {
        if let Some((_, (end, cell))) = self.spans.range_mut(..at).next_back()
            && *end > at
        {
            let rest = (std::mem::replace(end, at), cell.clone());
            self.spans.insert(at, rest);
        }
    }

    /// All earlier steps that a use of `range` meets: with `all`, those that read too.
    pub(super) fn met(&self, range: &Range<u64>, all: bool, mut each: impl FnMut(&Step, Range<u64>)) {
        let before = self.spans.range(..range.start).next_back().filter(|(_, (end, _))| *end > range.start);
        for (&start, (end, cell)) in before.into_iter().chain(self.spans.range(range.clone())) {
            let common = start.max(range.start)..(*end).min(range.end);
            let reads = cell.reads.iter().filter(|_| all);
            cell.last.iter().chain(reads).for_each(|step| each(step, common.clone()));
        }
    }

    /// From now on `step` is the last thing that happened to `range`; `None` forgets what is known of it.
    pub(super) fn overwrite(&mut self, range: Range<u64>, step: Option<Step>) {
        self.split(range.start);
        self.split(range.end);
        let gone: SmallVec<[u64; 8]> = self.spans.range(range.clone()).map(|(&start, _)| start).collect();
        gone.iter().for_each(|start| drop(self.spans.remove(start)));
        if let Some(step) = step {
            self.spans.insert(range.start, (range.end, Cell { last: Some(step), reads: SmallVec::new() }));
        }
    }

    /// `step` has read `range`.
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
