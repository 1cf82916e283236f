//! Chooses the free memory for one contiguous range of addresses, so that little new memory has to be mapped.
//!
//! A chunk is mapped as a whole or not at all. Only the first part of a range may therefore begin inside a chunk (a
//! *head*: the free end of a chunk), and only the last part may end inside one (a *tail*: the free beginning of a
//! chunk). All parts between them are whole chunks.
#![forbid(unsafe_code)]

use crate::pool::request::Request;
use crate::pool::units::{Extent, align_up};
use std::cmp::Reverse;
use std::ops::Range;

/// The number of heads, and of tails, that are tried with each other: the largest ones.
const ENDS_MAX: usize = 32;

/// The parts of a range, in units.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Plan {
    /// The free memory, in the order of the range.
    pub(super) parts: Vec<Range<u64>>,
    /// Units that have to be mapped first, in whole granules.
    pub(super) missing: u64,
}

impl Plan {
    /// Returns the parts, if nothing has to be mapped.
    pub(super) fn complete_parts(self) -> Option<Vec<Range<u64>>> {
        (self.missing == 0).then_some(self.parts)
    }
}

/// Free memory, by its position in its chunk.
#[derive(Debug, Default)]
struct FreeParts {
    heads: Vec<Range<u64>>,
    whole: Vec<Range<u64>>,
    tails: Vec<Range<u64>>,
}

/// A head and a tail, each possibly empty, and the units that whole chunks must fill between them.
#[derive(Debug)]
struct Ends {
    head: Range<u64>,
    tail: Range<u64>,
    between: u64,
    /// Units that remain of the tail, or else of the last chunk.
    left: u64,
}

/// Returns the plan that maps the least. Of several, it returns the one that uses the fewest units of whole chunks, and
/// then the one that leaves the smallest rest. `runs` are unbroken free ranges by address; `chunks` are ordered by
/// address. Returns `None` if no free memory can be used.
pub(super) fn plan(runs: &[Range<u64>], chunks: &[Extent], granule: u64, request: Request) -> Option<Plan> {
    if request.align > granule {
        return None;
    }
    let mut free = FreeParts::of(runs, chunks, granule, request.align);
    let all: u64 = free.whole.iter().map(|chunk| chunk.end - chunk.start).sum();
    for ends in [&mut free.heads, &mut free.tails] {
        ends.sort_unstable_by_key(|end| Reverse(end.end - end.start));
        ends.truncate(ENDS_MAX);
    }
    let none = 0..0;
    let heads = || free.heads.iter().chain([&none]);
    let tails = || free.tails.iter().chain([&none]);
    let pairs = heads().flat_map(|head| tails().map(move |tail| (head, tail)));
    let ends = pairs.filter_map(|(head, tail)| Ends::of(head, tail, granule, u64::from(request.units)));
    let best = ends.min_by_key(|ends| {
        let chunks = align_up(ends.between, granule);
        (chunks.saturating_sub(all), chunks, ends.left)
    })?;
    let plan = fill(best, free.whole, granule);
    (!plan.parts.is_empty()).then_some(plan)
}

impl FreeParts {
    fn of(runs: &[Range<u64>], chunks: &[Extent], granule: u64, align: u64) -> Self {
        let mut free = Self::default();
        for run in runs {
            let first = chunks.partition_point(|chunk| chunk.addr + chunk.units <= run.start);
            for &Extent { addr, units } in chunks[first..].iter().take_while(|chunk| chunk.addr < run.end) {
                let end = addr + units;
                if !units.is_multiple_of(granule) {
                    // The mapping behind the chunk's end does not belong to the chunk.
                    continue;
                }
                match (run.start <= addr, end <= run.end) {
                    (true, true) => free.whole.push(addr..end),
                    (true, false) => free.tails.push(addr..run.end),
                    (false, true) => free.heads.push(align_up(run.start, align)..end),
                    (false, false) => {}
                }
            }
        }
        free.heads.retain(|head| head.start < head.end);
        free
    }
}

impl Ends {
    /// Returns the ends of a range of `units`, or `None` if the range does not need one of them.
    fn of(head: &Range<u64>, tail: &Range<u64>, granule: u64, units: u64) -> Option<Self> {
        let (head, tail) = (head.clone(), tail.clone());
        let behind = units.checked_sub(head.end - head.start).filter(|&behind| behind > 0)?;
        if tail.is_empty() {
            return Some(Self { head, tail, between: behind, left: align_up(behind, granule) - behind });
        }
        let between = align_up(behind.saturating_sub(tail.end - tail.start), granule);
        let end = tail.start + behind.checked_sub(between).filter(|&of_tail| of_tail > 0)?;
        Some(Self { head, tail: tail.start..end, between, left: tail.end - end })
    }
}

