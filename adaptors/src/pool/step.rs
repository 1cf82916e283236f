//! [`Growth`]: how large a new chunk is.
#![forbid(unsafe_code)]

use super::units::UNIT;
use cumem::layout;

/// The multiple that chunks are rounded up to, unless the options set a smaller step: the driver takes this much of the
/// device at a time. In bytes.
pub(super) const GRANULARITY: usize = 2 << 20;
/// Without a step in the options, the pool grows by its reserved bytes divided by this number.
const STEP_DIVISOR: usize = 8;
/// Without a step in the options, the most that the pool grows by, if the request needs no more. In bytes.
pub(super) const STEP_MAX: usize = 512 << 20;
/// Without a step in the options, a block of at least this many bytes has a chunk of its own. A chunk that other blocks
/// use as well ends in a hole, and few blocks fit into the holes that large blocks leave.
const OWN_CHUNK_MIN: usize = 50 << 20;
/// Such a block shares a chunk with others like it, if rounding its own chunk to whole granules would add more than this
/// part of its size.
const OWN_CHUNK_ADDED: usize = 60;
/// At most this many such blocks share a chunk.
const SHARED_MAX: usize = 6;
/// The numbers of blocks that are tried for a chunk, to find the one where rounding adds least.
const COUNTS_TRIED: usize = 16;

/// What decides how large a new chunk is. All sizes are in bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Growth {
    /// What the request needs. At most `room`.
    pub(super) least: usize,
    /// The step of the options.
    pub(super) step: Option<usize>,
    /// What the pool grows by if the options have no step.
    pub(super) default_step: usize,
    /// What is left up to the pool's maximum.
    pub(super) room: usize,
    /// The multiple that the leaf rounds up to, if it has one.
    pub(super) granularity: Option<usize>,
}

/// Returns what the pool grows by if the options have no step, for a request that may use `reserved` bytes of the pool.
/// `most` is lower while the upstream is nearly out of memory.
pub(super) fn default_step(reserved: usize, most: usize) -> usize {
    (reserved / STEP_DIVISOR).clamp(GRANULARITY, STEP_MAX).min(most)
}

impl Growth {
    /// Returns the sizes to try, from the largest: each is requested if the upstream is out of memory for the one
    /// before. All sizes are multiples of [`UNIT`].
    ///
    /// With a step in the options, these are the step, its half, and half of that, down to what the request needs.
    /// Otherwise the chunk has room for a whole number of blocks like the requested one, because blocks of one size are
    /// often allocated in turn. If the upstream refuses, the chunk is for the requested block only: a larger one could
    /// take memory that a later request needs in one piece.
    pub(super) fn sizes(self) -> Vec<usize> {
        let granule = self.granularity.unwrap_or(GRANULARITY);
        match self.step {
            Some(step) => {
                let step = layout::align_up(step.max(UNIT), UNIT).unwrap_or(usize::MAX);
                let step = step.min(layout::align_down(isize::MAX as usize, granule));
                let granule = if self.granularity.is_some() { granule } else { granule.min(1 << step.ilog2()) };
                let first = self.rounded(self.least.max(step), granule);
                let half =
                    |&bytes: &usize| (bytes > self.least).then(|| layout::align_down(bytes / 2, UNIT).max(self.least));
                std::iter::successors(Some(first), half).collect()
            }
            None => {
                let mut sizes = vec![self.fitted(granule), self.rounded(self.least, granule), self.least];
                sizes.dedup();
                sizes
            }
        }
    }

