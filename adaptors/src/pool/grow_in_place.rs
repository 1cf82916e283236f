//! Growth in place: the pool takes what is missing beside memory that is free already. Over memory that is mapped into
//! one range of addresses it has that mapped; of unified memory, which takes nothing until it is used, it has chunks
//! whose upper parts nobody has been given yet.

use super::fence::Fences;
use super::miss::{GRANULARITY, Miss};
use super::options::Crossing;
use super::refusal::Refusal;
use super::request::{Piece, Request};
use super::units::{UNIT, align_up};
use cumem::{AllocError, CudaVirtualResource, Stream, Upstream, layout};
use std::ops::{Range, RangeInclusive};

/// The largest piece that is mapped at a time, in bytes. A piece goes back only as a whole, and costs little more to map
/// and unmap than 2 MiB do, where 512 MiB cost ten times as much (`cargo bench --bench mapping`).
pub(super) const MAPPING_MAX: usize = 32 << 20;
/// Without a step in the options, the pool grows by this part of what it has, if that is more than is missing:
/// waste that cannot be seen, and calls whose number grows with the logarithm of the size.
const STEP_DIVISOR: usize = 128;

/// Where memory is to be mapped, and how much of it the request needs there. Units.
#[derive(Debug, Clone, Copy)]
struct Gap {
    addr: u64,
    missing: u64,
    room: u64,
    /// Some of what is free beside it has to be waited for.
    pending: bool,
}