/// Chooses the whole chunks: the largest that fit, and a part of a larger one for the end of a range without a tail.
fn fill(ends: Ends, mut whole: Vec<Range<u64>>, granule: u64) -> Plan {
    let Ends { head, tail, between: mut left, .. } = ends;
    whole.sort_unstable_by_key(|chunk| (Reverse(chunk.end - chunk.start), chunk.start));
    let mut parts = vec![head];
    whole.retain(|chunk| {
        let units = chunk.end - chunk.start;
        let fits = units <= left;
        if fits {
            left -= units;
            parts.push(chunk.clone());
        }
        !fits
    });
    // The remaining chunks are larger. The beginning of one serves for the rest, and for the tail if it is large
    // enough.
    let rest = left + tail.end - tail.start;
    let last = (left > 0).then(|| whole.into_iter().rfind(|chunk| chunk.end - chunk.start >= rest)).flatten();
    let missing = match last {
        Some(chunk) => {
            parts.push(chunk.start..chunk.start + rest);
            0
        }
        None => {
            parts.push(tail);
            align_up(left, granule)
        }
    };
    parts.retain(|part| part.start < part.end);
    Plan { parts, missing }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRANULE: u64 = 8;

    fn request(units: u32) -> Request {
        Request { units, align: 1, preferred: units, cuts_kept: false, waits_for_uses: false }
    }

    /// Returns chunks of the given sizes in granules, end to end from 1000 on.
    fn chunks(granules: &[u64]) -> Vec<Extent> {
        let ends = granules.iter().scan(1000, |end, granules| {
            *end += granules * GRANULE;
            Some(Extent { addr: *end - granules * GRANULE, units: granules * GRANULE })
        });
        ends.collect()
    }

    fn planned(runs: &[Range<u64>], sizes: &[u64], units: u32) -> Option<(Vec<Range<u64>>, u64)> {
        let plan = plan(runs, &chunks(sizes), GRANULE, request(units))?;
        Some((plan.parts, plan.missing))
    }

    #[test]
    fn a_head_and_a_tail_that_fit_exactly_are_preferred() {
        // 1000-1008, 1008-1016, 1016-1024, 1024-1032.
        let runs = [1000..1003, 1013..1016, 1016 + 2..1024, 1024..1029];
        assert_eq!(planned(&runs[..2], &[1; 4], 6), Some((vec![1013..1016, 1000..1003], 0)));
        assert_eq!(planned(&runs, &[1; 4], 8), Some((vec![1013..1016, 1024..1029], 0)));
        assert_eq!(planned(&runs, &[1; 4], 9), Some((vec![1018..1024, 1000..1003], 0)));
    }

    #[test]
    fn stitches_use_whole_chunks_only_in_the_middle_and_only_if_ends_do_not_suffice() {
        let runs = [1006..1016, 1024..1031];
        assert_eq!(planned(&runs, &[1; 4], 9), Some((vec![1006..1008, 1024..1031], 0)));
        assert_eq!(planned(&runs, &[1; 4], 16), Some((vec![1006..1008, 1008..1016, 1024..1030], 0)));
        // A tail that the range does not need stays free.
        assert_eq!(planned(&runs, &[1; 4], 10), Some((vec![1006..1008, 1008..1016], 0)));
    }

    #[test]
    fn missing_memory_of_a_stitch_is_mapped_in_whole_granules() {
        let runs = [1006..1016, 1024..1031];
        assert_eq!(planned(&runs, &[1; 4], 17), Some((vec![1006..1008, 1008..1016, 1024..1031], 0)));
        assert_eq!(planned(&runs, &[1; 4], 18), Some((vec![1006..1008, 1008..1016], 8)));
        assert_eq!(planned(&runs, &[1; 4], 19), Some((vec![1008..1016, 1024..1027], 8)));
    }

    #[test]
    fn free_memory_without_a_whole_granule_is_not_stitched() {
        assert_eq!(planned(&[1001..1007, 1009..1012], &[1; 2], 8), None);
    }

    #[test]
    fn chunks_that_end_inside_a_granule_are_not_stitched() {
        let mut chunks = chunks(&[1, 1, 1]);
        let parts =
            |chunks: &[Extent]| plan(&[1000..1004, 1012..1016], chunks, GRANULE, request(8)).map(|plan| plan.parts);
        assert_eq!(parts(&chunks), Some(vec![1012..1016, 1000..1004]));
        chunks[1] = Extent { addr: 1008 + 1, units: GRANULE - 1 };
        assert_eq!(parts(&chunks), None);
    }

    #[test]
    fn a_start_is_aligned_and_nothing_is_aligned_to_more_than_a_granule() {
        let runs = [1003..1008, 1008..1012];
        let of = |align| {
            plan(
                &runs,
                &chunks(&[1; 2]),
                GRANULE,
                Request { units: 6, align, preferred: 6, cuts_kept: false, waits_for_uses: false },
            )
            .map(|plan| plan.parts)
        };
        assert_eq!(of(1), Some(vec![1003..1008, 1008..1009]));
        assert_eq!(of(4), Some(vec![1004..1008, 1008..1010]));
        assert_eq!(of(16), None);
    }

    #[test]
    fn larger_chunks_serve_too() {
        // 1000-1032, 1032-1048, 1048-1056.
        let runs = [1002..1003, 1030..1056];
        let chunks = [4, 2, 1];
        assert_eq!(planned(&runs, &chunks, 12), Some((vec![1048..1056, 1032..1036], 0)));
        assert_eq!(planned(&runs[..1], &chunks, 12), None, "it is in the middle of a chunk");
    }
}
