//! Driver calls that allocate, free and wait, and the checks that calls share.

use super::cost::{ns, per_mib};
use super::handles::Key;
use super::injection::FaultCall;
use super::machine::{Guard, Machine};
use super::memory::{Bad, Kind, Place};
use super::operation::Mark;
use super::pools::BlockState;
use super::races::{Deed, used};
use super::state::{State, Until};
use super::streams::StreamState;
use super::uvm::{BLOCK, Managed, PAGE, Processor};
use cumem_driver::{CudaErrorCode, DriverError, RawStream};
use std::ptr::NonNull;
use std::thread;

impl State {
    /// Returns the stream behind a handle. The per-thread default stream is that of the calling thread.
    pub(super) fn stream(&mut self, d: u32, raw: RawStream, call: &'static str) -> Result<Key, DriverError> {
        match raw {
            RawStream::LEGACY | RawStream(0) => Ok(self.devices[d as usize].legacy),
            RawStream::PER_THREAD => Ok(self.per_thread(d)),
            RawStream(handle) => {
                let key = Key::from_handle(handle);
                let found = key
                    .filter(|key| self.streams.get(*key).is_some_and(|stream| stream.device == d && !stream.closing));
                found.ok_or_else(|| self.code(d, call, CudaErrorCode::INVALID_HANDLE))
            }
        }
    }

    fn per_thread(&mut self, d: u32) -> Key {
        let thread = thread::current().id();
        let known = self.devices[d as usize].per_thread.iter().find(|(id, _)| *id == thread);
        if let Some((_, key)) = known {
            return *key;
        }
        let key = self.streams.insert(StreamState::new(d, true));
        self.device(d).per_thread.push((thread, key));
        key
    }

    /// Returns the point after all work enqueued on a stream. For the legacy default stream, that includes the work of
    /// all streams that it waits for.
    pub(super) fn mark(&mut self, d: u32, key: Key) -> Mark {
        self.order_with_legacy(d, key);
        Mark { stream: key, seq: self.streams.get(key).map_or(0, |stream| stream.submitted) }
    }

    /// Returns the allocation that holds a range, or `None` for memory that is not the simulator's. In a pool, the
    /// range must lie in one live block.
    pub(super) fn place(&self, d: u32, who: &str, addr: u64, bytes: u64) -> Result<Option<Place>, DriverError> {
        let place = match self.memory.find(addr, bytes) {
            Ok(place) => place,
            Err(Bad::Unknown) => return Ok(None),
            Err(bad) => return Err(self.bad_range(d, who, addr, bytes, bad)),
        };
        let Kind::Segment(pool) = place.kind else { return Ok(Some(place)) };
        let block = self.pools.get(pool).and_then(|pool| pool.block_around(addr));
        match block {
            Some((base, block)) => match block.state {
                BlockState::Live(live) if addr - base + bytes <= live => Ok(Some(place)),
                BlockState::Live(live) => Err(self.bad_range(d, who, addr, bytes, Bad::Crosses { base, bytes: live })),
                BlockState::Free(_) => {
                    Err(self.bad_range(d, who, addr, bytes, Bad::Freed { base, bytes: block.bytes }))
                }
            },
            None => Ok(Some(place)),
        }
    }

    #[cold]
    pub(super) fn bad_range(&self, d: u32, who: &str, addr: u64, bytes: u64, bad: Bad) -> DriverError {
        let what = match bad {
            Bad::Unknown => "which are no memory of the device".into(),
            Bad::Unmapped => "which are reserved and have no memory behind them".into(),
            Bad::Crosses { base, bytes } => format!("across the end of the allocation of {bytes} bytes at {base:#x}"),
            Bad::Freed { base, bytes } => format!("in the allocation of {bytes} bytes at {base:#x}, which was freed"),
        };
        self.simulation(d, format!("{who} uses {bytes} bytes at {addr:#x}, {what}"))
    }

    fn allocated(&mut self, call: &'static str, found: (u64, u64), bytes: u64) -> NonNull<u8> {
        let (addr, serial) = found;
        self.note_allocation(serial, bytes);
        self.race_fresh(None, call, addr, bytes);
        NonNull::new(addr as *mut u8).unwrap_or(NonNull::dangling())
    }

