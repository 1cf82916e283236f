//! Where a pool looks when a stream's own heap has nothing that fits, in this order: what may be used at
//! once, what has to be waited for, the upstream.

use super::fence::Fences;
use super::limits::Limits;
use super::options::Crossing;
use super::refusal::{Refusal, Released, exhausted};
use super::request::{Need, Taken};
use super::shared::Central;
use super::state::PoolState;
use super::units::{Grown, UNIT};
use cumem::{AllocError, CudaVirtualResource, DeallocReason, LayerExt, Stream, Upstream, layout};

/// The multiple that growth is rounded to where no leaf says: what the driver takes of the device at a time.
pub(super) const GRANULARITY: usize = 2 << 20;
/// Small requests take this much to their stream at a time, so that the next ones find it there.
pub(super) const BITE: usize = 2 << 20;
const STEP_MAX: usize = 256 << 20;
/// After so many times that threads had to wait for each other, the pool grows, if less than a bite is wanted: a growth
/// takes about as long as so many pieces of other streams.
pub(super) const MEETINGS: u32 = 64;

/// A miss being served. Holds the central lock.
pub(super) struct Miss<'a, U> {
    pub(super) state: &'a PoolState,
    pub(super) central: &'a mut Central,
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
    ) -> Result<Taken, AllocError> {
        let bite = units.max((BITE / UNIT) as u32);
        let need = Need { units, align, bite };
        if let Some(taken) = self.central.arena.take(need, stream.id(), false) {
            return Ok(taken);
        }
        if self.central.meetings >= MEETINGS && need.bite > units {
            match self.grow(stream, index, need) {
                Ok(taken) => return Ok(taken),
                Err(refusal) => refusal.unless_fatal().map(drop)?,
            }
        }
        if let Some(taken) = self.state.steal(self.central, index, need, false) {
            return Ok(taken);
        }
        self.state.fold_abandoned(self.central);
        self.central.arena.settle();
        let ready = self.central.arena.take(need, stream.id(), false);
        if let Some(taken) = ready.or_else(|| self.unite(stream, index, need)) {
            return Ok(taken);
        }
        if self.limits.lazy
            && self.is_within_slack(self.central.chunks.touched().0 + need.units as usize * UNIT, need)
            && let Some(taken) = self.touch(stream, index, need, false)?
        {
            return Ok(taken);
        }
        let mut refused = None;
        if self.limits.crossing == Crossing::GrowFirst {
            match self.grow(stream, index, need) {
                Ok(taken) => return Ok(taken),
                Err(refusal) => refused = Some(refusal.unless_fatal()?),
            }
        }
        if let Some(taken) = self.central.arena.take(need, stream.id(), true) {
            return self.hold(stream, taken);
        }
        if let Some(taken) = self.state.steal(self.central, index, need, true) {
            return self.hold(stream, taken);
        }
        if let Some(taken) = self.gather(stream, index, need, false) {
            return self.hold(stream, taken);
        }
        let refused = match refused {
            Some(refusal) => refusal,
            None => match self.grow(stream, index, need) {
                Ok(taken) => return Ok(taken),
                Err(refusal) => refusal.unless_fatal()?,
            },
        };
        self.last_resort(stream, index, need, requested, refused)
    }

    /// Memory has run out: everything free is put together, even where the host has to wait for it, and
    /// whole chunks are given back, so that the upstream may cut anew.
    fn last_resort(
        &mut self,
        stream: &Stream,
        index: usize,
        need: Need,
        requested: usize,
        mut refused: Refusal,
    ) -> Result<Taken, AllocError> {
        if let Some(taken) = self.gather(stream, index, need, true) {
            return self.hold(stream, taken);
        }
        // What the stream has itself may fill whole chunks too. Where it cannot be folded, it stays.
        let _ = self.state.fold_all(self.central, None, true);
        if let Some(taken) = self.touch(stream, index, need, true)? {
            return Ok(taken);
        }
        if let Some(leaf) = self.upstream.find::<CudaVirtualResource>() {
            // Nothing can be mapped for it any more.
            match self.stitch(leaf, stream, index, need, 1, true) {
                Ok(Some(taken)) => return Ok(taken),
                Ok(None) => {}
                Err(refusal) => refused = refusal.unless_fatal()?,
            }
        }
        if self.release(0, true).bytes > 0 {
            match self.grow(stream, index, need) {
                Ok(taken) => return Ok(taken),
                Err(refusal) => refused = refusal.unless_fatal()?,
            }
        }
        Err(exhausted(self.state, self.central, requested, refused))
    }

    /// Brings what the stream may use of the arena to the stream's heap, where it joins what lies beside
    /// it, and takes a piece from there.
    pub(super) fn unite(&mut self, stream: &Stream, index: usize, need: Need) -> Option<Taken> {
        if self.draw(stream, index) { self.take_own(index, need) } else { None }
    }

    /// Brings what the stream may use of the arena to the stream's heap. Whether there was any.
    pub(super) fn draw(&mut self, stream: &Stream, index: usize) -> bool {
        let regions = self.central.arena.take_all(stream.id());
        let any = !regions.is_empty();
        self.state.slots.make(index).lock().attach_all(regions);
        any
    }

    /// Takes a piece of the stream's own heap.
    fn take_own(&mut self, index: usize, need: Need) -> Option<Taken> {
        let mut local = self.state.slots.get(index)?.lock();
        let piece = local.heap.allocate_thorough(need.units, need.align)?;
        Some(Taken { region: local.heap.detach(piece.node), fences: Fences::default() })
    }

    /// Brings everything free together, other streams' first and then all of it, and takes a piece.
    fn gather(&mut self, stream: &Stream, index: usize, need: Need, force: bool) -> Option<Taken> {
        let need = Need { bite: need.units, ..need };
        self.state.collect_idle(self.central, index);
        // A stream that refuses keeps its memory; there may be enough without.
        let _ = self.state.fold_all(self.central, Some(index), force);
        self.central.arena.settle();
        let united = self.unite(stream, index, need);
        if let Some(taken) = united.or_else(|| self.take_own(index, need)) {
            return Some(taken);
        }
        if self.central.arena.units() == 0 {
            // All that is free is in the stream's own heap, where it is joined already.
            return None;
        }
        let _ = self.state.fold(self.central, index, force);
        self.central.arena.take(need, stream.id(), true).or_else(|| self.central.arena.take_run(need))
    }

    pub(super) fn hold(&mut self, stream: &Stream, taken: Taken) -> Result<Taken, AllocError> {
        match taken.fences.hold(stream) {
            Ok(()) => Ok(taken),
            Err(error) => {
                self.central.arena.insert_region(taken.region, taken.fences);
                Err(error.into())
            }
        }
    }

    /// Takes memory for `need` from the upstream, and the piece out of it.
    fn grow(&mut self, stream: &Stream, index: usize, need: Need) -> Result<Taken, Refusal> {
        self.central.meetings = 0;
        if let Some(taken) = self.touch(stream, index, need, true)? {
            return Ok(taken);
        }
        if let Some(leaf) = self.upstream.find::<CudaVirtualResource>()
            && let Some(taken) = self.expand(leaf, stream, index, need)?
        {
            return Ok(taken);
        }
        self.grow_apart(stream, index, need)
    }

    /// Takes a chunk for `need` from the upstream, and the piece out of it.
    fn grow_apart(&mut self, stream: &Stream, index: usize, need: Need) -> Result<Taken, Refusal> {
        let reserved = self.central.chunks.reserved();
        let least = (u64::from(need.units) + need.align - 1) as usize * UNIT;
        let room = self.limits.maximum.map_or(usize::MAX, |maximum| maximum.saturating_sub(reserved));
        if least > room {
            return Err(Refusal::AtMaximum);
        }
        let step = self.limits.step.unwrap_or_else(|| match self.limits.lazy {
            // As much again as there is: addresses cost nothing, and no block lies in two chunks.
            true => reserved.max(GRANULARITY),
            false => (reserved / 8).clamp(GRANULARITY, STEP_MAX),
        });
        let granularity = self.limits.joined.unwrap_or(GRANULARITY);
        let bytes = layout::align_up(least.max(step), granularity).unwrap_or(least).min(room).max(least);
        let grown = self.central.chunks.grow(self.upstream, stream, bytes, least, self.limits.prefetch)?;
        match self.state.fence(stream, false) {
            Ok(fences) if self.limits.lazy => {
                self.central.chunks.untouched.insert(grown.addr..grown.addr + grown.units, fences);
                let taken = self.touch(stream, index, need, false)?;
                Ok(taken.expect("the chunk was made for it"))
            }
            Ok(fences) => {
                let apart = self.central.chunks.apart(grown.addr);
                self.central.arena.insert(grown.addr, grown.units, apart, fences);
                let taken = self.central.arena.take(need, stream.id(), false);
                Ok(taken.expect("the chunk was made for it"))
            }
            Err(error) => {
                // No event says from when on others may use the chunk, so it goes to this stream's heap, with
                // all that this stream may use, before anybody else can see it.
                let apart = self.central.chunks.apart(grown.addr);
                self.central.arena.insert(grown.addr, grown.units, apart, Fences::default());
                self.unite(stream, index, need).ok_or(Refusal::Upstream(error.into()))
            }
        }
    }

    /// Gives chunks back that are wholly free and in the arena, the highest first, until no more than
    /// `keep` bytes are reserved. With `force`, the host waits for what is stitched.
    pub(super) fn release(&mut self, keep: usize, force: bool) -> Released {
        self.bring_home();
        let refused = self.unmap_spent(force).err().map(DeallocReason::from);
        let mut released = Released { bytes: 0, refused };
        let Central { arena, chunks, stitches, service, .. } = self.central;
        let covered = stitches.covered(chunks);
        for Grown { addr, units } in chunks.places().into_iter().rev() {
            if chunks.reserved() <= keep {
                break;
            }
            if covered.contains(&addr) {
                continue;
            }
            let touched = chunks.untouched_of(addr).map_or(units, |(part, _)| part.start - addr);
            let Some(fences) = arena.take_exactly(addr, touched) else { continue };
            match chunks.release(self.upstream, addr, &fences, service) {
                Ok(bytes) => released.bytes += bytes,
                Err(reason) => {
                    arena.insert(addr, touched, chunks.apart(addr), fences);
                    released.refused = Some(reason);
                }
            }
        }
        released
    }
}
