//! The density prefetcher: which pages a fault fetches besides its own (`uvm_perf_prefetch.c`).

use super::pages::{BIG_PAGE, PageSet};

/// A subtree is fetched if more than this percentage of its pages is resident or has faulted
/// (`uvm_perf_prefetch_threshold`).
const THRESHOLD_PERCENT: usize = 51;

/// Returns the pages that a fault fetches besides the `faulted` pages. `resident` are the destination's pages.
/// `start..end` is one block, or the part of a block that has the same advice.
///
/// A fault grows to its 64 KiB. Then the largest subtree over `start..end` that holds the fault and is denser than the
/// threshold is fetched whole. Thrashing pages are left out.
pub(super) fn prefetch(
    start: usize,
    end: usize,
    resident: &PageSet,
    faulted: &PageSet,
    thrashing: &PageSet,
) -> PageSet {
    let present = resident.or(faulted).or(&grown(start, end, faulted, thrashing));
    let top = (end - start).next_power_of_two();
    // A fault grows to 64 KiB and so fills every smaller subtree around it. These subtrees are skipped, unless an
    // unaligned start or a thrashing page may keep faults from growing.
    let bottom = if start.is_multiple_of(BIG_PAGE) && thrashing.is_empty() { BIG_PAGE } else { 1 };
    let mut fetched = PageSet::EMPTY;
    for page in faulted.iter() {
        // Any larger dense subtree around this page would have been fetched with the fault that fetched the page.
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

/// Returns the 64 KiB around each of the `faulted` pages, except where these 64 KiB hold a thrashing page.
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
