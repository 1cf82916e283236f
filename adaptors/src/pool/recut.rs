//! An empty pool with a maximum allocates one chunk in place of several. Without that, each chunk could leave a hole
//! that no block fits into, and the pool would not give out its whole maximum.

use super::fence::Fences;
use super::miss::Miss;
use super::step::GRANULARITY;
use super::units::UNIT;
use cumem::error::unreported;
use cumem::{Stream, Upstream, layout};

impl<U: Upstream> Miss<'_, U> {
    /// If the pool has a maximum, no step and no live block, replaces its chunks by one chunk for a request of `units` on
    /// `stream`, whose slot is `index`. That chunk stays, so the pool does so once. If the upstream refuses, the pool
    /// grows as usual.
    pub(super) fn recut(&mut self, stream: &Stream, index: usize, units: u64) {
        let Some(maximum) = self.limits.maximum else { return };
        let reserved = self.shared.chunks.reserved();
        if reserved == 0 || self.state.slots.iter().any(|(_, slot)| slot.blocks(&slot.lock()) > 0) {
            return;
        }
        // The initial chunk stays, too, because the options name its size, and mapped chunks are joined in any case.
        if self.limits.granularity.is_some() || self.shared.chunks.is_one_for_all() {
            // The stream's heap, stitches and the arena may each have a part of a chunk. Together the parts are one
            // piece.
            let stitched = !self.shared.stitches.is_empty()
                && self.state.fold(self.shared, index, false).is_ok()
                && self.unstitch();
            let in_heap = self.state.slots.make(index).lock().heap.free_units() > 0;
            if stitched || (in_heap && self.shared.arena.units() > 0) {
                self.pull_usable(stream, index);
            }
            return;
        }
        if self.limits.step.is_some() || self.state.fold_all(self.shared, None, false).is_err() {
            return;
        }
        self.release(0, false);
        // Another thread may have allocated a block, or the upstream may have refused a chunk.
        if self.shared.chunks.reserved() > 0 {
            return;
        }
        let wanted = one_chunk(maximum, reserved.max(units as usize * UNIT));
        let sizes = if wanted > reserved { vec![wanted, reserved] } else { vec![wanted] };
        let prefetch = self.limits.prefetch;
        let grow = || self.shared.chunks.grow(self.upstream, stream, &sizes, 0, prefetch);
        // A refusal is no error here, because the request has not been served yet.
        let Ok(grown) = unreported(grow) else { return };
        match self.state.fence(stream, false) {
            Ok(fences) => self.shared.add_chunk(grown, fences, self.limits.lazy),
            Err(_) => {
                // As in `grow_by_chunk`: no other stream may see the chunk before it enters this stream's heap.
                self.shared.add_chunk(grown, Fences::default(), false);
                self.pull_usable(stream, index);
            }
        }
    }
}

/// Returns the size of the one chunk of a pool that needs `needed` bytes: the maximum, its half, or half of that, and so
/// on. Chunks of these sizes together fill the maximum exactly.
fn one_chunk(maximum: usize, needed: usize) -> usize {
    let half = |&bytes: &usize| Some(layout::align_down(bytes / 2, GRANULARITY)).filter(|&half| half >= needed.max(1));
    std::iter::successors(Some(maximum), half).last().unwrap_or(maximum)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    #[test]
    fn one_chunk_is_the_maximum_or_a_half_of_it_or_of_that() {
        let of = |needed| one_chunk(64 * MIB, needed) / MIB;
        assert_eq!([0, 1, 2 * MIB, 3 * MIB, 33 * MIB, 64 * MIB, 65 * MIB].map(of), [2, 2, 2, 4, 64, 64, 64]);
        assert_eq!((one_chunk(1000, 1), one_chunk(0, 0)), (1000, 0));
        assert_eq!(one_chunk(7 * MIB, MIB), 2 * MIB);
    }
}
