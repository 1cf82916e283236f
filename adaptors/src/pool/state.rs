//! [`PoolState`]: everything in a pool except its upstream.

use super::chunks::Chunks;
use super::classes::Classes;
use super::fence::{Fence, Fences};
use super::idle::{IdleQuery, is_idle};
use super::limits::Limits;
use super::outside::Outside;
use super::request::{Piece, Request};
use super::rounding::Rounding;
use super::shared::{Shared, SharedFigures};
use super::stats::{PoolStats, of_stream};
use super::streams::{Slot, Slots, StreamHeap};
use super::sync::{Arc, Mutex};
use super::units::UNIT;
use cumem::device::KeptStream;
use cumem::error::Usage;
use cumem::resource::MakerId;
use cumem::{Device, DeviceError, Stream, layout};
use smallvec::SmallVec;

/// The state of a pool, which any stack can reach: `stack.find::<PoolState>()`.
///
/// # Examples
///
/// ```
/// use cumem::sim::Profile;
/// use cumem::{AnyResource, CudaResource, Device, LayerExt};
/// use cumem_adaptors::{PoolOptions, PoolState, ResourceExt};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let device = Device::simulated(Profile::default())?;
/// let stack = CudaResource::new(&device).pool(PoolOptions::new().initial(1 << 20))?.statistics();
/// let stack = AnyResource::new(stack); // its type no longer names the pool
/// assert_eq!(stack.find::<PoolState>().unwrap().stats().reserved, 1 << 20);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct PoolState {
    pub(super) device: Device,
    pub(super) maker: MakerId,
    maximum: Option<usize>,
    pub(super) rounding: Rounding,
    /// Whether requests that are larger than any block of this pool are passed on to the upstream.
    forwards_larger: bool,
    /// Whether a free may have to free a chunk at once.
    pub(super) releases_early: bool,
    pub(super) slots: Slots,
    /// Locked by `growth_lock` only.
    pub(super) shared: Mutex<Shared>,
    pub(super) outside: Outside,
}

impl PoolState {
    /// Creates the state of a pool without memory. `whole_shift` is that of the heaps ([`Heap::new`](super::heap::Heap)).
    pub(super) fn new(device: Device, limits: &Limits, whole_shift: u32) -> Result<Self, DeviceError> {
        let service = Stream::new(&device)?;
        let (arena, stitches) = Default::default();
        let shared = Shared { arena, chunks: Chunks::new(), stitches, service, contended_misses: 0, futile: None };
        Ok(Self {
            device,
            maker: MakerId::unique(),
            maximum: limits.maximum,
            rounding: limits.rounding,
            forwards_larger: limits.forwards_larger,
            releases_early: limits.release_threshold.is_some(),
            slots: Slots::new(whole_shift),
            shared: Mutex::new(shared),
            outside: Outside::default(),
        })
    }

    /// Declares the pool's blocks to the race detector of a simulated device while it is on.
    pub(super) fn declare_to_detector(&self) {
        self.slots.watch_detector(&self.device);
    }

    /// Returns the id in the blocks of this pool.
    pub(crate) fn maker(&self) -> MakerId {
        self.maker
    }

    /// Returns the most bytes that the pool may hold from its upstream.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem::sim::Profile;
    /// use cumem::{CudaResource, Device};
    /// use cumem_adaptors::{PoolOptions, ResourceExt};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let device = Device::simulated(Profile::default())?;
    /// let pool = CudaResource::new(&device).pool(PoolOptions::new())?;
    /// assert_eq!(pool.state().maximum(), None);
    /// # Ok(())
    /// # }
    /// ```
    pub fn maximum(&self) -> Option<usize> {
        self.maximum
    }

    /// Returns the pool's statistics at this moment. Other calls of the pool may block meanwhile.
    ///
    /// Inside a call of this pool, for example in its upstream or in the closure of a kernel, the bytes that the pool has
    /// reserved are those before that call.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem::sim::Profile;
    /// use cumem::{CudaResource, Device};
    /// use cumem_adaptors::{PoolOptions, ResourceExt};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let device = Device::simulated(Profile::default())?;
    /// let pool = CudaResource::new(&device).pool(PoolOptions::new().initial(1 << 20))?;
    /// assert_eq!(pool.state().stats(), pool.stats());
    /// # Ok(())
    /// # }
    /// ```
    pub fn stats(&self) -> PoolStats {
        match self.lock() {
            Ok(shared) => self.stats_with(&shared),
            Err(_) => {
                let stats = self.stats_while_locked(self.last_figures(), |_, _| ());
                // The heaps may have memory that the figures do not count yet.
                PoolStats { reserved: stats.reserved.max(stats.allocated + stats.cached), ..stats }
            }
        }
    }

