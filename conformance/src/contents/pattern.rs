//! The pattern that is written into a block, and the parts of a block that hold it.

/// Bytes at each end of a block that are accessed. The bytes between them in a large block would only cost time:
/// an overlapping neighbor is found by its address, and a lost page shows at the ends.
pub(super) const WINDOW: usize = 2 << 10;

/// Returns the ranges of a block of `size` bytes that are accessed, as offset and length. They do not overlap.
pub(super) fn windows(size: usize) -> impl Iterator<Item = (usize, usize)> {
    let head = size.min(WINDOW);
    let tail = (size - head).min(WINDOW);
    [(0, head), (size - tail, tail)].into_iter().filter(|&(_, len)| len > 0)
}

/// Returns byte `i` of the pattern of `serial`. The kernels of `kernels.ptx` compute the same.
pub(super) fn pattern(serial: u64, i: usize) -> u8 {
    (serial as u8).wrapping_mul(31).wrapping_add((serial >> 8) as u8) ^ (i as u8) ^ ((i >> 8) as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_cover_small_blocks_and_the_ends_of_large_ones() {
        let windows = |size| Vec::from_iter(windows(size));
        assert_eq!(windows(0), []);
        assert_eq!(windows(1), [(0, 1)]);
        assert_eq!(windows(WINDOW + 1), [(0, WINDOW), (WINDOW, 1)]);
        assert_eq!(windows(1 << 30), [(0, WINDOW), ((1 << 30) - WINDOW, WINDOW)]);
    }

    #[test]
    fn patterns_of_neighbours_differ() {
        assert_ne!(pattern(1, 0), pattern(2, 0));
        assert_ne!(pattern(1, 0), pattern(257, 0));
    }
}