    fn take_managed(&mut self, d: u32, bytes: u64) -> Option<(u64, u64)> {
        let tail = match bytes % BLOCK {
            0 => 0,
            tail if self.profile(d).rounded_tails || bytes < BLOCK => tail.next_power_of_two().max(64 << 10),
            tail => tail.next_multiple_of(PAGE),
        };
        let counted = (bytes - bytes % BLOCK).checked_add(tail)?;
        let total = self.managed.checked_add(counted)?;
        if total >= self.profile(d).managed_limit.value as u64 {
            return None;
        }
        let at = Processor::device(d);
        let fixed = !self.profile(d).concurrent_managed_access;
        if fixed {
            self.take_room(d, counted).ok()?;
        }
        let mode = if fixed { Managed::Fixed(at) } else { Managed::Concurrent };
        let space = &mut self.space;
        let kind = || Kind::Managed(space.add(counted, mode));
        let found = self.memory.allocate(d, bytes, counted, |heaps| heaps.managed(), kind);
        match found {
            Some(_) => self.managed = total,
            None if fixed => self.space.give_plain(d, counted),
            None => {}
        }
        found
    }
}

impl Machine {
    pub(super) fn allocate_device(&self, d: u32, bytes: u64) -> Result<NonNull<u8>, DriverError> {
        let call = "cuMemAlloc";
        let mut state = self.enter(d, FaultCall::AllocateDevice, call, |p| ns(p.call_allocate_device))?;
        state.not_zero(d, call, bytes)?;
        match state.take_device_memory(d, bytes, Kind::Device) {
            Ok(found) => Ok(state.allocated(call, found, bytes)),
            Err(code) => Err(state.code(d, call, code)),
        }
    }

    pub(super) fn allocate_managed(&self, d: u32, bytes: u64) -> Result<NonNull<u8>, DriverError> {
        let call = "cuMemAllocManaged";
        let mut state = self.enter(d, FaultCall::AllocateManaged, call, |p| ns(p.call_allocate_managed))?;
        state.not_zero(d, call, bytes)?;
        if !state.profile(d).managed_memory {
            return Err(DriverError::NotSupported { what: "unified memory", device: self.device_id(d) });
        }
        match state.take_managed(d, bytes) {
            Some(found) => Ok(state.allocated(call, found, bytes)),
            None => Err(state.code(d, call, CudaErrorCode::OUT_OF_MEMORY)),
        }
    }

    pub(super) fn allocate_pinned(&self, d: u32, bytes: u64) -> Result<NonNull<u8>, DriverError> {
        let call = "cuMemAllocHost";
        // A request that exceeds the host's memory is refused before any page is pinned, so its pages take no time.
        let possible = |p: &super::Profile| if bytes as f64 > p.host_memory.value { 0 } else { bytes };
        let cost = |p: &super::Profile| ns(p.call_allocate_pinned) + per_mib(possible(p), p.pinned_per_mib);
        let mut state = self.enter(d, FaultCall::AllocatePinned, call, cost)?;
        state.not_zero(d, call, bytes)?;
        let none = state.code(d, call, CudaErrorCode::OUT_OF_MEMORY);
        let counted = bytes.checked_next_multiple_of(super::uvm::PAGE).ok_or_else(|| none.clone())?;
        let total = state.pinned.checked_add(counted).ok_or_else(|| none.clone())?;
        if total > state.profile(d).host_memory.value as u64 {
            return Err(none);
        }
        let found = state.memory.allocate(d, bytes, counted, |heaps| heaps.pinned(), || Kind::Pinned);
        let found = found.ok_or(none)?;
        state.pinned = total;
        Ok(state.allocated(call, found, bytes))
    }