impl<U: Upstream> Miss<'_, U> {
    /// Maps what is missing for `need` where the least is, and takes the piece. Nothing, if the upstream does not
    /// place its blocks as it was asked to, since somebody else draws from it too.
    pub(super) fn grow_in_place(
        &mut self,
        leaf: &CudaVirtualResource,
        stream: &Stream,
        index: usize,
        request: Request,
    ) -> Result<Option<Piece>, Refusal> {
        // What the stream has itself may lie beside the gap. Where it cannot be folded, it stays.
        let _ = self.state.fold(self.shared, index, false);
        self.shared.arena.drop_reached();
        let wait = self.limits.crossing == Crossing::WaitFirst;
        let Some(mut gap) = self.unmapped_gap(leaf, stream, request, wait) else { return Ok(None) };
        let missing = gap.missing as usize * UNIT;
        let reserved = self.shared.chunks.reserved() + missing;
        if reserved > self.maximum() || !self.is_within_slack(reserved, request) {
            if let Some(piece) = self.stitch(leaf, stream, index, request, missing, false)? {
                return Ok(Some(piece));
            }
            // What came home for it may lie beside a gap.
            gap = self.unmapped_gap(leaf, stream, request, wait).unwrap_or(gap);
        }
        let missing = gap.missing as usize * UNIT;
        let share = (self.shared.chunks.reserved() / STEP_DIVISOR).min(MAPPING_MAX);
        let step = self.limits.step.unwrap_or(share).min(gap.room as usize * UNIT);
        if let Some(piece) = self.map_at(leaf, stream, index, request, gap.addr, missing..=missing.max(step))? {
            return Ok(Some(piece));
        }
        if gap.pending {
            let piece = self.shared.arena.take_run(request);
            return piece.map(|piece| self.make_ready(stream, piece)).transpose().map_err(Refusal::Upstream);
        }
        // All that the stream may use goes to its heap, where the best fit is found for what comes next, too.
        Ok(self.pull_and_take(stream, index, request))
    }

    /// Takes what is missing for `need` from memory that no stream has been given yet, where the least is missing, and
    /// the piece. In whole steps of 2 MiB: the driver takes that much of the device for the first page that is used
    /// (its source, `block_populate_gpu_chunk`). Nothing if there is none, or if it has to be waited for and that is
    /// not wanted.
    pub(super) fn touch(
        &mut self,
        stream: &Stream,
        index: usize,
        request: Request,
        wait: bool,
    ) -> Result<Option<Piece>, AllocError> {
        if self.shared.chunks.untouched.units() == 0 {
            return Ok(None);
        }
        let _ = self.state.fold(self.shared, index, false);
        self.shared.arena.drop_reached();
        let untouched = &self.shared.chunks.untouched;
        let gaps = untouched.iter().filter(|(_, fences)| wait || fences.usable_on(stream.id())).map(|(part, _)| part);
        let Some(gap) = self.best_gap(gaps, GRANULARITY, stream, request, wait) else { return Ok(None) };
        let ready = untouched.iter().any(|(part, fences)| part.start == gap.addr && fences.usable_on(stream.id()));
        self.shared.touch(gap.addr, gap.missing);
        if gap.pending || !ready {
            let piece = self.shared.arena.take_run(request);
            return piece.map(|piece| self.make_ready(stream, piece)).transpose();
        }
        Ok(self.pull_and_take(stream, index, request))
    }

    /// Maps some of `bytes`, the least or more, from `addr` on, for the arena. Where no event can say from when on
    /// others may use them, they are the stream's at once, and so is the piece out of them.
    pub(super) fn map_at(
        &mut self,
        leaf: &CudaVirtualResource,
        stream: &Stream,
        index: usize,
        request: Request,
        addr: u64,
        bytes: RangeInclusive<usize>,
    ) -> Result<Option<Piece>, Refusal> {
        let (least, bytes) = bytes.into_inner();
        let most = self.maximum().saturating_sub(self.shared.chunks.reserved());
        if least > most {
            return Err(Refusal::AtMaximum);
        }
        let bytes = layout::align_down(bytes.min(most), leaf.granularity()).max(least);
        let mapped = self.map_pieces(leaf, stream, addr, least, bytes);
        // However far that came, what there is now belongs to the pool.
        match self.state.fence(stream, false) {
            Ok(fences) => self.add_chunks(mapped.pieces, &fences),
            Err(error) => {
                self.add_chunks(mapped.pieces, &Fences::default());
                let piece = self.pull_and_take(stream, index, request);
                return piece.map(Some).ok_or(Refusal::Upstream(error.into()));
            }
        }
        mapped.refused.map_or(Ok(None), |error| Err(error.into()))
    }

    fn maximum(&self) -> usize {
        self.limits.maximum.unwrap_or(usize::MAX)
    }

    /// Whether `bytes` are no more than what is live and needed, and the slack.
    pub(super) fn is_within_slack(&self, bytes: usize, request: Request) -> bool {
        let live: u64 = self.state.slots.iter().map(|(_, slot)| slot.lock().heap.live_units()).sum();
        let live = (live + u64::from(request.units)) as usize * UNIT;
        bytes <= live + self.limits.slack.bytes_of(live)
    }

    /// The gap of a leaf beside which the least is missing.
    fn unmapped_gap(&self, leaf: &CudaVirtualResource, stream: &Stream, request: Request, wait: bool) -> Option<Gap> {
        let gaps = leaf.gaps().into_iter().map(|range| range.start / UNIT as u64..range.end / UNIT as u64);
        self.best_gap(gaps, leaf.granularity(), stream, request, wait)
    }

    /// The gap beside which the least is missing; of equals, the lowest.
    fn best_gap(
        &self,
        gaps: impl Iterator<Item = Range<u64>>,
        granularity: usize,
        stream: &Stream,
        request: Request,
        wait: bool,
    ) -> Option<Gap> {
        let (arena, chunks) = (&self.shared.arena, &self.shared.chunks);
        let granule = (granularity / UNIT) as u64;
        let enough = u64::from(request.units) + request.align;
        let ready = |fences: &Fences| fences.usable_on(stream.id());
        let usable = |fences: &Fences| wait || ready(fences);
        let candidates = gaps.filter_map(|Range { start: addr, end }| {
            let boundary = chunks.is_boundary(addr);
            let start = if boundary { addr } else { arena.run_before(addr, enough, usable) };
            let pending = !boundary && arena.run_before(addr, enough, ready) != start;
            let until = align_up(start, request.align) + u64::from(request.units);
            let (missing, room) = (until.saturating_sub(addr), end - addr);
            if missing <= room {
                let missing = align_up(missing, granule).min(room);
                return Some(Gap { addr, missing, room, pending });
            }
            // With all of the gap, what lies behind it belongs to the same piece.
            let bridged = arena.run_after(end, enough, usable) >= until;
            let pending = pending || arena.run_after(end, enough, ready) < until;
            bridged.then_some(Gap { addr, missing: room, room, pending })
        });
        candidates.min_by_key(|gap| gap.missing)
    }

    /// Maps `bytes` from `addr` on, piece by piece; a refusal counts only if not even `least` could be mapped.
    fn map_pieces(
        &mut self,
        leaf: &CudaVirtualResource,
        stream: &Stream,
        addr: u64,
        least: usize,
        bytes: usize,
    ) -> Mapped {
        let mut mapped = Mapped { pieces: Vec::new(), refused: None };
        // What goes back only as a whole is a small part of all.
        let share = layout::align_down(self.shared.chunks.reserved() / STEP_DIVISOR, leaf.granularity());
        let largest = share.clamp(leaf.granularity(), MAPPING_MAX);
        let mut done = 0;
        while done < bytes {
            // What is needed comes first, so that a refusal of the rest does not matter.
            let piece = if done < least { least - done } else { bytes - done }.min(largest);
            leaf.place_next_at(addr * UNIT as u64 + done as u64);
            match self.shared.chunks.grow(self.upstream, stream, piece, piece, self.limits.prefetch) {
                Ok(grown) => mapped.pieces.push((grown.addr, grown.units)),
                Err(error) => {
                    mapped.refused = (done < least).then_some(error);
                    break;
                }
            }
            done += piece;
        }
        mapped
    }

    fn add_chunks(&mut self, pieces: Vec<(u64, u64)>, fences: &Fences) {
        for (addr, units) in pieces {
            let boundary = self.shared.chunks.is_boundary(addr);
            self.shared.arena.insert(addr, units, boundary, fences.clone());
        }
    }
}

/// What came of mapping.
struct Mapped {
    pieces: Vec<(u64, u64)>,
    refused: Option<AllocError>,
}
