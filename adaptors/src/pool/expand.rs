//! Growth in place: the pool takes what is missing beside memory that is free already. Over memory that is mapped into
//! one range of addresses it has that mapped; of unified memory, which takes nothing until it is used, it has chunks
//! whose upper parts nobody has been given yet.

use super::arena::{Need, Taken};
use super::chunks::{Grown, UNIT};
use super::fence::Fences;
use super::heap::align_up;
use super::miss::{GRANULARITY, Miss, Refusal};
use super::options::Crossing;
use super::state::Central;
use cumem::{AllocError, CudaVirtualResource, Stream, Upstream, layout};
use std::ops::Range;

/// The largest piece that is mapped at a time, in bytes. A piece goes back only as a whole, and costs about 110 µs
/// to map and unmap on an H100, whatever its size.
pub(super) const PIECE: usize = 32 << 20;
/// Without a step in the options, the pool grows by this part of what it has, if that is more than is missing:
/// waste that cannot be seen, and calls whose number grows with the logarithm of the size.
const SHARE: usize = 128;

/// Where memory is to be mapped, and how much of it the request needs there. Units.
#[derive(Debug, Clone, Copy)]
struct Site {
    /// Where the free memory begins that the request is to be in.
    start: u64,
    addr: u64,
    missing: u64,
    room: u64,
    /// Some of what is free beside it has to be waited for.
    pending: bool,
}

