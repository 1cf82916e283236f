//! Growth in place: the pool adds only what is missing beside memory that is already free. Over memory that is mapped
//! into one range of addresses, the pool maps the missing part. Unified (managed) memory occupies no pages until it is
//! used, and its chunks have upper parts that no stream has been given yet: there the pool uses more of those.

use super::fence::Fences;
use super::miss::Miss;
use super::options::Crossing;
use super::refusal::Refusal;
use super::request::{Piece, Request};
use super::step::GRANULARITY;
use super::units::{UNIT, align_up};
use cumem::{AllocError, CudaVirtualResource, Stream, Upstream, layout};
use std::mem;
use std::ops::{Range, RangeInclusive};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// The largest piece that is mapped at a time, in bytes. A piece can be unmapped only as a whole. Mapping and unmapping
/// 32 MiB costs little more than 2 MiB, while 512 MiB cost ten times as much (`cargo bench --bench mapping`).
pub(super) const MAPPING_MAX: usize = 32 << 20;
/// Without a step in the options, the pool grows by its reserved bytes divided by this number, if that is more than is
/// missing. The waste is negligible, and the number of calls grows with the logarithm of the size.
const STEP_DIVISOR: usize = 128;

/// A place where memory can be mapped, and how much of it the request needs there. In units.
#[derive(Debug, Clone, Copy)]
struct Gap {
    addr: u64,
    missing: u64,
    room: u64,
    /// The stream has to wait for some of the free memory beside the gap.
    pending: bool,
}