    /// Returns the size of a chunk for as many blocks as the step and the room have place for, at least one. Of the
    /// last few numbers of blocks, the function chooses the one where rounding up adds the smallest share.
    fn fitted(self, granule: usize) -> usize {
        let added = self.rounded(self.least, granule) - self.least;
        let most = match self.default_step.min(self.room) / self.least {
            blocks if self.least < OWN_CHUNK_MIN => blocks.max(1),
            _ if added <= self.least / OWN_CHUNK_ADDED => 1,
            blocks => blocks.clamp(1, SHARED_MAX),
        };
        let sizes = (most.saturating_sub(COUNTS_TRIED).max(1)..=most).rev().map(|blocks| {
            let used = blocks * self.least;
            (used, self.rounded(used, granule))
        });
        // The largest share of used bytes; of equal shares, the larger chunk.
        let by_share = |a: &(usize, usize), b: &(usize, usize)| {
            let cross = |(used, _): (usize, usize), (_, all): (usize, usize)| used as u128 * all as u128;
            cross(*a, *b).cmp(&cross(*b, *a)).then(a.1.cmp(&b.1))
        };
        sizes.max_by(by_share).map_or(self.least, |(_, all)| all)
    }

    /// Rounds `bytes` up to granules, but not past the room.
    fn rounded(self, bytes: usize, granule: usize) -> usize {
        let rounded = layout::align_up(bytes, granule).unwrap_or(bytes);
        if rounded <= self.room { rounded } else { bytes.min(self.room).max(self.least) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIB: usize = 1 << 10;
    const MIB: usize = 1 << 20;

    fn growth(least: usize, default_step: usize) -> Growth {
        Growth { least, step: None, default_step, room: usize::MAX, granularity: None }
    }

    #[test]
    fn a_chunk_has_room_for_whole_blocks() {
        assert_eq!(growth(129 * MIB, 256 * MIB).sizes(), [130 * MIB, 129 * MIB]);
        assert_eq!(growth(43 * MIB, 256 * MIB).sizes(), [172 * MIB, 44 * MIB, 43 * MIB]);
        assert_eq!(growth(86 * MIB, 256 * MIB).sizes(), [86 * MIB]);
        assert_eq!(growth(300 * MIB, 256 * MIB).sizes(), [300 * MIB]);
        assert_eq!(growth(64 * KIB, 64 * MIB).sizes(), [64 * MIB, 2 * MIB, 64 * KIB]);
        for least in (256..600 * MIB).step_by(1_000_192) {
            let sizes = growth(least, 256 * MIB).sizes();
            let waste = sizes[0] % least;
            assert!(sizes[0] <= (256 * MIB).max(least) + 2 * MIB && waste < 2 * MIB, "{least}: {sizes:?}");
            assert!(sizes.is_sorted_by(|a, b| a > b) && sizes.last() == Some(&least), "{least}: {sizes:?}");
        }
    }

    #[test]
    fn no_chunk_exceeds_the_room() {
        let sizes = |room| Growth { room, ..growth(4 * MIB, 256 * MIB) }.sizes();
        assert_eq!(sizes(64 * MIB), [64 * MIB, 4 * MIB]);
        assert_eq!(sizes(63 * MIB), [60 * MIB, 4 * MIB]);
        assert_eq!(sizes(5 * MIB), [4 * MIB]);
        let odd = Growth { room: 4 * MIB + 512, ..growth(4 * MIB + 256, 256 * MIB) };
        assert_eq!(odd.sizes(), [4 * MIB + 256]);
    }

    #[test]
    fn a_step_of_the_options_is_kept_and_halved() {
        let sizes = |least, step| Growth { step: Some(step), ..growth(least, 256 * MIB) }.sizes();
        assert_eq!(sizes(1024, 64 * KIB)[..2], [64 * KIB, 32 * KIB]);
        assert_eq!(sizes(100 * KIB, 64 * KIB), [128 * KIB, 100 * KIB]);
        assert_eq!(sizes(9 * MIB, 64 * MIB), [64 * MIB, 32 * MIB, 16 * MIB, 9 * MIB]);
        assert_eq!((sizes(256, 0), sizes(512, 1)), (vec![256], vec![512]));
        assert!(sizes(256, usize::MAX).iter().all(|&bytes| bytes % UNIT == 0 && bytes <= isize::MAX as usize));
    }
}
