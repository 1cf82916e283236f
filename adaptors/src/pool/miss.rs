//! A miss: a stream's own heap has nothing that fits. The pool then tries, in this order, memory that the stream may
//! use at once, memory that it has to wait for, and the upstream.

use super::chunks::Chunks;
use super::fence::Fences;
use super::futile::{Futile, Moment};
use super::limits::Limits;
use super::options::Crossing;
use super::refusal::{Refusal, Released, exhausted};
use super::request::{Piece, Request};
use super::shared::Shared;
use super::state::PoolState;
use super::step::{GRANULARITY, Growth, default_step};
use super::streams::StreamHeap;
use super::units::{Extent, UNIT};
use cumem::error::DeallocReason;
use cumem::{AllocError, CudaVirtualResource, LayerExt, Stream, Upstream};

/// A small request moves this many bytes to its stream's heap, so that the next requests hit.
pub(super) const PREFERRED_BYTES: usize = 2 << 20;
/// After this many contended misses the pool grows, if the request is smaller than [`PREFERRED_BYTES`]: growing takes
/// about as long as taking this many pieces of other streams.
pub(super) const CONTENDED_MISSES_MAX: u32 = 64;

/// A miss that is being served. It holds the pool's mutex.
pub(super) struct Miss<'a, U> {
    pub(super) state: &'a PoolState,
    pub(super) shared: &'a mut Shared,
    pub(super) upstream: &'a U,
    pub(super) limits: &'a Limits,
    /// What the stream does if only memory that other streams still work on would fit.
    pub(super) crossing: Crossing,
    /// The stream was made to wait for the work of another stream.
    pub(super) waited: bool,
}