    /// Makes the peaks of the statistics start again from the present values. Other calls of the pool may block meanwhile.
    /// Inside a call of this pool, the peaks of the reserved bytes stay.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem::sim::Profile;
    /// use cumem::{Buffer, CudaResource, Device, Stream};
    /// use cumem_adaptors::{PoolOptions, ResourceExt};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let device = Device::simulated(Profile::default())?;
    /// let pool = CudaResource::new(&device).pool(PoolOptions::new())?;
    /// drop(Buffer::<u8, _>::zeroed(64 << 20, &Stream::new(&device)?, &pool)?);
    /// pool.trim()?;
    /// assert_eq!(pool.stats().peak_reserved, 64 << 20);
    /// pool.state().reset_peaks();
    /// assert_eq!((pool.stats().peak_reserved, pool.stats().peak_requested_at_most), (0, 0));
    /// # Ok(())
    /// # }
    /// ```
    pub fn reset_peaks(&self) {
        if let Ok(mut shared) = self.lock() {
            shared.chunks.reset_peaks();
        }
        self.slots.iter().for_each(|(_, slot)| slot.reset_peaks(&mut slot.lock()));
    }

    /// Returns the bytes of the largest block that the pool can allocate, if its upstream can allocate one of `room`
    /// bytes, and the pool grows by multiples of `granule`.
    pub(crate) fn largest_block(&self, room: usize, granule: usize) -> usize {
        let stats = self.stats();
        let growth = self.maximum.map_or(usize::MAX, |most| most.saturating_sub(stats.reserved));
        let growth = layout::align_down(room.min(growth), granule);
        let own = self.rounding.largest_within(stats.largest_free.max(growth));
        // The upstream serves what is too large for this pool.
        if self.forwards_larger && room > own { room } else { own }
    }

    pub(super) fn stats_with(&self, shared: &Shared) -> PoolStats {
        self.stats_while_locked(shared.figures(), |_, _| ())
    }

    /// Adds up the statistics, and calls `visit` with each slot's heap while all slots are locked.
    pub(super) fn stats_while_locked(
        &self,
        shared: SharedFigures,
        mut visit: impl FnMut(&Slot, &mut StreamHeap),
    ) -> PoolStats {
        let mut locked: Vec<_> = self.slots.iter().map(|(_, slot)| (slot, slot.lock())).collect();
        let largest = locked.iter_mut().map(|(_, own)| u64::from(own.heap.largest_free())).max().unwrap_or(0);
        let sum =
            |of: fn(&Slot, &StreamHeap) -> u64| locked.iter().map(|(slot, own)| of(slot, own)).sum::<u64>() as usize;
        let cached = sum(|_, own| own.heap.free_units()) * UNIT;
        let SharedFigures { reserved, peak_reserved, touched, peak_touched, chunks, free_units, largest_free } = shared;
        let stats = PoolStats {
            peak_reserved,
            peak_allocated_at_most: (sum(|_, own| own.peak_units) * UNIT).min(peak_reserved),
            peak_requested_at_most: sum(|_, own| own.peak_requested).min(peak_reserved),
            reserved,
            allocated: sum(|_, own| own.heap.live_units()) * UNIT,
            requested: sum(|slot, _| slot.requested()),
            free: free_units as usize * UNIT + cached,
            cached,
            largest_free: largest.max(largest_free) as usize * UNIT,
            touched,
            peak_touched,
            blocks: sum(Slot::blocks),
            chunks,
            streams: locked.iter().filter(|(_, own)| own.stream().is_some()).count(),
        };
        locked.iter_mut().for_each(|(slot, own)| visit(slot, own));
        stats
    }

