//! Driver calls that allocate and free memory.

use super::cost::{ns, per_mib};
use super::injection::FaultCall;
use super::machine::Machine;
use super::memory::AllocationKind;
use super::profile::Profile;
use super::state::{Freed, LateFree, MachineState, Until};
use super::uvm::{BLOCK, ManagedMode, PAGE, Processor};
use cumem_driver::{CudaErrorCode, DriverError};
use std::ptr::NonNull;

impl MachineState {
    fn allocated(&mut self, call: &'static str, found: (u64, u64), bytes: u64) -> NonNull<u8> {
        let (addr, serial) = found;
        self.record_allocation(serial, bytes);
        self.race_allocated(None, call, addr, bytes);
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
        let mode = if fixed { ManagedMode::Fixed(at) } else { ManagedMode::Concurrent };
        let space = &mut self.space;
        let kind = || AllocationKind::Managed(space.add(counted, mode));
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
        let mut state = self.begin_call(d, FaultCall::AllocateDevice, call, |p| ns(p.call_allocate_device))?;
        state.not_zero(d, call, bytes)?;
        match state.take_device_memory(d, bytes, AllocationKind::Device) {
            Ok(found) => Ok(state.allocated(call, found, bytes)),
            Err(code) => Err(state.code(d, call, code)),
        }
    }

    pub(super) fn allocate_managed(&self, d: u32, bytes: u64) -> Result<NonNull<u8>, DriverError> {
        let call = "cuMemAllocManaged";
        let mut state = self.begin_call(d, FaultCall::AllocateManaged, call, |p| ns(p.call_allocate_managed))?;
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
        let possible = |p: &Profile| if bytes as f64 > p.host_memory.value { 0 } else { bytes };
        let cost = |p: &Profile| ns(p.call_allocate_pinned) + per_mib(possible(p), p.pinned_per_mib);
        let mut state = self.begin_call(d, FaultCall::AllocatePinned, call, cost)?;
        state.not_zero(d, call, bytes)?;
        let none = state.code(d, call, CudaErrorCode::OUT_OF_MEMORY);
        let counted = bytes.checked_next_multiple_of(PAGE).ok_or_else(|| none.clone())?;
        let total = state.pinned.checked_add(counted).ok_or_else(|| none.clone())?;
        if total > state.profile(d).host_memory.value as u64 {
            return Err(none);
        }
        let found = state.memory.allocate(d, bytes, counted, |heaps| heaps.pinned(), || AllocationKind::Pinned);
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
        let state = self.begin_call(d, FaultCall::Free, call, |_| 0)?;
        let bad = state.code(d, call, CudaErrorCode::INVALID_VALUE);
        let memory = state.memory.find(addr, 0).map_err(|_| bad.clone())?;
        if memory.offset > 0 && !matches!(memory.kind, AllocationKind::Segment(_)) {
            return Err(bad);
        }
        let (until, cost) = match memory.kind {
            AllocationKind::Managed(_) => (Until::All, state.profile(d).call_free_managed),
            AllocationKind::Device | AllocationKind::Segment(_) => {
                (Until::Device(memory.device), state.profile(d).call_free_device)
            }
            AllocationKind::Pinned | AllocationKind::Mapped(_) | AllocationKind::Alias(_) => return Err(bad),
        };
        let mut state = state;
        if state.must_free_late(until) {
            return if state.free_later(addr, Freed::Memory(memory.serial), until) { Ok(()) } else { Err(bad) };
        }
        state = self.run(state, d, until)?;
        state.now += ns(cost);
        if let AllocationKind::Segment(pool) = memory.kind {
            if state.pools.get(pool).and_then(|pool| pool.live(addr)).is_none() {
                return Err(bad);
            }
            let live = state.pools.get(pool).and_then(|pool| pool.live(addr)).unwrap_or(0);
            state.race_freed(None, call, addr, live);
            state.give_to_pool(pool, addr, None);
            return Ok(());
        }
        if state.memory.at(addr).is_none_or(|found| found.serial != memory.serial) {
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
        let mut state = self.begin_call(d, FaultCall::Free, call, |p| ns(p.call_free_pinned))?;
        let bad = state.code(d, call, CudaErrorCode::INVALID_VALUE);
        let (bytes, serial) = match state.memory.at(addr) {
            Some(found) if found.kind == AllocationKind::Pinned => (found.bytes, found.serial),
            _ => return Err(bad),
        };
        state.now += per_mib(bytes, state.profile(d).pinned_per_mib);
        // The library waits before it frees pinned memory, which the closure of a kernel cannot do.
        if state.must_free_late(Until::All) {
            return if state.free_later(addr, Freed::Memory(serial), Until::All) { Ok(()) } else { Err(bad) };
        }
        // SAFETY: enqueued operations check that the allocation exists before they use it. The caller ensures that
        // nothing else uses it.
        unsafe { state.release(call, addr) };
        Ok(())
    }
}

impl MachineState {
    /// Reports whether the closure of a kernel frees something that `until` has to come before. The closure cannot wait,
    /// because its own kernel may be the work to wait for.
    pub(super) fn must_free_late(&self, until: Until) -> bool {
        self.within_kernel() && !self.reached(until)
    }