    /// `cuMemFree`: frees device memory, unified memory and blocks of pools after the work that may use them is done.
    ///
    /// # Safety
    ///
    /// Only work that is already enqueued uses the memory.
    pub(super) unsafe fn free(&self, d: u32, addr: u64) -> Result<(), DriverError> {
        let call = "cuMemFree";
        let state = self.enter(d, FaultCall::Free, call, |_| 0)?;
        let bad = state.code(d, call, CudaErrorCode::INVALID_VALUE);
        let place = state.memory.find(addr, 0).map_err(|_| bad.clone())?;
        if place.offset > 0 && !matches!(place.kind, Kind::Segment(_)) {
            return Err(bad);
        }
        let (until, cost) = match place.kind {
            Kind::Managed(_) => (Until::All, state.profile(d).call_free_managed),
            Kind::Device | Kind::Segment(_) => (Until::Device(place.device), state.profile(d).call_free_device),
            Kind::Pinned | Kind::Mapped(_) | Kind::Alias(_) => return Err(bad),
        };
        let mut state = self.run(state, d, until)?;
        state.now += ns(cost);
        if let Kind::Segment(pool) = place.kind {
            if state.pools.get(pool).and_then(|pool| pool.live(addr)).is_none() {
                return Err(bad);
            }
            let live = state.pools.get(pool).and_then(|pool| pool.live(addr)).unwrap_or(0);
            state.race_uses(None, call, &[used(addr, live, Deed::Freed)]);
            state.give_to_pool(pool, addr, None);
            return Ok(());
        }
        if state.memory.at(addr).is_none_or(|found| found.serial != place.serial) {
            return Err(bad);
        }
        // SAFETY: the work that may use the memory is done, and the caller ensures that nothing else uses it.
        unsafe { state.release(call, addr) };
        Ok(())
    }

    /// `cuMemFreeHost`: frees pinned memory at once. Enqueued work that still uses the memory fails.
    ///
    /// # Safety
    ///
    /// Only work that is already enqueued uses the memory.
    pub(super) unsafe fn free_pinned(&self, d: u32, addr: u64) -> Result<(), DriverError> {
        let call = "cuMemFreeHost";
        let mut state = self.enter(d, FaultCall::Free, call, |p| ns(p.call_free_pinned))?;
        let bytes = match state.memory.at(addr) {
            Some(found) if found.kind == Kind::Pinned => found.bytes,
            _ => return Err(state.code(d, call, CudaErrorCode::INVALID_VALUE)),
        };
        state.now += per_mib(bytes, state.profile(d).pinned_per_mib);
        // SAFETY: enqueued operations check that the allocation exists before they use it. The caller ensures that
        // nothing else uses it.
        unsafe { state.release(call, addr) };
        Ok(())
    }

    /// Waits until all work enqueued on a stream is done.
    pub(super) fn synchronize_stream(&self, d: u32, stream: RawStream) -> Result<(), DriverError> {
        let call = "cuStreamSynchronize";
        let mut state = self.enter(d, FaultCall::Synchronize, call, |p| ns(p.call_synchronize))?;
        let key = state.stream(d, stream, call)?;
        let mark = state.mark(d, key);
        state.race_host_waited(key);
        self.wait(state, d, Until::Mark(mark)).map(drop)
    }

    /// Starts a query: locks the state and advances the clock by the cost of a query.
    pub(super) fn ask(&self, d: u32, call: &'static str) -> Result<Guard<'_>, DriverError> {
        self.enter(d, FaultCall::Query, call, |p| ns(p.call_query))
    }
}

impl State {
    pub(super) fn not_zero(&self, d: u32, call: &'static str, bytes: u64) -> Result<(), DriverError> {
        if bytes == 0 { Err(self.code(d, call, CudaErrorCode::INVALID_VALUE)) } else { Ok(()) }
    }

    /// Ends an allocation, and returns the memory that it took to the device or the host.
    ///
    /// # Safety
    ///
    /// Nothing uses the memory any more, except enqueued operations, which check that it exists first.
    pub(super) unsafe fn release(&mut self, call: &'static str, addr: u64) {
        // SAFETY: the caller ensures that nothing uses the memory.
        let Some(freed) = (unsafe { self.memory.free(addr) }) else { return };
        self.race_uses(None, call, &[used(addr, freed.bytes, Deed::Freed)]);
        match freed.kind {
            // An alias takes no memory, so there is nothing to return or to record.
            Kind::Alias(_) => return,
            Kind::Device | Kind::Segment(_) | Kind::Mapped(_) => self.space.give_plain(freed.device, freed.counted),
            Kind::Pinned => self.pinned -= freed.counted,
            Kind::Managed(range) => {
                self.space.remove(range);
                self.managed -= freed.counted;
                if !self.profile(freed.device).concurrent_managed_access {
                    self.space.give_plain(freed.device, freed.counted);
                }
            }
        }
        self.note_free(freed.serial);
    }
}
