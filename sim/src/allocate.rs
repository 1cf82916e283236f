//! Driver calls that allocate and free memory.

use super::cost::{ns, per_mib};
use super::injection::FaultCall;
use super::machine::Machine;
use super::memory::{Allocation, AllocationKind, Origin};
use super::profile::Profile;
use super::state::{Freed, LateFree, MachineState, Until};
use super::uvm::{BLOCK, HOST_NUMA_NODES, ManagedMode, PAGE, Processor};
use cumem_driver::{CudaErrorCode, DriverError, HugePages, PinnedProperties};
use std::alloc::Layout;
use std::ptr::NonNull;

impl MachineState {
    fn allocated(&mut self, call: &'static str, found: (u64, u64), bytes: u64) -> NonNull<u8> {
        let (addr, serial) = found;
        self.record_allocation(serial, bytes);
        self.race_allocated(None, call, addr, bytes);
        NonNull::new(addr as *mut u8).unwrap_or(NonNull::dangling())
    }

    pub(super) fn take_managed(&mut self, d: u32, bytes: u64, origin: Origin) -> Option<(u64, u64)> {
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
        let found = self.memory.allocate(d, bytes, counted, |heaps| heaps.managed(), origin, kind);
        match found {
            Some(_) => self.managed = total,
            None if fixed => self.space.give_plain(d, counted),
            None => {}
        }
        found
    }

    /// Allocates pinned memory in whole pages of `page` bytes.
    pub(super) fn take_pinned(&mut self, d: u32, bytes: u64, page: u64, origin: Origin) -> Option<(u64, u64)> {
        let counted = bytes.checked_next_multiple_of(page)?;
        let total = self.pinned.checked_add(counted)?;
        if total > self.profile(d).host_memory.value as u64 {
            return None;
        }
        let kind = || AllocationKind::Pinned;
        let found = self.memory.allocate(d, bytes, counted, |heaps| heaps.pinned(), origin, kind)?;
        self.pinned = total;
        Some(found)
    }
}

