//! [`Shadow`]: the last write of each byte, and the reads since.
#![forbid(unsafe_code)]

use super::clock::{Actor, Clock};
use super::report::{AccessKind, MemoryUse};
use smallvec::SmallVec;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

/// One use of a range: step `number` of `actor`.
#[derive(Debug, Clone)]
pub(super) struct RecordedUse {
    pub(super) actor: Actor,
    pub(super) number: u64,
    /// The number of this step among those of all actors.
    pub(super) at_step: u64,
    pub(super) details: Arc<MemoryUse>,
}

impl RecordedUse {
    pub(super) fn known_to(&self, clock: &Clock) -> bool {
        self.number <= clock.of(self.actor)
    }

    /// Reports whether the use conflicts with a host access of this kind that began after `since` steps, whatever waits
    /// came between. During a read, nothing may write. During a write, the host may not use the memory a second time;
    /// work of a stream may, because the borrowed elements can be copied.
    pub(super) fn is_during(&self, since: u64, access: AccessKind) -> bool {
        let used = match access {
            AccessKind::Read => self.details.kind == AccessKind::Written,
            _ => self.details.stream.is_none() && matches!(self.details.kind, AccessKind::Read | AccessKind::Written),
        };
        used && self.at_step > since
    }
}

/// The recorded uses of a run of bytes.
#[derive(Debug, Clone, Default)]
struct ByteUses {
    /// The last write, allocation or free.
    last: Option<RecordedUse>,
    /// The reads since `last`: the latest of each actor.
    reads: SmallVec<[RecordedUse; 2]>,
}

/// The recorded uses of all memory: see the [module](self).
#[derive(Debug, Default)]
pub(super) struct Shadow {
    spans: BTreeMap<u64, (u64, ByteUses)>,
}

impl Shadow {
    /// Returns the number of runs of bytes that have recorded uses.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.spans.len()
    }

    /// Splits the span that holds `at` and begins before it, so that a span begins at `at`.
    fn split(&mut self, at: u64) {
        if let Some((_, (end, uses))) = self.spans.range_mut(..at).next_back()
            && *end > at
        {
            let rest = (std::mem::replace(end, at), uses.clone());
            self.spans.insert(at, rest);
        }
    }

    /// Calls `each` with every recorded write, allocation or free in `range`, and if `all` is true, with every read.
    pub(super) fn visit(&self, range: &Range<u64>, all: bool, mut each: impl FnMut(&RecordedUse, Range<u64>)) {
        let before = self.spans.range(..range.start).next_back().filter(|(_, (end, _))| *end > range.start);
        for (&start, (end, uses)) in before.into_iter().chain(self.spans.range(range.clone())) {
            let common = start.max(range.start)..(*end).min(range.end);
            let reads = uses.reads.iter().filter(|_| all);
            uses.last.iter().chain(reads).for_each(|step| each(step, common.clone()));
        }
    }

    /// Records `step` as the last write, allocation or free of `range`. `None` forgets all recorded uses.
    pub(super) fn overwrite(&mut self, range: Range<u64>, step: Option<RecordedUse>) {
        self.split(range.start);
        self.split(range.end);
        let old: SmallVec<[u64; 8]> = self.spans.range(range.clone()).map(|(&start, _)| start).collect();
        old.iter().for_each(|start| drop(self.spans.remove(start)));
        if let Some(step) = step {
            self.spans.insert(range.start, (range.end, ByteUses { last: Some(step), reads: SmallVec::new() }));
        }
    }

    /// Records that `step` read `range`.
    pub(super) fn read(&mut self, range: Range<u64>, step: &RecordedUse) {
        self.split(range.start);
        self.split(range.end);
        let mut at = range.start;
        let mut gaps: SmallVec<[Range<u64>; 4]> = SmallVec::new();
        for (&start, (end, uses)) in self.spans.range_mut(range.clone()) {
            if at < start {
                gaps.push(at..start);
            }
            at = *end;
            uses.reads.retain(|read| read.actor != step.actor);
            uses.reads.push(step.clone());
        }
        if at < range.end {
            gaps.push(at..range.end);
        }
        for gap in gaps {
            let uses = ByteUses { last: None, reads: SmallVec::from_iter([step.clone()]) };
            self.spans.insert(gap.start, (gap.end, uses));
        }
    }
}
