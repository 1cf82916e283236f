//! Where a pool looks when a stream's own heap has nothing that fits, in this order: what may be used at
//! once, what has to be waited for, the upstream.

use super::fence::Fences;
use super::limits::Limits;
use super::options::Crossing;
use super::refusal::{Refusal, Released, exhausted};
use super::request::{Piece, Request};
use super::shared::Shared;
use super::state::PoolState;
use super::units::{Extent, UNIT};
use cumem::{AllocError, CudaVirtualResource, DeallocReason, LayerExt, Stream, Upstream, layout};

/// The multiple that growth is rounded to where no leaf says: what the driver takes of the device at a time.
pub(super) const GRANULARITY: usize = 2 << 20;
/// Small requests take this much to their stream at a time, so that the next ones find it there.
pub(super) const PREFERRED_BYTES: usize = 2 << 20;
const STEP_MAX: usize = 256 << 20;
/// After so many times that threads had to wait for each other, the pool grows, if less than a bite is wanted: a growth
/// takes about as long as so many pieces of other streams.
pub(super) const CONTENDED_MISSES_MAX: u32 = 64;

/// A miss being served. Holds the central lock.
pub(super) struct Miss<'a, U> {
    pub(super) state: &'a PoolState,
    pub(super) shared: &'a mut Shared,
    pub(super) upstream: &'a U,
    pub(super) limits: &'a Limits,
}

