//! Stitches: free memory that lies in several places, used as one range without being moved.
//!
//! Over memory that is mapped into reserved addresses, the same memory can be mapped a second time
//! ([`CudaVirtualResource::map_alias`]). So when no piece is large enough, the free end of one chunk, whole free chunks
//! and the free beginning of another are mapped end to end at addresses of their own, and what is free of them there
//! is one piece. Each byte is to be had at one address only: while it is at the stitch it is not in the arena at home.
//! What is free of a stitch is memory like any other until a miss needs it elsewhere: then it goes home, and when all
//! of it has, the addresses are given back.
//!
//! [GMLake](https://doi.org/10.1145/3620665.3640423) has stitched chunks so. Here chunks need not be free as a whole,
//! which is most of what there is to be had: few free pieces end where a granule of 2 MiB does.

mod plan;
pub(super) mod stitches;

use super::fence::Fences;
use super::miss::Miss;
use super::options::Crossing;
use super::refusal::Refusal;
use super::request::{Need, Taken};
use super::shared::Central;
use super::units::{Region, UNIT};
use cumem::{CudaVirtualResource, DriverError, LayerExt, Stream, Upstream};
use plan::{Plan, plan};
use std::ops::Range;
use stitches::Stitch;

/// So many free pieces at most go to a stream with what it asked for: each of them goes from one tree to another.
const FEW: usize = 256;

impl<U: Upstream> Miss<'_, U> {
    /// A piece for `need`, out of what is in the arena, with less than `least` bytes mapped for it. Nothing if there is
    /// none, or if the driver does not map it; what is free of stitches is at home then, and what was mapped stays. With
    /// `force`, the host waits for the work on stitches that nothing is left of.
    pub(super) fn stitch(
        &mut self,
        leaf: &CudaVirtualResource,
        stream: &Stream,
        index: usize,
        need: Need,
        least: usize,
        force: bool,
    ) -> Result<Option<Taken>, Refusal> {
        let need = Need { bite: need.units, ..need };
        let wait = force || self.limits.crossing == Crossing::WaitFirst;
        let any = self.bring_home();
        if let Err(error) = self.unmap_spent(force) {
            tracing::warn!(%error, "addresses that nothing is left of stay mapped");
        }
        if any {
            let Central { arena, .. } = &mut *self.central;
            let taken = arena.take(need, stream.id(), wait);
            if let Some(taken) = taken.or_else(|| if wait { arena.take_run(need) } else { None }) {
                return self.give(stream, index, taken);
            }
        }
        if self.central.stitches.unavailable {
            return Ok(None);
        }
        let Some(mut plan) = self.plan(leaf, stream, need, wait) else { return Ok(None) };
        let fresh = plan.fresh as usize * UNIT;
        if fresh >= least {
            return Ok(None);
        }
        if fresh > 0 {
            let gap = leaf.gaps().into_iter().find(|gap| gap.end - gap.start >= fresh as u64);
            let Some(gap) = gap else { return Ok(None) };
            if let Some(taken) = self.map_in(leaf, stream, index, need, gap.start / UNIT as u64, fresh..=fresh)? {
                return Ok(Some(taken));
            }
            let Some(again) = self.plan(leaf, stream, need, wait) else { return Ok(None) };
            plan = again;
        }
        // With chunks of several sizes it may not come out even.
        let Some(parts) = plan.without_fresh() else { return Ok(None) };
        let Some(taken) = self.tie(leaf, parts) else { return Ok(None) };
        self.give(stream, index, taken)
    }

    /// Gives the stream what was found, and all else that it may use at once, if that is few pieces: its heap finds the
    /// best fit for what comes next, and joins what is freed with what lies beside it.
    fn give(&mut self, stream: &Stream, index: usize, taken: Taken) -> Result<Option<Taken>, Refusal> {
        let taken = self.hold(stream, taken).map_err(Refusal::Upstream)?;
        if self.central.arena.count() <= FEW {
            self.draw(stream, index);
        }
        Ok(Some(taken))
    }

    /// Brings home what is free of stitches and in the arena. Whether there was any.
    pub(super) fn bring_home(&mut self) -> bool {
        let Central { arena, chunks, stitches, .. } = &mut *self.central;
        let mut any = false;
        for (&start, stitch) in &mut stitches.by_addr {
            for (lot, fences) in arena.take_within(start..start + stitch.units) {
                for Range { start, end } in stitch.home(lot.start - start..lot.end - start) {
                    arena.insert(start, end - start, chunks.apart(start), fences.clone());
                }
                stitch.away -= lot.end - lot.start;
                stitch.used.join(&fences);
                any = true;
            }
            stitch.used.prune();
        }
        any
    }

    /// Gives the addresses back of stitches that nothing is left of. With `force`, the host waits for the work that used
    /// them; without, those stay. The first that the driver refused: it is tried again.
    pub(super) fn unmap_spent(&mut self, force: bool) -> Result<(), DriverError> {
        let Some(leaf) = self.upstream.find::<CudaVirtualResource>() else { return Ok(()) };
        let Central { service, stitches, .. } = &mut *self.central;
        let spent = stitches.by_addr.iter().filter(|(_, stitch)| stitch.away == 0).map(|(&at, _)| at);
        let spent: Vec<u64> = spent.collect();
        let ended = spent.into_iter().map(|at| stitches.end(at, leaf, service, force));
        ended.fold(Ok(()), Result::and)
    }

    /// Maps parts of the arena end to end, and takes what is there. Nothing where the driver refuses.
    fn tie(&mut self, leaf: &CudaVirtualResource, parts: Vec<Range<u64>>) -> Option<Taken> {
        let Central { arena, chunks, stitches, .. } = &mut *self.central;
        let blocks: Vec<_> = parts.iter().map(|part| chunks.around(part.start).1).collect();
        // SAFETY: the chunks stay for as long as the alias does: none that is `covered` is given back. No byte is to be
        // had at two addresses, and with it go the fences of its uses at either.
        let alias = match unsafe { leaf.map_alias(&blocks) } {
            Ok(alias) => alias,
            Err(error) => {
                use DriverError::{Foreign, MissingSymbol, NotSupported};
                stitches.unavailable = matches!(error, Foreign { .. } | MissingSymbol { .. } | NotSupported { .. });
                tracing::debug!(%error, "the pool grows where it would have used free memory together");
                return None;
            }
        };
        let mut fences = Fences::default();
        for part in &parts {
            let own = arena.take_exactly(part.start, part.end - part.start);
            fences.join(&own.expect("the plan is of what is in the arena"));
        }
        let first = parts.first().expect("a plan has parts").start;
        let offset = first - chunks.around(first).0;
        let addr = alias.addr() / UNIT as u64 + offset;
        let units: u64 = parts.iter().map(|part| part.end - part.start).sum();
        stitches.by_addr.insert(addr, Stitch { alias, parts, units, away: units, used: Fences::default() });
        let region = Region { addr, units: units as u32, head: true };
        Some(Taken { region, fences })
    }

    fn plan(&self, leaf: &CudaVirtualResource, stream: &Stream, need: Need, wait: bool) -> Option<Plan> {
        let Central { arena, chunks, .. } = &*self.central;
        let runs = arena.runs(|fences| wait || fences.pass(stream.id()));
        plan(&runs, &chunks.joined_places(), (leaf.granularity() / UNIT) as u64, need)
    }
}
