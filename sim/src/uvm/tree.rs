//! The density prefetcher: which pages come along with a fault (`uvm_perf_prefetch.c`).

use super::pages::{BIG_PAGE, PageSet};

/// A subtree is fetched when more than this share of it is there or has faulted
/// (`uvm_perf_prefetch_threshold`).
const THRESHOLD_PERCENT: usize = 51;

/// The pages of `start..end` (one block, or the part of one that shares its advice) that are moved along
/// with the `faulted` ones to where `resident` already is.
///
/// A fault grows to its 64 KiB; then the largest subtree over `start..end` that holds the fault and is
/// denser than the threshold comes whole. Pages that thrash are left out.
pub(super) fn prefetch(
    start: usize,
    end: usize,
    resident: &PageSet,
    faulted: &PageSet,
    thrashing: &PageSet,
) -> PageSet {
    let present = resident.or(faulted).or(&grown(start, end, faulted, thrashing));
    let top = (end - start).next_power_of_two();
    // Below 64 KiB every subtree with a fault is full, unless something keeps faults from growing.
    let bottom = if start.is_multiple_of(BIG_PAGE) && thrashing.is_empty() { BIG_PAGE } else { 1 };
    let mut fetched = PageSet::EMPTY;
    for page in faulted.iter() {
        // Whatever is dense enough around it would have been so around the page that fetched it.
        if fetched.contains(page) {
            continue;
        }
        let mut size = bottom.min(top);
        let mut best = None;
        let (mut first, mut last, mut count) = (page, page, 0);
        while size <= top {
            let (below, above) = (first, last);
            first = start + (page - start) / size * size;
            last = (first + size).min(end);
            count += present.count_in(first, below) + present.count_in(above, last);
            if count * 100 > (last - first) * THRESHOLD_PERCENT {
                best = Some((first, last));
            }
            size *= 2;
        }
        if let Some((first, last)) = best {
            fetched = fetched.or(&PageSet::range(first, last));
        }
    }
    fetched.minus(faulted).minus(thrashing)
}

/// The 64 KiB around each of the `faulted` pages, without those in which a page thrashes.
pub(super) fn grown(start: usize, end: usize, faulted: &PageSet, thrashing: &PageSet) -> PageSet {
    let mut grown = PageSet::EMPTY;
    for page in faulted.iter() {
        let big = page / BIG_PAGE * BIG_PAGE;
        let big = PageSet::range(big.max(start), (big + BIG_PAGE).min(end));
        if big.and(thrashing).is_empty() {
            grown = grown.or(&big);
        }
    }
    grown
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(page: usize) -> PageSet {
        PageSet::range(page, page + 1)
    }

    #[test]
    fn a_lone_fault_grows_to_64_kib() {
        let got = prefetch(0, 512, &PageSet::EMPTY, &one(40), &PageSet::EMPTY);
        assert_eq!(got, PageSet::range(32, 48).minus(&one(40)));
    }

    #[test]
    fn half_a_subtree_does_not_fire_and_three_quarters_do() {
        let got = prefetch(0, 512, &PageSet::range(0, 16), &one(16), &PageSet::EMPTY);
        assert_eq!(got, PageSet::range(16, 32).minus(&one(16)).or(&PageSet::range(0, 16)), "the 128 KiB, no more");
        let got = prefetch(0, 512, &PageSet::range(0, 32), &one(32), &PageSet::EMPTY);
        assert_eq!(got.count(), 63, "three quarters of 256 KiB bring the last quarter");
    }

    #[test]
    fn a_short_block_is_clipped() {
        let got = prefetch(0, 24, &PageSet::EMPTY, &one(20), &PageSet::EMPTY);
        assert_eq!(got, PageSet::range(16, 24).minus(&one(20)));
    }
}
