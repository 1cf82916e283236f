//! Stitches: free memory from several places, used as one range without being moved.
//!
//! Memory that is mapped into reserved addresses can be mapped a second time ([`CudaVirtualResource::map_alias`]). If
//! no free piece is large enough, the pool maps the free end of one chunk, whole free chunks, and the free beginning of
//! another chunk end to end at new addresses. The free memory there is one piece. Each byte is available at one address
//! only: while it is in a stitch, it is not in the arena at its original address. Free memory of a stitch is used like
//! any other until a miss needs it elsewhere. It then returns to its original address (*unstitching*). When all of a
//! stitch has returned, its addresses are unmapped.
//!
//! [GMLake](https://doi.org/10.1145/3620665.3640423) stitches chunks in this way. Here, chunks need not be wholly free.
//! This matters, because most free memory is in such chunks: few free pieces end where a granule of 2 MiB does.

mod plan;
pub(super) mod stitches;

use super::fence::Fences;
use super::miss::Miss;
use super::options::Crossing;
use super::refusal::Refusal;
use super::request::{Piece, Request};
use super::shared::Shared;
use super::units::{Region, UNIT};
use cumem::device::deferral::after_locks;
use cumem::resources::AliasError;
use cumem::{CudaVirtualResource, DeviceError, DriverError, LayerExt, Stream, Upstream};
use plan::{Plan, plan};
use std::ops::Range;
use stitches::Stitch;

/// The stream also gets the arena's other free pieces if there are no more than this many, because each of them costs a
/// removal from one tree and an insertion into another.
const PULLED_MAX: usize = 256;

impl<U: Upstream> Miss<'_, U> {
    /// Returns a piece for `request` made of memory in the arena, with less than `least` bytes newly mapped for it.
    /// Returns `None` if there is no such piece, or if the driver does not map it. All free stitched memory is then
    /// back at its original addresses, and memory that was mapped stays. With `force`, the host waits for the work on
    /// stitches that hold no memory any more.
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
        let wait = force || self.crossing == Crossing::WaitFirst;
        let any = self.unstitch();
        if let Err(error) = self.unmap_empty(force) {
            let event = "addresses without live blocks stay mapped, because the driver refused to unmap them";
            after_locks(move || tracing::warn!(%error, "{event}"));
        }
        if any {
            let shared = &mut *self.shared;
            let piece = shared.take(request, stream.id(), wait);
            if let Some(piece) = piece.or_else(|| if wait { shared.take_run(request) } else { None }) {
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
        // With chunks of several sizes, the parts may not add up.
        let Some(parts) = plan.complete_parts() else { return Ok(None) };
        let Some(piece) = self.map_stitch(leaf, parts) else { return Ok(None) };
        self.give_to_stream(stream, index, piece)
    }

    /// Gives the piece to the stream. If the arena has few other pieces, those that the stream may use at once enter
    /// its heap: there the best fit for later requests is found, and freed memory joins adjacent memory.
    fn give_to_stream(&mut self, stream: &Stream, index: usize, piece: Piece) -> Result<Option<Piece>, Refusal> {
        let piece = self.make_ready(stream, piece).map_err(Refusal::Upstream)?;
        if self.shared.arena.count() <= PULLED_MAX {
            self.pull_usable(stream, index);
        }
        Ok(Some(piece))
    }

    /// Returns the stitched memory that is in the arena to its original addresses. Returns whether there was any.
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

    /// Unmaps the stitches that hold no memory any more. With `force`, the host waits for the work that used them;
    /// otherwise stitches with such work stay mapped. Returns the first refusal of the driver; a refused stitch is
    /// tried again later.
    pub(super) fn unmap_empty(&mut self, force: bool) -> Result<(), DeviceError> {
        let Some(leaf) = self.upstream.find::<CudaVirtualResource>() else { return Ok(()) };
        let Shared { service, stitches, .. } = &mut *self.shared;
        let empty = stitches.by_addr.iter().filter(|(_, stitch)| stitch.remaining == 0).map(|(&at, _)| at);
        let empty: Vec<u64> = empty.collect();
        let unmapped = empty.into_iter().map(|at| stitches.unmap(at, leaf, service, force));
        unmapped.fold(Ok(()), Result::and)
    }

    /// Maps parts of the arena end to end, and takes the memory there. Returns `None` if the driver refuses.
    fn map_stitch(&mut self, leaf: &CudaVirtualResource, parts: Vec<Range<u64>>) -> Option<Piece> {
        let Shared { arena, chunks, stitches, .. } = &mut *self.shared;
        let blocks: Vec<_> = parts.iter().map(|part| chunks.chunk_at(part.start).1).collect();
        // SAFETY: the chunks outlive the alias, because no chunk in `aliased_chunks` is freed. No byte is available at
        // two addresses, and the fences of its uses at either address move with it.
        let alias = match unsafe { leaf.map_alias(&blocks) } {
            Ok(alias) => alias,
            Err(error) => {
                use DriverError::{MissingSymbol, NotSupported};
                stitches.unavailable = matches!(
                    error,
                    AliasError::Foreign { .. } | AliasError::Driver(MissingSymbol { .. } | NotSupported { .. })
                );
                let event = "the pool grows where it would have used free memory together";
                after_locks(move || tracing::debug!(%error, "{event}"));
                return None;
            }
        };
        let mut fences = Fences::default();
        for part in &parts {
            let own = arena.take_exactly(part.start, part.end - part.start);
            fences.join(&own.expect("the arena has each part of the plan"));
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
        let runs = arena.runs(|fences| fences.usable_on(stream.id()) || wait && request.may_wait_for(fences));
        plan(&runs, &chunks.joinable_extents(), (leaf.granularity() / UNIT) as u64, request)
    }
}