    /// Returns the pool's usage, down to the size of each block, for the error of a request that found no memory.
    pub(super) fn held(&self, shared: &Shared) -> Usage {
        let (mut classes, mut streams) = (Classes::default(), Vec::new());
        let stats = self.stats_while_locked(shared.figures(), |slot, own| {
            streams.extend(of_stream(slot, own));
            own.heap.live_sizes().for_each(|units| classes.count(units));
        });
        let mut usage = stats.held();
        (usage.maximum, usage.classes, usage.streams) = (self.maximum, classes.counted(), streams);
        usage
    }

    /// Returns what can be read without a lock of any slot, for the error of a request whose refusal is not reported.
    pub(super) fn held_in_part(&self, shared: &Shared) -> Usage {
        let mut usage = Usage::default();
        (usage.reserved, usage.maximum, usage.partial) = (shared.chunks.reserved(), self.maximum, true);
        usage
    }

    /// Returns how many blocks were ever freed, and the bytes that were requested for live blocks. Locks no slot.
    pub(super) fn frees_and_requested(&self) -> (u64, usize) {
        let counts = self.slots.iter().map(|(_, slot)| (slot.freed(), slot.requested()));
        let (frees, requested) = counts.fold((0, 0), |sum: (u64, u64), own| (sum.0 + own.0, sum.1.wrapping_add(own.1)));
        (frees, requested as usize)
    }

    /// Returns the slot of `stream`, and binds the stream to one if necessary.
    pub(super) fn bind(&self, shared: &mut Shared, stream: &Stream) -> Result<(usize, &Slot), DeviceError> {
        if let Some((index, slot)) = self.slots.find_bound(stream.id())
            && slot.lock().serves(stream.id())
        {
            self.slots.show(index);
            return Ok((index, slot));
        }
        self.fold_abandoned(shared);
        let mut refused = None;
        for index in self.slots.candidates(stream.id()) {
            match self.rebind(shared, index, Some(stream.keep()), false) {
                Ok(()) => return Ok((index, self.slots.make(index))),
                Err(error) => refused = Some((index, error)),
            }
        }
        // No event can be recorded for any of the candidates. The host can only wait for the whole device.
        let (index, _) = refused.expect("a stream has candidates");
        self.rebind(shared, index, Some(stream.keep()), true)?;
        Ok((index, self.slots.make(index)))
    }

    /// Gives slot `index` to another stream, or to none. The slot's free memory enters the arena.
    fn rebind(
        &self,
        shared: &mut Shared,
        index: usize,
        to: Option<KeptStream>,
        force: bool,
    ) -> Result<(), DeviceError> {
        let owner = to.as_ref().map(KeptStream::id);
        let slot = self.slots.make(index);
        let (regions, from) = {
            let mut stream_heap = slot.lock();
            (stream_heap.heap.drain(), stream_heap.set_stream(to))
        };
        if let (Some(stream), false) = (&from, regions.is_empty()) {
            let fences = match self.fence_of(stream, force) {
                Ok(fences) => fences,
                Err(error) => {
                    let mut stream_heap = slot.lock();
                    stream_heap.attach_all(regions);
                    stream_heap.set_stream(from);
                    return Err(error);
                }
            };
            for region in regions {
                shared.arena.insert_region(region, fences.clone());
            }
        }
        self.slots.set_owner(index, owner);
        Ok(())
    }

    /// Moves a slot's free memory to the arena.
    pub(super) fn fold(&self, shared: &mut Shared, index: usize, force: bool) -> Result<(), DeviceError> {
        let stream = self.slots.make(index).lock().stream().cloned();
        self.rebind(shared, index, stream, force)
    }

    /// Folds every slot but `except`. A slot keeps its memory if the driver refuses an event for it. Returns the first
    /// refusal.
    pub(super) fn fold_all(&self, shared: &mut Shared, except: Option<usize>, force: bool) -> Result<(), DeviceError> {
        let mut all = Ok(());
        for (index, _) in self.slots.bound().filter(|&(index, _)| Some(index) != except) {
            all = all.and(self.fold(shared, index, force));
        }
        all
    }

    /// Moves the free memory of idle streams' slots to slot `index`.
    pub(super) fn collect_idle(&self, _locked: &Shared, index: usize) {
        let (mut collected, mut query) = (Vec::new(), IdleQuery::new(&self.device));
        for (_, slot) in self.slots.bound().filter(|&(other, _)| other != index) {
            let (mut regions, stream) = {
                let mut stream_heap = slot.lock();
                (stream_heap.heap.drain(), stream_heap.stream().cloned())
            };
            // As in `steal`: the memory was taken before the query, so an idle stream is done with it.
            if !regions.is_empty() && stream.is_none_or(|stream| query.is_idle(&stream)) {
                collected.append(&mut regions);
            } else {
                slot.lock().attach_all(regions);
            }
        }
        collected.sort_unstable_by_key(|region| region.addr);
        self.slots.make(index).lock().attach_all(collected);
    }