impl<U: Upstream> Miss<'_, U> {
    /// Maps the missing memory for `request` at the gap where the least is missing, and takes the piece. Returns `None`
    /// if the upstream does not place its blocks as requested, because another user allocates from it too.
    pub(super) fn grow_in_place(
        &mut self,
        leaf: &CudaVirtualResource,
        stream: &Stream,
        index: usize,
        request: Request,
    ) -> Result<Option<Piece>, Refusal> {
        // The stream's own free memory may lie beside the gap. If its heap cannot be folded, the heap keeps that
        // memory.
        let _ = self.state.fold(self.shared, index, false);
        self.shared.arena.drop_reached();
        let wait = self.crossing == Crossing::WaitFirst;
        let Some(mut gap) = self.unmapped_gap(leaf, stream, request, wait) else { return Ok(None) };
        let missing = gap.missing as usize * UNIT;
        let reserved = self.shared.chunks.reserved() + missing;
        if reserved > self.maximum() || !self.is_within_slack(reserved, request) {
            if let Some(piece) = self.stitch(leaf, stream, index, request, missing, false)? {
                return Ok(Some(piece));
            }
            // `stitch` may have unstitched memory that lies beside a gap.
            gap = self.unmapped_gap(leaf, stream, request, wait).unwrap_or(gap);
        }
        let missing = gap.missing as usize * UNIT;
        let share = (self.shared.chunks.reserved() / STEP_DIVISOR).min(MAPPING_MAX);
        let step = self.limits.step.unwrap_or(share).min(gap.room as usize * UNIT);
        if let Some(piece) = self.map_at(leaf, stream, index, request, gap.addr, missing..=missing.max(step))? {
            return Ok(Some(piece));
        }
        if gap.pending {
            let piece = self.shared.take_run(request);
            return piece.map(|piece| self.make_ready(stream, piece)).transpose().map_err(Refusal::Upstream);
        }
        // All memory that the stream may use enters its heap, where the best fit for later requests is found, too.
        Ok(self.pull_and_take(stream, index, request))
    }

    /// Takes the missing memory for `request` from the untouched parts of chunks, at the part where the least is
    /// missing, and takes the piece. The amount is rounded up to whole steps of 2 MiB, because the driver takes that
    /// much of the device for the first page that is used (its source, `block_populate_gpu_chunk`). Returns `None` if
    /// there is no such part. Without `wait`, parts that the stream would have to wait for do not count.
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
        // A stream that would rather grow waits at most for the chunk, not for the memory beside the part.
        let beside = wait && self.crossing == Crossing::WaitFirst;
        let Some(gap) = self.best_gap(gaps, GRANULARITY, stream, request, beside) else { return Ok(None) };
        if gap.pending {
            self.shared.touch(gap.addr, gap.missing);
            let piece = self.shared.take_run(request);
            return piece.map(|piece| self.make_ready(stream, piece)).transpose();
        }
        self.touch_ready(stream, gap)?;
        Ok(self.pull_and_take(stream, index, request))
    }

    /// Takes memory from the untouched part at `gap`, such that `stream` may use the memory. If the chunk is not ready
    /// for the stream, the stream waits for the chunk, and a fence of the stream replaces those of the chunk.
    fn touch_ready(&mut self, stream: &Stream, gap: Gap) -> Result<(), AllocError> {
        let unready = |(part, fences): (Range<u64>, &Fences)| {
            (part.start == gap.addr && !fences.usable_on(stream.id())).then(|| fences.clone())
        };
        let Some(fences) = self.shared.chunks.untouched.iter().find_map(unready) else {
            self.shared.touch(gap.addr, gap.missing);
            return Ok(());
        };
        self.waited |= fences.wait_on(stream)?;
        let own = self.state.fence(stream, false)?;
        let boundary = self.shared.chunks.is_boundary(gap.addr);
        self.shared.chunks.touch(gap.addr, gap.missing);
        self.shared.arena.insert(gap.addr, gap.missing, boundary, own);
        Ok(())
    }

    /// Maps memory from `addr` on for the arena: at least the lower end of `bytes`, at most the upper end. If no event
    /// can be recorded for the new memory, other streams cannot know when they may use it. The memory then enters the
    /// stream's heap at once, and the function returns the piece.
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
        // All memory that was mapped so far belongs to the pool, even after a refusal.
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

    /// Reports whether `bytes` are at most the live bytes, the request and the slack together.
    pub(super) fn is_within_slack(&self, bytes: usize, request: Request) -> bool {
        let live: u64 = self.state.slots.iter().map(|(_, slot)| slot.lock().heap.live_units()).sum();
        let live = (live + u64::from(request.units)) as usize * UNIT;
        bytes <= live.saturating_add(self.limits.slack.bytes_of(live))
    }

    /// Returns the leaf's unmapped gap beside which the least is missing.
    fn unmapped_gap(&self, leaf: &CudaVirtualResource, stream: &Stream, request: Request, wait: bool) -> Option<Gap> {
        let gaps = leaf.gaps().into_iter().map(|range| range.start / UNIT as u64..range.end / UNIT as u64);
        self.best_gap(gaps, leaf.granularity(), stream, request, wait)
    }

    /// Returns the gap beside which the least is missing; of several, the lowest.
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
        let usable = |fences: &Fences| ready(fences) || wait && request.may_wait_for(fences);
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
            // If the whole gap is mapped, the free memory after it belongs to the same piece.
            let bridged = arena.run_after(end, enough, usable) >= until;
            let pending = pending || arena.run_after(end, enough, ready) < until;
            bridged.then_some(Gap { addr, missing: room, room, pending })
        });
        candidates.min_by_key(|gap| gap.missing)
    }

    /// Maps `bytes` from `addr` on, piece by piece. A refusal is reported only if less than `least` could be mapped.
    fn map_pieces(
        &mut self,
        leaf: &CudaVirtualResource,
        stream: &Stream,
        addr: u64,
        least: usize,
        bytes: usize,
    ) -> Mapped {
        let mut mapped = Mapped { pieces: Vec::new(), refused: None };
        // A piece is a small part of all memory, because it can be unmapped only as a whole.
        let share = layout::align_down(self.shared.chunks.reserved() / STEP_DIVISOR, leaf.granularity());
        let largest = share.clamp(leaf.granularity(), MAPPING_MAX);
        let mut done = 0;
        while done < bytes {
            // The bytes that the request needs are mapped first, so that a refusal of the rest does no harm.
            let piece = if done < least { least - done } else { bytes - done }.min(largest);
            leaf.place_next_at(addr * UNIT as u64 + done as u64);
            let (chunks, prefetch) = (&mut self.shared.chunks, self.limits.prefetch);
            let grow = || chunks.grow(self.upstream, stream, &[piece], 0, prefetch);
            let grown = catch_unwind(AssertUnwindSafe(grow)).unwrap_or_else(|panic| {
                // The pieces are the pool's, although the upstream panicked.
                self.add_chunks(mem::take(&mut mapped.pieces), &self.state.fence(stream, true).unwrap_or_default());
                resume_unwind(panic)
            });
            match grown {
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

/// The pieces that were mapped, and why the rest was refused.
struct Mapped {
    pieces: Vec<(u64, u64)>,
    refused: Option<AllocError>,
}
