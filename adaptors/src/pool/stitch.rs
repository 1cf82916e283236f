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
use super::request::{Piece, Request};
use super::shared::Shared;
use super::units::{Region, UNIT};
use cumem::{CudaVirtualResource, DriverError, LayerExt, Stream, Upstream};
use plan::{Plan, plan};
use std::ops::Range;
use stitches::Stitch;

/// So many free pieces at most go to a stream with what it asked for: each of them goes from one tree to another.
const PULLED_MAX: usize = 256;

impl<U: Upstream> Miss<'_, U> {
    /// A piece for `need`, out of what is in the arena, with less than `least` bytes mapped for it. Nothing if there is
    /// none, or if the driver does not map it; what is free of stitches is at home then, and what was mapped stays. With
    /// `force`, the host waits for the work on stitches that nothing is left of.
    pub(super) fn stitch(
        &mut self,
        leaf: &CudaVirtualResource,
        stream: &Stream,
        index: usize,
        request: Request,
        least: usize,
        force: bool,
    ) -> Result<Option<Piece>, Refusal> {
        let request = Request { preferred: request.units, ..request };
        let wait = force || self.limits.crossing == Crossing::WaitFirst;
        let any = self.unstitch();
        if let Err(error) = self.unmap_empty(force) {
            tracing::warn!(%error, "addresses that nothing is left of stay mapped");
        }
        if any {
            let Shared { arena, .. } = &mut *self.shared;
            let piece = arena.take(request, stream.id(), wait);
            if let Some(piece) = piece.or_else(|| if wait { arena.take_run(request) } else { None }) {
                return self.give_to_stream(stream, index, piece);
            }
        }
        if self.shared.stitches.unavailable {
            return Ok(None);
        }
        let Some(mut plan) = self.plan(leaf, stream, request, wait) else { return Ok(None) };
        let missing = plan.missing as usize * UNIT;
        if missing >= least {
            return Ok(None);
        }
        if missing > 0 {
            let gap = leaf.gaps().into_iter().find(|gap| gap.end - gap.start >= missing as u64);
            let Some(gap) = gap else { return Ok(None) };
            if let Some(piece) =
                self.map_at(leaf, stream, index, request, gap.start / UNIT as u64, missing..=missing)?
            {
                return Ok(Some(piece));
            }
            let Some(again) = self.plan(leaf, stream, request, wait) else { return Ok(None) };
            plan = again;
        }
        // With chunks of several sizes it may not come out even.
        let Some(parts) = plan.complete_parts() else { return Ok(None) };
        let Some(piece) = self.map_stitch(leaf, parts) else { return Ok(None) };
        self.give_to_stream(stream, index, piece)
    }

    /// Gives the stream what was found, and all else that it may use at once, if that is few pieces: its heap finds the
    /// best fit for what comes next, and joins what is freed with what lies beside it.
    fn give_to_stream(&mut self, stream: &Stream, index: usize, piece: Piece) -> Result<Option<Piece>, Refusal> {
        let piece = self.make_ready(stream, piece).map_err(Refusal::Upstream)?;
        if self.shared.arena.count() <= PULLED_MAX {
            self.pull_usable(stream, index);
        }
        Ok(Some(piece))
    }

    /// Brings home what is free of stitches and in the arena. Whether there was any.
    pub(super) fn unstitch(&mut self) -> bool {
        let Shared { arena, chunks, stitches, .. } = &mut *self.shared;
        let mut any = false;
        for (&start, stitch) in &mut stitches.by_addr {
            for (range, fences) in arena.take_within(start..start + stitch.units) {
                for Range { start, end } in stitch.original_ranges(range.start - start..range.end - start) {
                    arena.insert(start, end - start, chunks.is_boundary(start), fences.clone());
                }
                stitch.remaining -= range.end - range.start;
                stitch.alias_uses.join(&fences);
                any = true;
            }
            stitch.alias_uses.prune();
        }
        any
    }

    /// Gives the addresses back of stitches that nothing is left of. With `force`, the host waits for the work that used
    /// them; without, those stay. The first that the driver refused: it is tried again.
    pub(super) fn unmap_empty(&mut self, force: bool) -> Result<(), DriverError> {
        let Some(leaf) = self.upstream.find::<CudaVirtualResource>() else { return Ok(()) };
        let Shared { service, stitches, .. } = &mut *self.shared;
        let empty = stitches.by_addr.iter().filter(|(_, stitch)| stitch.remaining == 0).map(|(&at, _)| at);
        let empty: Vec<u64> = empty.collect();
        let unmapped = empty.into_iter().map(|at| stitches.unmap(at, leaf, service, force));
        unmapped.fold(Ok(()), Result::and)
    }

    /// Maps parts of the arena end to end, and takes what is there. Nothing where the driver refuses.
    fn map_stitch(&mut self, leaf: &CudaVirtualResource, parts: Vec<Range<u64>>) -> Option<Piece> {
        let Shared { arena, chunks, stitches, .. } = &mut *self.shared;
        let blocks: Vec<_> = parts.iter().map(|part| chunks.chunk_at(part.start).1).collect();
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
        let offset = first - chunks.chunk_at(first).0;
        let addr = alias.addr() / UNIT as u64 + offset;
        let units: u64 = parts.iter().map(|part| part.end - part.start).sum();
        stitches.by_addr.insert(addr, Stitch { alias, parts, units, remaining: units, alias_uses: Fences::default() });
        let region = Region { addr, units: units as u32, boundary: true };
        Some(Piece { region, fences })
    }

    fn plan(&self, leaf: &CudaVirtualResource, stream: &Stream, request: Request, wait: bool) -> Option<Plan> {
        let Shared { arena, chunks, .. } = &*self.shared;
        let runs = arena.runs(|fences| wait || fences.usable_on(stream.id()));
        plan(&runs, &chunks.joinable_extents(), (leaf.granularity() / UNIT) as u64, request)
    }
}