/// Returns the duration of a call that pins host memory. A request that exceeds the host's memory is refused before any
/// page is pinned, so its pages take no time.
fn pinning(profile: &Profile, bytes: u64) -> u64 {
    let possible = if bytes as f64 > profile.host_memory.value { 0 } else { bytes };
    ns(profile.call_allocate_pinned) + per_mib(possible, profile.pinned_per_mib)
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
        match state.take_managed(d, bytes, Origin::Driver) {
            Some(found) => Ok(state.allocated(call, found, bytes)),
            None => Err(state.code(d, call, CudaErrorCode::OUT_OF_MEMORY)),
        }
    }

    pub(super) fn allocate_pinned(&self, d: u32, bytes: u64) -> Result<NonNull<u8>, DriverError> {
        let call = "cuMemAllocHost";
        let mut state = self.begin_call(d, FaultCall::AllocatePinned, call, |p| pinning(p, bytes))?;
        state.not_zero(d, call, bytes)?;
        match state.take_pinned(d, bytes, PAGE, Origin::Driver) {
            Some(found) => Ok(state.allocated(call, found, bytes)),
            None => Err(state.code(d, call, CudaErrorCode::OUT_OF_MEMORY)),
        }
    }

    /// Allocates pinned memory of a NUMA node, or of huge pages of 2 MiB, of which the model has as many as fit.
    pub(super) fn allocate_pinned_pages(
        &self,
        d: u32,
        bytes: u64,
        properties: PinnedProperties,
    ) -> Result<NonNull<u8>, DriverError> {
        let call = "cuMemHostRegister";
        let mut state = self.begin_call(d, FaultCall::AllocatePinned, call, |p| pinning(p, bytes))?;
        state.not_zero(d, call, bytes)?;
        state.registers(d)?;
        if properties.numa_node.is_some_and(|node| node >= HOST_NUMA_NODES) {
            return Err(state.code(d, "mbind", CudaErrorCode::INVALID_VALUE));
        }
        let page = if properties.huge_pages == HugePages::No { PAGE } else { BLOCK };
        match state.take_pinned(d, bytes, page, Origin::Pages) {
            Some(found) => Ok(state.allocated(call, found, bytes)),
            None => Err(state.code(d, "mmap", CudaErrorCode::OUT_OF_MEMORY)),
        }
    }

    /// `cuMemHostRegister`: pins memory of the program.
    pub(super) fn register_host(&self, d: u32, addr: u64, bytes: u64) -> Result<(), DriverError> {
        let call = "cuMemHostRegister";
        let mut state = self.begin_call(d, FaultCall::AllocatePinned, call, |p| pinning(p, bytes))?;
        state.not_zero(d, call, bytes)?;
        state.registers(d)?;
        let none = state.code(d, call, CudaErrorCode::OUT_OF_MEMORY);
        let counted = bytes.checked_next_multiple_of(PAGE).ok_or_else(|| none.clone())?;
        let total = state.pinned.checked_add(counted).ok_or_else(|| none.clone())?;
        if total > state.profile(d).host_memory.value as u64 {
            return Err(none);
        }
        let Some(serial) = state.memory.register(d, addr, bytes, counted) else {
            return Err(state.code(d, call, CudaErrorCode::HOST_MEMORY_ALREADY_REGISTERED));
        };
        state.pinned = total;
        state.allocated(call, (addr, serial), bytes);
        Ok(())
    }

    /// Allocates memory of the system's allocator. In the model it is managed memory that only `free` frees.
    pub(super) fn allocate_system(&self, d: u32, layout: Layout) -> Result<NonNull<u8>, DriverError> {
        let (call, bytes) = ("calloc", layout.size() as u64);
        let mut state = self.begin_call(d, FaultCall::AllocateSystem, call, |p| ns(p.call_allocate_managed))?;
        state.not_zero(d, call, bytes)?;
        if !state.profile(d).pageable_memory_access {
            return Err(DriverError::NotSupported { what: "access to pageable memory", device: self.device_id(d) });
        }
        // The address is a multiple of the size, rounded up to a power of two, or of 2 MiB.
        if layout.align() as u64 > BLOCK {
            return Err(state.code(d, call, CudaErrorCode::INVALID_VALUE));
        }
        let bytes_with_alignment = bytes.max(layout.align() as u64);
        match state.take_managed(d, bytes_with_alignment, Origin::System) {
            Some(found) => Ok(state.allocated(call, found, bytes)),
            None => Err(state.code(d, call, CudaErrorCode::OUT_OF_MEMORY)),
        }
    }

    /// Frees memory of the system's allocator at once. Enqueued work that still uses the memory fails.
    ///
    /// # Safety
    ///
    /// Only work that is already enqueued uses the memory.
    pub(super) unsafe fn free_system(&self, d: u32, addr: u64) -> Result<(), DriverError> {
        // SAFETY: the caller ensures that only enqueued work uses the memory.
        unsafe { self.free_host(d, "free", addr, |p| ns(p.call_free_managed), |found| found.origin == Origin::System) }
    }

    /// Frees pinned memory of a NUMA node or of huge pages.
    ///
    /// # Safety
    ///
    /// Only work that is already enqueued uses the memory.
    pub(super) unsafe fn free_pinned_pages(&self, d: u32, addr: u64) -> Result<(), DriverError> {
        let call = "cuMemHostUnregister";
        // SAFETY: the caller ensures that only enqueued work uses the memory.
        unsafe { self.free_host(d, call, addr, |p| ns(p.call_free_pinned), |found| found.origin == Origin::Pages) }
    }

    /// `cuMemHostUnregister`: ends the registration of memory of the program.
    ///
    /// # Safety
    ///
    /// Only work that is already enqueued uses the memory.
    pub(super) unsafe fn unregister_host(&self, d: u32, addr: u64) -> Result<(), DriverError> {
        let call = "cuMemHostUnregister";
        // SAFETY: the caller ensures that only enqueued work uses the memory.
        unsafe { self.free_host(d, call, addr, |p| ns(p.call_free_pinned), |found| found.origin == Origin::Registered) }
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
        if memory.offset > 0 && memory.pool().is_none() || memory.origin == Origin::System {
            return Err(bad);
        }
        let (until, cost) = match memory.kind {
            // Of pinned memory only a pool's has such frees.
            AllocationKind::Pinned if memory.pool().is_some() => {
                (Until::Device(memory.device), state.profile(d).call_free_device)
            }
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
        if let Some(pool) = memory.pool() {
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
        let is_pinned = |found: &Allocation| (found.kind, found.origin) == (AllocationKind::Pinned, Origin::Driver);
        // SAFETY: the caller ensures that only enqueued work uses the memory.
        unsafe { self.free_host(d, "cuMemFreeHost", addr, |p| ns(p.call_free_pinned), is_pinned) }
    }

    /// Frees host memory at once, if `is_such` holds for the allocation at the address.
    ///
    /// # Safety
    ///
    /// Only work that is already enqueued uses the memory.
    unsafe fn free_host(
        &self,
        d: u32,
        call: &'static str,
        addr: u64,
        cost: impl Fn(&Profile) -> u64,
        is_such: impl Fn(&Allocation) -> bool,
    ) -> Result<(), DriverError> {
        let mut state = self.begin_call(d, FaultCall::Free, call, cost)?;
        let bad = state.code(d, call, CudaErrorCode::INVALID_VALUE);
        let found = state.memory.at(addr).filter(|found| is_such(found)).ok_or_else(|| bad.clone())?;
        let (bytes, serial, is_pinned) = (found.bytes, found.serial, found.kind == AllocationKind::Pinned);
        if is_pinned {
            state.now += per_mib(bytes, state.profile(d).pinned_per_mib);
        }
        // The library waits before it frees host memory, which the closure of a kernel cannot do.
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
    fn registers(&self, d: u32) -> Result<(), DriverError> {
        let device = self.devices[d as usize].id;
        match self.profile(d).host_register {
            true => Ok(()),
            false => Err(DriverError::NotSupported { what: "access to registered host memory", device }),
        }
    }

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
            match self.memory.find(addr, 0).map(|memory| memory.pool()) {
                Ok(Some(pool)) => self.give_to_pool(pool, addr, None),
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
        // An alias takes no memory, so there is nothing to return or to record.
        if !matches!(freed.kind, AllocationKind::Alias(_)) {
            self.return_memory(&freed);
            self.record_free(freed.serial);
        }
    }

    /// Returns the memory of an ended allocation to the device or the host.
    pub(super) fn return_memory(&mut self, freed: &Allocation) {
        match freed.kind {
            AllocationKind::Alias(_) => {}
            AllocationKind::Device | AllocationKind::Segment(_) | AllocationKind::Mapped(_) => {
                self.space.give_plain(freed.device, freed.counted)
            }
            AllocationKind::Pinned => self.pinned -= freed.counted,
            AllocationKind::Managed(range) => {
                self.space.remove(range);
                self.attached.remove(&range);
                self.managed -= freed.counted;
                if !self.profile(freed.device).concurrent_managed_access {
                    self.space.give_plain(freed.device, freed.counted);
                }
            }
        }
    }
}