impl<U: Upstream> Miss<'_, U> {
    /// Maps what is missing for `need` where the least is, and takes the piece. Nothing, if the upstream does not
    /// place its blocks as it was asked to, since somebody else draws from it too.
    pub(super) fn expand(
        &mut self,
        leaf: &CudaVirtualResource,
        stream: &Stream,
        index: usize,
        need: Need,
    ) -> Result<Option<Taken>, Refusal> {
        // What the stream has itself may lie beside the gap. Where it cannot be folded, it stays.
        let _ = self.state.fold(self.central, index, false);
        self.central.arena.settle();
        let wait = self.limits.crossing == Crossing::WaitFirst;
        let gaps = leaf.gaps().into_iter().map(|gap| gap.start / UNIT as u64..gap.end / UNIT as u64);
        let Some(site) = self.site(gaps, leaf.granularity(), stream, need, wait) else { return Ok(None) };
        self.move_pieces(&site, need);
        let reserved = self.central.chunks.reserved();
        let granularity = leaf.granularity();
        let most = self.limits.maximum.map_or(usize::MAX, |maximum| maximum.saturating_sub(reserved));
        let missing = site.missing as usize * UNIT;
        if missing > most {
            return Err(Refusal::AtMaximum);
        }
        let most = most.min(site.room as usize * UNIT);
        let step =
            self.limits.step.unwrap_or_else(|| (reserved / SHARE).min(PIECE)).min(most) / granularity * granularity;
        let mapped = self.map(leaf, stream, site.addr, missing, missing.max(step));
        // However far that came, what there is now belongs to the pool.
        match self.state.fence(stream, false) {
            Ok(fences) => self.take_in(mapped.pieces, &fences),
            Err(error) => {
                // No event says from when on others may use it: it goes to this stream's heap at once.
                self.take_in(mapped.pieces, &Fences::default());
                let taken = self.unite(stream, index, need);
                return taken.map(Some).ok_or(Refusal::Upstream(error.into()));
            }
        }
        if let Some(error) = mapped.refused {
            return Err(error.into());
        }
        if site.pending {
            let taken = self.central.arena.take_run(need);
            return taken.map(|taken| self.hold(stream, taken)).transpose().map_err(Refusal::Upstream);
        }
        // All that the stream may use goes to its heap, where the best fit is found for what comes next, too.
        Ok(self.unite(stream, index, need))
    }

    /// Takes what is missing for `need` from memory that no stream has been given yet, where the least is missing, and
    /// the piece. In whole steps of 2 MiB: the driver takes that much of the device for the first page that is used
    /// (its source, `block_populate_gpu_chunk`). Nothing if there is none, or if it has to be waited for and that is
    /// not wanted.
    pub(super) fn touch(
        &mut self,
        stream: &Stream,
        index: usize,
        need: Need,
        wait: bool,
    ) -> Result<Option<Taken>, AllocError> {
        if self.central.chunks.untouched.units() == 0 {
            return Ok(None);
        }
        let _ = self.state.fold(self.central, index, false);
        self.central.arena.settle();
        let untouched = &self.central.chunks.untouched;
        let gaps = untouched.iter().filter(|(_, fences)| wait || fences.pass(stream.id())).map(|(part, _)| part);
        let Some(site) = self.site(gaps, GRANULARITY, stream, need, wait) else { return Ok(None) };
        let ready = untouched.iter().any(|(part, fences)| part.start == site.addr && fences.pass(stream.id()));
        self.central.touch(site.addr, site.missing);
        if site.pending || !ready {
            let taken = self.central.arena.take_run(need);
            return taken.map(|taken| self.hold(stream, taken)).transpose();
        }
        Ok(self.unite(stream, index, need))
    }

    /// Gives back pieces that are free elsewhere, for as much as is missing at `site`: the memory behind them is had
    /// there again, and nothing is copied. Not while the pool is tight enough.
    fn move_pieces(&mut self, site: &Site, need: Need) {
        let missing = site.missing as usize * UNIT;
        if self.is_within_slack(self.central.chunks.reserved() + missing, need) {
            return;
        }
        let run = site.start..site.start + u64::from(need.units) + need.align;
        let mut moved = 0;
        let Central { arena, chunks, service, .. } = &mut *self.central;
        for Grown { addr, units } in chunks.places().into_iter().rev() {
            let beside = addr < run.end && run.start < addr + units;
            if moved >= missing || beside {
                continue;
            }
            let Some(fences) = arena.take_exactly(addr, units) else { continue };
            // Whoever unmaps waits for the device, so only what is done with is moved.
            let done = fences.are_reached();
            match done.then(|| chunks.release(self.upstream, addr, &fences, service)) {
                Some(Ok(bytes)) => moved += bytes,
                Some(Err(_)) | None => arena.insert(addr, units, chunks.apart(addr), fences),
            }
        }
    }

    /// Whether `bytes` are no more than what is live and needed, and the slack.
    pub(super) fn is_within_slack(&self, bytes: usize, need: Need) -> bool {
        let live: u64 = self.state.slots.iter().map(|(_, slot)| slot.lock().heap.live_units()).sum();
        let live = (live + u64::from(need.units)) as usize * UNIT;
        bytes <= live + self.limits.slack.bytes_of(live)
    }

    /// The gap beside which the least is missing; of equals, the lowest.
    fn site(
        &self,
        gaps: impl Iterator<Item = Range<u64>>,
        granularity: usize,
        stream: &Stream,
        need: Need,
        wait: bool,
    ) -> Option<Site> {
        let (arena, chunks) = (&self.central.arena, &self.central.chunks);
        let granule = (granularity / UNIT) as u64;
        let enough = u64::from(need.units) + need.align;
        let ready = |fences: &Fences| fences.pass(stream.id());
        let pass = |fences: &Fences| wait || ready(fences);
        let sites = gaps.filter_map(|Range { start: addr, end }| {
            let apart = chunks.apart(addr);
            let start = if apart { addr } else { arena.run_before(addr, enough, pass) };
            let pending = !apart && arena.run_before(addr, enough, ready) != start;
            let until = align_up(start, need.align) + u64::from(need.units);
            let (missing, room) = (until.saturating_sub(addr), end - addr);
            if missing <= room {
                let missing = align_up(missing, granule).min(room);
                return Some(Site { start, addr, missing, room, pending });
            }
            // With all of the gap, what lies behind it belongs to the same piece.
            let bridged = arena.run_after(end, enough, pass) >= until;
            let pending = pending || arena.run_after(end, enough, ready) < until;
            bridged.then_some(Site { start, addr, missing: room, room, pending })
        });
        sites.min_by_key(|site| site.missing)
    }

    /// Maps `bytes` from `addr` on, piece by piece; a refusal counts only if not even `least` could be mapped.
    fn map(&mut self, leaf: &CudaVirtualResource, stream: &Stream, addr: u64, least: usize, bytes: usize) -> Mapped {
        let mut mapped = Mapped { pieces: Vec::new(), refused: None };
        // What goes back only as a whole is a small part of all.
        let share = layout::align_down(self.central.chunks.reserved() / SHARE, leaf.granularity());
        let largest = share.clamp(leaf.granularity(), PIECE);
        let mut done = 0;
        while done < bytes {
            // What is needed comes first, so that a refusal of the rest does not matter.
            let piece = if done < least { least - done } else { bytes - done }.min(largest);
            leaf.place_next_at(addr * UNIT as u64 + done as u64);
            match self.central.chunks.grow(self.upstream, stream, piece, piece, self.limits.prefetch) {
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

    fn take_in(&mut self, pieces: Vec<(u64, u64)>, fences: &Fences) {
        for (addr, units) in pieces {
            let apart = self.central.chunks.apart(addr);
            self.central.arena.insert(addr, units, apart, fences.clone());
        }
    }
}

/// What came of mapping.
struct Mapped {
    pieces: Vec<(u64, u64)>,
    refused: Option<AllocError>,
}