    /// Folds the slots of streams that no code can use any more, and drops the pool's handles to them.
    pub(super) fn fold_abandoned(&self, shared: &mut Shared) {
        for (index, slot) in self.slots.bound() {
            let abandoned = slot.lock().stream().is_some_and(KeptStream::is_abandoned);
            if abandoned {
                // If no event can be recorded, the slot stays bound. It is folded again when memory runs out.
                let _ = self.rebind(shared, index, None, false);
            }
        }
    }

    /// Takes a piece from another slot: the best fit of all slots. Without `wait`, only from slots whose stream is
    /// idle.
    ///
    /// The function takes the piece first and queries the stream afterwards: if the stream is idle then, it is done
    /// with the piece. It queries each stream once, because a query takes as long as everything else here.
    pub(super) fn steal(&self, locked: &Shared, thief: usize, request: Request, wait: bool) -> Option<Piece> {
        let admits = |addr, units| locked.chunks.admits(addr, units, request);
        let mut victims: SmallVec<[(bool, u32, usize); 16]> = SmallVec::new();
        for (index, slot) in self.slots.bound().filter(|&(index, _)| index != thief) {
            let mut stream_heap = slot.lock();
            let (free, units) = (stream_heap.heap.free_units(), u64::from(request.units));
            if free >= units && stream_heap.stream().is_some() {
                let room = stream_heap.heap.room_for(request.units, request.align, admits);
                // `Heap::take` takes the whole of such a piece.
                let emptied = |room: u32| free == u64::from(room) && free / 2 <= units;
                victims.extend(room.map(|room| (emptied(room), room, index)));
            }
        }
        // First the streams that keep a piece: a stream that loses its last one would take the next stream's last one,
        // and so on for ever. Of equal fits, the oldest slot: the sort is stable.
        victims.sort_by_key(|&(emptied, room, _)| (emptied, room));
        let mut query = IdleQuery::new(&self.device);
        for (.., index) in victims {
            let slot = self.slots.get(index).expect("just seen");
            let (region, stream) = {
                let mut stream_heap = slot.lock();
                let Some(stream) = stream_heap.stream().cloned() else { continue };
                let Some(region) = stream_heap.heap.take(request.units, request.align, admits) else { continue };
                (region, stream)
            };
            let fences = match wait {
                true => self.fence_of(&stream, false).ok(),
                false => query.is_idle(&stream).then(Fences::default),
            };
            let Some(fences) = fences else {
                // The slot still belongs to this stream, because it is rebound only under the pool's mutex.
                slot.lock().heap.attach(region);
                continue;
            };
            return Some(Piece { region, fences });
        }
        None
    }

    /// Returns a fence after the work enqueued on `stream`, or no fence if that work is done. With `force`, if no event
    /// can be recorded, the host waits for the device.
    pub(super) fn fence(&self, stream: &Stream, force: bool) -> Result<Fences, DeviceError> {
        if is_idle(stream) {
            return Ok(Fences::default());
        }
        self.fences_from(Fence::record(stream), force)
    }

    /// Returns a fence for memory of a stream of which the pool keeps a handle. If the pool cannot use the stream, the
    /// fence is after all work of the device.
    fn fence_of(&self, stream: &KeptStream, force: bool) -> Result<Fences, DeviceError> {
        match stream.usable() {
            Some(stream) => self.fence(stream, force),
            None => {
                let mut fences = self.fences_from(Fence::record_on_device(&self.device, stream.id()), force)?;
                fences.prune();
                Ok(fences)
            }
        }
    }

    fn fences_from(&self, recorded: Result<Arc<Fence>, DeviceError>, force: bool) -> Result<Fences, DeviceError> {
        match recorded {
            Ok(fence) => Ok(fence.into()),
            Err(_) if force && !self.device.has_captures() => {
                self.device.synchronize()?;
                Ok(Fences::default())
            }
            Err(error) => Err(error),
        }
    }
}
