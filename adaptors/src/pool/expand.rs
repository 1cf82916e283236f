//! Growth in place: the pool takes what is missing beside memory that is free already. Over memory that is mapped into
//! one range of addresses it has that mapped; of unified memory, which takes nothing until it is used, it has chunks
//! whose upper parts nobody has been given yet.

use super::fence::Fences;
use super::miss::{GRANULARITY, Miss};
use super::options::Crossing;
use super::refusal::Refusal;
use super::request::{Need, Taken};
use super::units::{UNIT, align_up};
use cumem::{AllocError, CudaVirtualResource, Stream, Upstream, layout};
use std::ops::{Range, RangeInclusive};

/// The largest piece that is mapped at a time, in bytes. A piece goes back only as a whole, and costs little more to map
/// and unmap than 2 MiB do, where 512 MiB cost ten times as much (`cargo bench --bench mapping`).
pub(super) const PIECE: usize = 32 << 20;
/// Without a step in the options, the pool grows by this part of what it has, if that is more than is missing:
/// waste that cannot be seen, and calls whose number grows with the logarithm of the size.
const SHARE: usize = 128;

/// Where memory is to be mapped, and how much of it the request needs there. Units.
#[derive(Debug, Clone, Copy)]
struct Site {
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
        let Some(mut site) = self.gap(leaf, stream, need, wait) else { return Ok(None) };
        let missing = site.missing as usize * UNIT;
        let reserved = self.central.chunks.reserved() + missing;
        if reserved > self.maximum() || !self.is_within_slack(reserved, need) {
            if let Some(taken) = self.stitch(leaf, stream, index, need, missing, false)? {
                return Ok(Some(taken));
            }
            // What came home for it may lie beside a gap.
            site = self.gap(leaf, stream, need, wait).unwrap_or(site);
        }
        let missing = site.missing as usize * UNIT;
        let share = (self.central.chunks.reserved() / SHARE).min(PIECE);
        let step = self.limits.step.unwrap_or(share).min(site.room as usize * UNIT);
        if let Some(taken) = self.map_in(leaf, stream, index, need, site.addr, missing..=missing.max(step))? {
            return Ok(Some(taken));
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

    /// Maps some of `bytes`, the least or more, from `addr` on, for the arena. Where no event can say from when on
    /// others may use them, they are the stream's at once, and so is the piece out of them.
    pub(super) fn map_in(
        &mut self,
        leaf: &CudaVirtualResource,
        stream: &Stream,
        index: usize,
        need: Need,
        addr: u64,
        bytes: RangeInclusive<usize>,
    ) -> Result<Option<Taken>, Refusal> {
        let (least, bytes) = bytes.into_inner();
        let most = self.maximum().saturating_sub(self.central.chunks.reserved());
        if least > most {
            return Err(Refusal::AtMaximum);
        }
        let bytes = layout::align_down(bytes.min(most), leaf.granularity()).max(least);
        let mapped = self.map(leaf, stream, addr, least, bytes);
        // However far that came, what there is now belongs to the pool.
        match self.state.fence(stream, false) {
            Ok(fences) => self.take_in(mapped.pieces, &fences),
            Err(error) => {
                self.take_in(mapped.pieces, &Fences::default());
                let taken = self.unite(stream, index, need);
                return taken.map(Some).ok_or(Refusal::Upstream(error.into()));
            }
        }
        mapped.refused.map_or(Ok(None), |error| Err(error.into()))
    }

    fn maximum(&self) -> usize {
        self.limits.maximum.unwrap_or(usize::MAX)
    }

    /// Whether `bytes` are no more than what is live and needed, and the slack.
    pub(super) fn is_within_slack(&self, bytes: usize, need: Need) -> bool {
        let live: u64 = self.state.slots.iter().map(|(_, slot)| slot.lock().heap.live_units()).sum();
        let live = (live + u64::from(need.units)) as usize * UNIT;
        bytes <= live + self.limits.slack.bytes_of(live)
    }

    /// The gap of a leaf beside which the least is missing.
    fn gap(&self, leaf: &CudaVirtualResource, stream: &Stream, need: Need, wait: bool) -> Option<Site> {
        let gaps = leaf.gaps().into_iter().map(|gap| gap.start / UNIT as u64..gap.end / UNIT as u64);
        self.site(gaps, leaf.granularity(), stream, need, wait)
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
                return Some(Site { addr, missing, room, pending });
            }
            // With all of the gap, what lies behind it belongs to the same piece.
            let bridged = arena.run_after(end, enough, pass) >= until;
            let pending = pending || arena.run_after(end, enough, ready) < until;
            bridged.then_some(Site { addr, missing: room, room, pending })
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