impl<U: Upstream> Miss<'_, U> {
    /// Returns a piece for `stream`, whose slot is `index`. The stream has been made to wait for it. A stream that has
    /// waited too often makes the pool grow first.
    pub(super) fn serve(
        &mut self,
        stream: &Stream,
        index: usize,
        units: u32,
        align: u64,
        requested: usize,
    ) -> Result<Piece, AllocError> {
        if self.state.slots.make(index).lock().patience.is_over() {
            self.crossing = Crossing::GrowFirst;
        }
        let preferred = units.max((PREFERRED_BYTES / UNIT) as u32);
        // Unified (managed) memory has room for large blocks elsewhere, because addresses cost nothing there.
        let request = Request { units, align, preferred, cuts_kept: self.limits.lazy, waits_for_uses: false };
        let before = self.moment();
        let piece = match self.shared.futile {
            Some(futile) if futile.rules_out(request, before) => self.only_grow(stream, index, request, requested),
            _ => self.find_piece(stream, index, request, requested, before),
        };
        if self.waited {
            self.state.slots.make(index).lock().patience.waited();
        }
        piece
    }

    fn find_piece(
        &mut self,
        stream: &Stream,
        index: usize,
        request: Request,
        requested: usize,
        before: Moment,
    ) -> Result<Piece, AllocError> {
        if let Some(piece) = self.shared.take(request, stream.id(), false) {
            return Ok(piece);
        }
        if self.shared.contended_misses >= CONTENDED_MISSES_MAX && request.preferred > request.units {
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
        let ready = self.shared.take(request, stream.id(), false);
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
        if self.crossing == Crossing::GrowFirst {
            match self.grow(stream, index, request) {
                Ok(piece) => return Ok(piece),
                Err(refusal) => refused = Some(refusal.unless_fatal()?),
            }
            self.crossing = Crossing::WaitFirst;
            self.state.slots.make(index).lock().patience.growth_refused();
        }
        if let Some(piece) = self.search(stream, index, request) {
            return self.make_ready(stream, piece);
        }
        let refused = match refused {
            Some(refusal) => refusal,
            None => match self.grow(stream, index, request) {
                Ok(piece) => return Ok(piece),
                Err(refusal) => refusal.unless_fatal()?,
            },
        };
        let is_kept = !request.cuts_kept && self.shared.chunks.keeps_any(request.units);
        let request = Request { cuts_kept: true, ..request };
        if is_kept && let Some(piece) = self.search(stream, index, request) {
            return self.make_ready(stream, piece);
        }
        self.last_resort(stream, index, request, requested, refused, before)
    }

    fn moment(&self) -> Moment {
        let (frees, requested) = self.state.frees_and_requested();
        Moment { frees, reserved: self.shared.chunks.reserved(), requested }
    }

    /// Serves a request for which the pool has no memory. A full pool therefore answers at once, and disturbs no other
    /// stream. The upstream may have memory again.
    fn only_grow(
        &mut self,
        stream: &Stream,
        index: usize,
        request: Request,
        requested: usize,
    ) -> Result<Piece, AllocError> {
        let refused = match self.grow(stream, index, request) {
            Ok(piece) => return Ok(piece),
            Err(refusal) => refusal.unless_fatal()?,
        };
        Err(exhausted(self.state, self.shared, requested, refused))
    }

    /// Finds a piece in the memory that the pool has, even if the stream has to wait for the piece.
    fn search(&mut self, stream: &Stream, index: usize, request: Request) -> Option<Piece> {
        self.shared
            .take(request, stream.id(), true)
            .or_else(|| self.state.steal(self.shared, index, request, true))
            .or_else(|| self.gather(stream, index, request, false))
    }

    /// The upstream is out of memory, or the pool is at its maximum. The pool joins all free memory, even if the host
    /// has to wait for it, and frees whole chunks, so that the upstream can allocate differently.
    fn last_resort(
        &mut self,
        stream: &Stream,
        index: usize,
        request: Request,
        requested: usize,
        mut refused: Refusal,
        before: Moment,
    ) -> Result<Piece, AllocError> {
        let request = Request { waits_for_uses: true, ..request };
        if let Some(piece) = self.gather(stream, index, request, true) {
            return self.make_ready(stream, piece);
        }
        // The stream's own free memory may fill whole chunks, too. A heap that cannot be folded keeps its memory.
        let folded = self.state.fold_all(self.shared, None, true);
        if let Some(piece) = self.touch(stream, index, request, true)? {
            return Ok(piece);
        }
        if let Some(leaf) = self.upstream.find::<CudaVirtualResource>() {
            // Nothing more can be mapped for it.
            match self.stitch(leaf, stream, index, request, 1, true) {
                Ok(Some(piece)) => return Ok(piece),
                Ok(None) => {}
                Err(refusal) => refused = refusal.unless_fatal()?,
            }
        }
        let released = self.release(0, true);
        if released.bytes > 0 {
            match self.grow(stream, index, request) {
                Ok(piece) => return Ok(piece),
                Err(refusal) => refused = refusal.unless_fatal()?,
            }
        }
        // If the driver refused a part of the search, the next one may find more.
        if folded.is_ok() && released.refused.is_none() {
            let (reserved, smallest) = (self.shared.chunks.reserved(), self.shared.chunks.smallest().unwrap_or(0));
            self.shared.futile = Some(Futile::new(request, before, reserved, smallest));
        }
        Err(exhausted(self.state, self.shared, requested, refused))
    }

    /// Moves the arena memory that the stream may use to its heap, where it joins adjacent memory, and takes a piece
    /// from there. Both happen under one lock, so that no other thread of the stream gets the memory in between.
    pub(super) fn pull_and_take(&mut self, stream: &Stream, index: usize, request: Request) -> Option<Piece> {
        let regions = self.shared.arena.take_usable(stream.id());
        if regions.is_empty() {
            return None;
        }
        let mut stream_heap = self.state.slots.make(index).lock();
        stream_heap.attach_all(regions);
        take_from(&mut stream_heap, &self.shared.chunks, request)
    }

    /// Moves the arena memory that the stream may use to its heap.
    pub(super) fn pull_usable(&mut self, stream: &Stream, index: usize) {
        let regions = self.shared.arena.take_usable(stream.id());
        self.state.slots.make(index).lock().attach_all(regions);
    }

    /// Takes a piece from the stream's own heap.
    fn take_from_own_heap(&mut self, index: usize, request: Request) -> Option<Piece> {
        take_from(&mut self.state.slots.get(index)?.lock(), &self.shared.chunks, request)
    }

    /// Joins all free memory, first that of other streams and then all of it, and takes a piece.
    fn gather(&mut self, stream: &Stream, index: usize, request: Request, force: bool) -> Option<Piece> {
        let request = Request { preferred: request.units, ..request };
        self.state.collect_idle(self.shared, index);
        // A heap that cannot be folded keeps its memory; the rest may be enough.
        let _ = self.state.fold_all(self.shared, Some(index), force);
        self.shared.arena.drop_reached();
        let united = self.pull_and_take(stream, index, request);
        if let Some(piece) = united.or_else(|| self.take_from_own_heap(index, request)) {
            return Some(piece);
        }
        if self.shared.arena.units() == 0 {
            // All free memory is in the stream's own heap, where it is joined already.
            return None;
        }
        let _ = self.state.fold(self.shared, index, force);
        self.shared.take(request, stream.id(), true).or_else(|| self.shared.take_run(request))
    }

    pub(super) fn make_ready(&mut self, stream: &Stream, piece: Piece) -> Result<Piece, AllocError> {
        match piece.fences.wait_on(stream) {
            Ok(waits) => {
                self.waited |= waits;
                Ok(piece)
            }
            Err(error) => {
                self.shared.arena.insert_region(piece.region, piece.fences);
                Err(error.into())
            }
        }
    }

    /// Gets memory for `request` from the upstream or from untouched parts, and takes a piece of it.
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

    /// Allocates a chunk for `request` from the upstream, and takes a piece of it.
    fn grow_by_chunk(&mut self, stream: &Stream, index: usize, request: Request) -> Result<Piece, Refusal> {
        let reserved = self.shared.chunks.reserved();
        let least = (u64::from(request.units) + request.align - 1) as usize * UNIT;
        let room = self.limits.maximum.map_or(usize::MAX, |maximum| maximum.saturating_sub(reserved));
        if least > room {
            return Err(Refusal::AtMaximum);
        }
        let default_step = match self.limits.lazy {
            // As much as is reserved already: addresses cost nothing, and no block lies in two chunks.
            true => reserved.max(GRANULARITY),
            false => default_step(self.shared.chunks.reserved_for(request.units), self.shared.chunks.step_most()),
        };
        let Limits { step, granularity, prefetch, .. } = *self.limits;
        let sizes = Growth { least, step, default_step, room, granularity }.sizes();
        let grown = self.shared.chunks.grow(self.upstream, stream, &sizes, request.units.into(), prefetch)?;
        match self.state.fence(stream, false) {
            Ok(fences) => {
                self.shared.add_chunk(grown, fences, self.limits.lazy);
                let piece = match self.limits.lazy {
                    true => self.touch(stream, index, request, false)?,
                    false => self.shared.take(request, stream.id(), false),
                };
                Ok(piece.expect("the chunk was made for it"))
            }
            Err(error) => {
                // No event could be recorded for the chunk, so other streams cannot know when they may use it. It
                // enters this stream's heap, with all other memory that the stream may use, before any other stream can
                // see it.
                self.shared.add_chunk(grown, Fences::default(), false);
                self.pull_and_take(stream, index, request).ok_or(Refusal::Upstream(error.into()))
            }
        }
    }

    /// Frees chunks that are wholly free and in the arena, the highest first, until at most `keep` bytes are reserved.
    /// With `force`, the host waits for work on stitches.
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
            // The upstream may wait for the device, and must then not meet a kernel whose closure has to run.
            let ready = if force { self.state.device.pending_kernels() } else { Ok(()) };
            let freed = ready.map_err(DeallocReason::from);
            match freed.and_then(|()| chunks.release(self.upstream, addr, &fences, service)) {
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

/// Takes a piece from the heap of the stream that misses.
fn take_from(stream_heap: &mut StreamHeap, chunks: &Chunks, request: Request) -> Option<Piece> {
    let admits = |addr, units| chunks.admits(addr, units, request);
    let piece = stream_heap.heap.allocate_thorough(request.units, request.align, admits)?;
    Some(Piece { region: stream_heap.heap.detach(piece.node), fences: Fences::default() })
}