impl<U: Upstream> Miss<'_, U> {
    /// A piece for `stream`, whose slot is `index`. The stream has been made to wait for it.
    pub(super) fn serve(
        &mut self,
        stream: &Stream,
        index: usize,
        units: u32,
        align: u64,
        requested: usize,
    ) -> Result<Piece, AllocError> {
        let preferred = units.max((PREFERRED_BYTES / UNIT) as u32);
        let request = Request { units, align, preferred };
        if let Some(piece) = self.shared.arena.take(request, stream.id(), false) {
            return Ok(piece);
        }
        if self.shared.contended_misses >= CONTENDED_MISSES_MAX && request.preferred > units {
            match self.grow(stream, index, request) {
                Ok(piece) => return Ok(piece),
                Err(refusal) => refusal.unless_fatal().map(drop)?,
            }
        }
        if let Some(piece) = self.state.steal(self.shared, index, request, false) {
            return Ok(piece);
        }
        self.state.fold_abandoned(self.shared);
        self.shared.arena.drop_reached();
        let ready = self.shared.arena.take(request, stream.id(), false);
        if let Some(piece) = ready.or_else(|| self.pull_and_take(stream, index, request)) {
            return Ok(piece);
        }
        if self.limits.lazy
            && self.is_within_slack(self.shared.chunks.touched().0 + request.units as usize * UNIT, request)
            && let Some(piece) = self.touch(stream, index, request, false)?
        {
            return Ok(piece);
        }
        let mut refused = None;
        if self.limits.crossing == Crossing::GrowFirst {
            match self.grow(stream, index, request) {
                Ok(piece) => return Ok(piece),
                Err(refusal) => refused = Some(refusal.unless_fatal()?),
            }
        }
        if let Some(piece) = self.shared.arena.take(request, stream.id(), true) {
            return self.make_ready(stream, piece);
        }
        if let Some(piece) = self.state.steal(self.shared, index, request, true) {
            return self.make_ready(stream, piece);
        }
        if let Some(piece) = self.gather(stream, index, request, false) {
            return self.make_ready(stream, piece);
        }
        let refused = match refused {
            Some(refusal) => refusal,
            None => match self.grow(stream, index, request) {
                Ok(piece) => return Ok(piece),
                Err(refusal) => refusal.unless_fatal()?,
            },
        };
        self.last_resort(stream, index, request, requested, refused)
    }

    /// Memory has run out: everything free is put together, even where the host has to wait for it, and
    /// whole chunks are given back, so that the upstream may cut anew.
    fn last_resort(
        &mut self,
        stream: &Stream,
        index: usize,
        request: Request,
        requested: usize,
        mut refused: Refusal,
    ) -> Result<Piece, AllocError> {
        if let Some(piece) = self.gather(stream, index, request, true) {
            return self.make_ready(stream, piece);
        }
        // What the stream has itself may fill whole chunks too. Where it cannot be folded, it stays.
        let _ = self.state.fold_all(self.shared, None, true);
        if let Some(piece) = self.touch(stream, index, request, true)? {
            return Ok(piece);
        }
        if let Some(leaf) = self.upstream.find::<CudaVirtualResource>() {
            // Nothing can be mapped for it any more.
            match self.stitch(leaf, stream, index, request, 1, true) {
                Ok(Some(piece)) => return Ok(piece),
                Ok(None) => {}
                Err(refusal) => refused = refusal.unless_fatal()?,
            }
        }
        if self.release(0, true).bytes > 0 {
            match self.grow(stream, index, request) {
                Ok(piece) => return Ok(piece),
                Err(refusal) => refused = refusal.unless_fatal()?,
            }
        }
        Err(exhausted(self.state, self.shared, requested, refused))
    }

    /// Brings what the stream may use of the arena to the stream's heap, where it joins what lies beside
    /// it, and takes a piece from there.
    pub(super) fn pull_and_take(&mut self, stream: &Stream, index: usize, request: Request) -> Option<Piece> {
        if self.pull_usable(stream, index) { self.take_from_own_heap(index, request) } else { None }
    }

    /// Brings what the stream may use of the arena to the stream's heap. Whether there was any.
    pub(super) fn pull_usable(&mut self, stream: &Stream, index: usize) -> bool {
        let regions = self.shared.arena.take_usable(stream.id());
        let any = !regions.is_empty();
        self.state.slots.make(index).lock().attach_all(regions);
        any
    }

    /// Takes a piece of the stream's own heap.
    fn take_from_own_heap(&mut self, index: usize, request: Request) -> Option<Piece> {
        let mut stream_heap = self.state.slots.get(index)?.lock();
        let piece = stream_heap.heap.allocate_thorough(request.units, request.align)?;
        Some(Piece { region: stream_heap.heap.detach(piece.node), fences: Fences::default() })
    }

    /// Brings everything free together, other streams' first and then all of it, and takes a piece.
    fn gather(&mut self, stream: &Stream, index: usize, request: Request, force: bool) -> Option<Piece> {
        let request = Request { preferred: request.units, ..request };
        self.state.collect_idle(self.shared, index);
        // A stream that refuses keeps its memory; there may be enough without.
        let _ = self.state.fold_all(self.shared, Some(index), force);
        self.shared.arena.drop_reached();
        let united = self.pull_and_take(stream, index, request);
        if let Some(piece) = united.or_else(|| self.take_from_own_heap(index, request)) {
            return Some(piece);
        }
        if self.shared.arena.units() == 0 {
            // All that is free is in the stream's own heap, where it is joined already.
            return None;
        }
        let _ = self.state.fold(self.shared, index, force);
        self.shared.arena.take(request, stream.id(), true).or_else(|| self.shared.arena.take_run(request))
    }

    pub(super) fn make_ready(&mut self, stream: &Stream, piece: Piece) -> Result<Piece, AllocError> {
        match piece.fences.wait_on(stream) {
            Ok(()) => Ok(piece),
            Err(error) => {
                self.shared.arena.insert_region(piece.region, piece.fences);
                Err(error.into())
            }
        }
    }

    /// Takes memory for `need` from the upstream, and the piece out of it.
    fn grow(&mut self, stream: &Stream, index: usize, request: Request) -> Result<Piece, Refusal> {
        self.shared.contended_misses = 0;
        if let Some(piece) = self.touch(stream, index, request, true)? {
            return Ok(piece);
        }
        if let Some(leaf) = self.upstream.find::<CudaVirtualResource>()
            && let Some(piece) = self.grow_in_place(leaf, stream, index, request)?
        {
            return Ok(piece);
        }
        self.grow_by_chunk(stream, index, request)
    }

    /// Takes a chunk for `need` from the upstream, and the piece out of it.
    fn grow_by_chunk(&mut self, stream: &Stream, index: usize, request: Request) -> Result<Piece, Refusal> {
        let reserved = self.shared.chunks.reserved();
        let least = (u64::from(request.units) + request.align - 1) as usize * UNIT;
        let room = self.limits.maximum.map_or(usize::MAX, |maximum| maximum.saturating_sub(reserved));
        if least > room {
            return Err(Refusal::AtMaximum);
        }
        let step = self.limits.step.unwrap_or_else(|| match self.limits.lazy {
            // As much again as there is: addresses cost nothing, and no block lies in two chunks.
            true => reserved.max(GRANULARITY),
            false => (reserved / 8).clamp(GRANULARITY, STEP_MAX),
        });
        let granularity = self.limits.granularity.unwrap_or(GRANULARITY);
        let bytes = layout::align_up(least.max(step), granularity).unwrap_or(least).min(room).max(least);
        let grown = self.shared.chunks.grow(self.upstream, stream, bytes, least, self.limits.prefetch)?;
        match self.state.fence(stream, false) {
            Ok(fences) if self.limits.lazy => {
                self.shared.chunks.untouched.insert(grown.addr..grown.addr + grown.units, fences);
                let piece = self.touch(stream, index, request, false)?;
                Ok(piece.expect("the chunk was made for it"))
            }
            Ok(fences) => {
                let boundary = self.shared.chunks.is_boundary(grown.addr);
                self.shared.arena.insert(grown.addr, grown.units, boundary, fences);
                let piece = self.shared.arena.take(request, stream.id(), false);
                Ok(piece.expect("the chunk was made for it"))
            }
            Err(error) => {
                // No event says from when on others may use the chunk, so it goes to this stream's heap, with
                // all that this stream may use, before anybody else can see it.
                let boundary = self.shared.chunks.is_boundary(grown.addr);
                self.shared.arena.insert(grown.addr, grown.units, boundary, Fences::default());
                self.pull_and_take(stream, index, request).ok_or(Refusal::Upstream(error.into()))
            }
        }
    }

    /// Gives chunks back that are wholly free and in the arena, the highest first, until no more than
    /// `keep` bytes are reserved. With `force`, the host waits for what is stitched.
    pub(super) fn release(&mut self, keep: usize, force: bool) -> Released {
        self.unstitch();
        let refused = self.unmap_empty(force).err().map(DeallocReason::from);
        let mut released = Released { bytes: 0, refused };
        let Shared { arena, chunks, stitches, service, .. } = self.shared;
        let aliased = stitches.aliased_chunks(chunks);
        for Extent { addr, units } in chunks.extents().into_iter().rev() {
            if chunks.reserved() <= keep {
                break;
            }
            if aliased.contains(&addr) {
                continue;
            }
            let touched = chunks.untouched_of(addr).map_or(units, |(part, _)| part.start - addr);
            let Some(fences) = arena.take_exactly(addr, touched) else { continue };
            match chunks.release(self.upstream, addr, &fences, service) {
                Ok(bytes) => released.bytes += bytes,
                Err(reason) => {
                    arena.insert(addr, touched, chunks.is_boundary(addr), fences);
                    released.refused = Some(reason);
                }
            }
        }
        released
    }
}
