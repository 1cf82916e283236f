//! [`Addresses`]: the addresses of one machine's memory within the process.
//!
//! They come from one large range, and the lowest range that fits is taken first. Which of two allocations has the
//! lower address thus depends only on the calls, and code that sorts by address does the same in every run.

use super::mapping::{Mapping, REGION, REGION_ALIGN};
use std::collections::BTreeMap;

/// All addresses of a machine.
#[derive(Debug, Default)]
pub(super) struct Addresses {
    regions: Vec<AddressRegion>,
}

#[derive(Debug)]
struct AddressRegion {
    whole: Mapping,
    /// Free ranges: bytes by first address. Adjacent ranges are one entry.
    free: BTreeMap<u64, u64>,
}

impl Addresses {
    /// Takes `bytes` addresses, rounded up to pages, from a multiple of `align` (a power of two) on. Returns the first
    /// address and the rounded size, or `None` if the operating system has none left.
    /// The addresses have no pages until they are [opened](Self::open).
    pub(super) fn take(&mut self, bytes: usize, align: usize) -> Option<(u64, u64)> {
        let page = super::uvm::PAGE as usize;
        let bytes = bytes.checked_next_multiple_of(page)?;
        let align = align.max(page);
        let found = self.regions.iter_mut().find_map(|region| region.take(bytes as u64, align as u64));
        found.or_else(|| {
            self.regions.push(AddressRegion::new(bytes.checked_add(align)?)?);
            self.regions.last_mut()?.take(bytes as u64, align as u64)
        })
    }

    /// Gives back addresses that [`take`](Self::take) returned.
    pub(super) fn give(&mut self, base: u64, bytes: u64) {
        let region = self.regions.iter_mut().find(|region| region.whole.contains(base));
        region.expect("the addresses came from here").give(base, bytes);
    }

    /// Puts pages behind addresses until the result is dropped. Returns `None` if the operating system refuses.
    ///
    /// # Safety
    ///
    /// The caller must ensure that:
    /// - the addresses were [taken](Self::take) and have no pages yet;
    /// - the result is dropped before the addresses are given back and before `self` is dropped.
    pub(super) unsafe fn open(&self, base: u64, bytes: u64) -> Option<Mapping> {
        let region = self.regions.iter().find(|region| region.whole.contains(base))?;
        // SAFETY: the caller's promise is the same; `self` drops its regions only when it is dropped.
        unsafe { region.whole.open(base, bytes as usize) }
    }
}

impl AddressRegion {
    fn new(least: usize) -> Option<Self> {
        let sizes = std::iter::successors(Some(REGION.max(least)), |size| Some(size / 4));
        let whole = sizes
            .take_while(|&size| size >= least)
            .chain([least])
            .find_map(|size| Mapping::closed(size, REGION_ALIGN))?;
        let free = BTreeMap::from([(whole.base(), whole.bytes())]);
        Some(Self { whole, free })
    }

    fn take(&mut self, bytes: u64, align: u64) -> Option<(u64, u64)> {
        let (from, have, base) = self.free.iter().find_map(|(&from, &have)| {
            let base = from.checked_next_multiple_of(align)?;
            (base.checked_add(bytes)? <= from + have).then_some((from, have, base))
        })?;
        self.free.remove(&from);
        for (start, end) in [(from, base), (base + bytes, from + have)] {
            if start < end {
                self.free.insert(start, end - start);
            }
        }
        Some((base, bytes))
    }

    fn give(&mut self, base: u64, bytes: u64) {
        let (mut start, mut end) = (base, base + bytes);
        if let Some((&before, &have)) = self.free.range(..base).next_back()
            && before + have == start
        {
            self.free.remove(&before);
            start = before;
        }
        if let Some(have) = self.free.remove(&end) {
            end += have;
        }
        self.free.insert(start, end - start);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn the_lowest_free_range_that_fits_is_used_and_neighbours_merge() {
        let mut addresses = Addresses::default();
        let mut take = |mib: u64| addresses.take((mib * MIB) as usize, 4096).unwrap();
        let [a, b, c] = [take(2), take(3), take(1)];
        assert_eq!((b.0 - a.0, c.0 - b.0), (2 * MIB, 3 * MIB));
        addresses.give(a.0, a.1);
        addresses.give(b.0, b.1);
        assert_eq!(addresses.take(5 << 20, 4096), Some((a.0, 5 * MIB)), "both together");
        addresses.give(c.0, c.1);
        assert_eq!(addresses.take(1 << 20, 4096), Some((c.0, MIB)));
    }

    #[test]
    fn alignment_is_kept_and_the_skipped_addresses_are_reused() {
        let mut addresses = Addresses::default();
        let (first, _) = addresses.take(1, 4096).unwrap();
        let (aligned, bytes) = addresses.take(4096, 1 << 21).unwrap();
        assert_eq!((aligned % (1 << 21), bytes), (0, 4096));
        assert_eq!(addresses.take(8192, 4096).unwrap().0, first + 4096);
    }

    #[test]
    #[cfg_attr(any(miri, not(unix)), ignore = "costs as much memory as the range has bytes")]
    fn a_request_larger_than_a_region_gets_its_own_region() {
        let mut addresses = Addresses::default();
        assert!(addresses.take(2 * REGION, 1 << 21).is_some());
        assert_eq!(addresses.regions.len(), 1);
        assert!(addresses.take(1 << 50, 4096).is_none(), "no machine has so much");
        assert!(addresses.take(usize::MAX - 1, 4096).is_none());
    }

    #[test]
    #[cfg_attr(any(miri, not(unix)), ignore = "costs as much memory as the range has bytes")]
    fn opened_addresses_have_pages_and_closed_ones_can_be_opened_again() {
        let mut addresses = Addresses::default();
        let (base, bytes) = addresses.take(80 << 30, 1 << 21).unwrap();
        for _ in 0..2 {
            // SAFETY: the addresses were just taken; the mapping is dropped at the end of each round.
            let mapping = unsafe { addresses.open(base, bytes) }.unwrap();
            assert_eq!((mapping.base(), mapping.bytes()), (base, 80 << 30));
        }
    }
}
