//! Conversions of addresses to pages of 2 MiB, and to bits for the pages of 4 KiB within them.

use std::ops::Range;

/// The bytes that one table entry covers.
pub(super) const LARGE: u64 = 2 << 20;
/// The bytes that one bit covers. Prefetches migrate whole pages of the host, which have at least this size.
const SMALL: u64 = 4096;

/// The number of words that hold the bits of one 2 MiB page.
pub(super) const WORDS: usize = (LARGE / SMALL / 64) as usize;

/// Rounds a range out to whole 2 MiB pages, the blocks that the driver manages (`UVM_VA_BLOCK_SIZE`).
pub(super) fn blocks(addr: u64, bytes: usize) -> (u64, usize) {
    let first = addr / LARGE * LARGE;
    let end = addr.saturating_add(bytes as u64).checked_next_multiple_of(LARGE).unwrap_or(u64::MAX);
    (first, (end - first) as usize)
}

/// Returns the 2 MiB pages that contain bytes of a range, each with the range's 4 KiB pages within it.
pub(super) fn pages(addr: u64, bytes: usize) -> impl Iterator<Item = (u64, Range<u32>)> {
    let end = addr.saturating_add(bytes as u64);
    let last = if bytes == 0 { addr / LARGE } else { (end - 1) / LARGE + 1 };
    (addr / LARGE..last).map(move |page| (page, within(page, addr, end)))
}

/// Returns the 4 KiB pages within 2 MiB page `page` that contain bytes of `addr..end`. At least one byte must be in the
/// page.
pub(super) fn within(page: u64, addr: u64, end: u64) -> Range<u32> {
    let first = page * LARGE;
    let start = addr.max(first) - first;
    let end = end.min(first.saturating_add(LARGE)) - first;
    (start / SMALL) as u32..end.div_ceil(SMALL) as u32
}

/// Returns the words that contain `bits`, each with a mask of those bits. `bits` must not be empty.
pub(super) fn words(bits: Range<u32>) -> impl Iterator<Item = (usize, u64)> {
    (bits.start / 64..bits.end.div_ceil(64)).map(move |word| {
        let first = word * 64;
        let start = bits.start.max(first) - first;
        let end = bits.end.min(first + 64) - first;
        (word as usize, (u64::MAX >> (64 - (end - start))) << start)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(addr: u64, bytes: usize) -> Vec<(u64, Range<u32>)> {
        pages(addr, bytes).collect()
    }

    #[test]
    fn ranges_are_rounded_out_to_small_pages() {
        assert_eq!(all(3 * LARGE + 100, 0), []);
        assert_eq!(all(3 * LARGE + 100, 1), [(3, 0..1)]);
        assert_eq!(all(3 * LARGE + 4095, 2), [(3, 0..2)]);
        assert_eq!(all(3 * LARGE - 1, LARGE as usize + 2), [(2, 511..512), (3, 0..512), (4, 0..1)]);
        assert_eq!(all(u64::MAX - 10, usize::MAX), [(u64::MAX / LARGE, 511..512)]);
    }

    #[test]
    fn whole_blocks() {
        assert_eq!(blocks(LARGE + 5, 1), (LARGE, LARGE as usize));
        assert_eq!(blocks(LARGE, LARGE as usize + 1), (LARGE, 2 * LARGE as usize));
        assert_eq!(blocks(u64::MAX - 1, 9).0, u64::MAX - (LARGE - 1));
    }

    #[test]
    fn bits_by_word() {
        assert_eq!(words(0..512).collect::<Vec<_>>(), (0..WORDS).map(|word| (word, u64::MAX)).collect::<Vec<_>>());
        assert_eq!(words(63..66).collect::<Vec<_>>(), [(0, 1 << 63), (1, 0b11)]);
    }
}