    /// Frees something after the work of `until`. Returns false if it is to be freed already.
    pub(super) fn free_later(&mut self, addr: u64, freed: Freed, until: Until) -> bool {
        let is_new = !self.frees.iter().any(|free| (free.addr, free.freed) == (addr, freed));
        self.frees.extend(is_new.then_some(LateFree { addr, freed, until }));
        is_new
    }

    /// Frees what closures of kernels freed, as soon as the work that may use the memory is done.
    pub(super) fn free_late(&mut self) {
        let (due, later) = std::mem::take(&mut self.frees).into_iter().partition(|free| self.reached(free.until));
        self.frees = later;
        let due: Vec<LateFree> = due;
        for LateFree { addr, freed, .. } in due {
            let serial = match freed {
                Freed::Memory(serial) => serial,
                Freed::Addresses(d, bytes) => {
                    self.memory.unreserve(d, addr, bytes);
                    continue;
                }
            };
            match self.memory.find(addr, 0).map(|memory| memory.kind) {
                Ok(AllocationKind::Segment(pool)) => self.give_to_pool(pool, addr, None),
                _ if self.memory.at(addr).is_some_and(|found| found.serial == serial) => {
                    // SAFETY: the work that may use the memory is done. The caller of the free ensured that nothing else
                    // uses it.
                    unsafe { self.release("cuMemFree", addr) };
                }
                _ => {}
            }
        }
    }

    /// Ends an allocation, and returns the memory that it took to the device or the host.
    ///
    /// # Safety
    ///
    /// Nothing uses the memory any more, except enqueued operations, which check that it exists first.
    pub(super) unsafe fn release(&mut self, call: &'static str, addr: u64) {
        // SAFETY: the caller ensures that nothing uses the memory.
        let Some(freed) = (unsafe { self.memory.free(addr) }) else { return };
        self.race_freed(None, call, addr, freed.bytes);
        match freed.kind {
            // An alias takes no memory, so there is nothing to return or to record.
            AllocationKind::Alias(_) => return,
            AllocationKind::Device | AllocationKind::Segment(_) | AllocationKind::Mapped(_) => {
                self.space.give_plain(freed.device, freed.counted)
            }
            AllocationKind::Pinned => self.pinned -= freed.counted,
            AllocationKind::Managed(range) => {
                self.space.remove(range);
                self.managed -= freed.counted;
                if !self.profile(freed.device).concurrent_managed_access {
                    self.space.give_plain(freed.device, freed.counted);
                }
            }
        }
        self.record_free(freed.serial);
    }
}
