//! The operations of streams: their duration, and their effects on memory.

use super::access_pattern;
use super::bytes;
use super::cost::{ns, transfer};
use super::memory::{AllocationKind, MemoryRef};
use super::operation::{Action, Completion, Endpoint, EngineKind, Operation};
use super::state::{Attached, MachineState};
use super::uvm::{MigrationWork, NoMemory, Processor, RangeId, pages_of};
use cumem_driver::{Access, AccessMode, CudaErrorCode, DriverError, HostKernel, MigrationCause, Movement, Pattern};

impl MachineState {
    /// Migrates the pages that an operation needs, and returns its duration in nanoseconds.
    pub(super) fn start_effects(&mut self, d: u32, operation: &Operation) -> Result<u64, DriverError> {
        let started = self.time;
        let mut work = MigrationWork { at: started, ..self.new_work() };
        let settled = self.start_action(d, &operation.action, &mut work);
        // Pages that moved before an operation failed are recorded, too.
        self.record_steps(started, &mut work);
        self.add_statistics(d, Processor::device(d), &work);
        settled
    }

    fn start_action(&mut self, d: u32, action: &Action, work: &mut MigrationWork) -> Result<u64, DriverError> {
        let duration = match action {
            Action::Copy { dst, src, bytes, engine } => {
                self.touch_endpoint(d, src, *bytes, false, 1, work)?;
                self.touch_endpoint(d, dst, *bytes, true, 1, work)?;
                let between = match (dst.owner(), src.owner()) {
                    (Some(a), Some(b)) if a != b => self.profile(d).link_peer,
                    _ => self.profile(d).device_memory,
                };
                let profile = self.profile(d);
                let bandwidth = match (engine, dst, src) {
                    (_, Endpoint::Pageable(_), _) => profile.pageable,
                    (EngineKind::ToDevice, ..) => profile.link_to_device,
                    (EngineKind::ToHost, ..) => profile.link_to_host,
                    _ => between,
                };
                // The call that staged the source was charged for moving its bytes.
                let moved = if matches!(src, Endpoint::Staged(_)) { 0 } else { *bytes };
                ns(profile.copy_latency) + transfer(moved, bandwidth)
            }
            Action::Fill { dst, bytes, .. } => {
                let in_flight = self.profile(d).fill_in_flight.value as usize;
                self.touch_endpoint(d, dst, *bytes, true, in_flight, work)?;
                self.profile(d).kernel(0, *bytes)
            }
            Action::Kernel { kernel, ranges } => self.start_kernel(d, kernel, ranges, work)?,
            Action::Prefetch { memory, range, pages, to } => {
                let base = memory.base;
                if !self.memory.is_current(base, 0, memory) {
                    return Err(self.simulation(d, format!("memory at {base:#x} was freed before its prefetch")));
                }
                work.cause = MigrationCause::Prefetch;
                let moved = self.space.prefetch(*range, pages.clone(), *to, work);
                let statistics = &mut self.device(d).statistics;
                statistics.prefetches += 1;
                statistics.prefetched_to_device += work.to_device.bytes;
                statistics.prefetched_to_host += work.to_host.bytes - work.evicted;
                return moved
                    .map(|()| self.profile(d).prefetch_transfer(work))
                    .map_err(|NoMemory| self.code(d, "cuMemPrefetchAsync", CudaErrorCode::OUT_OF_MEMORY));
            }
            Action::Discard { memory, range, pages } => {
                let base = memory.base;
                if !self.memory.is_current(base, 0, memory) {
                    return Err(self.simulation(d, format!("memory at {base:#x} was freed before its discard")));
                }
                self.space.discard(*range, pages.clone(), work);
                0
            }
            Action::Record(_) | Action::Wait(_) | Action::Failed(..) => 0,
        };
        Ok(duration + self.profile(d).device_faults(work))
    }

    fn start_kernel(
        &mut self,
        d: u32,
        kernel: &HostKernel,
        ranges: &[Option<MemoryRef>],
        work: &mut MigrationWork,
    ) -> Result<u64, DriverError> {
        if !self.profile(d).concurrent_managed_access {
            self.space
                .return_to_device(Processor::device(d), work)
                .map_err(|NoMemory| self.no_memory(d, kernel.name))?;
        }
        let mut local = 0;
        for (access, memory) in kernel.accesses.iter().zip(ranges) {
            let bytes = access.bytes as u64;
            let Some(memory) = memory else {
                work.remote += bytes;
                continue;
            };
            if !self.memory.is_current(access.addr, bytes, memory) {
                let what = format!("kernel {} uses {bytes} bytes at {:#x}, which were freed", kernel.name, access.addr);
                return Err(self.simulation(d, what));
            }
            match memory.kind {
                AllocationKind::Managed(range) => {
                    self.not_attached_to_host(d, kernel.name, range)?;
                    let write = access.mode == AccessMode::Write;
                    let order = (&access.pattern, memory.offset, bytes);
                    let touched = self.touch(d, range, order, write, kernel.in_flight, work);
                    touched.map_err(|NoMemory| self.no_memory(d, kernel.name))?;
                    local += access_pattern::bytes(&access.pattern, bytes);
                }
                AllocationKind::Pinned => work.remote += access_pattern::bytes(&access.pattern, bytes),
                _ if memory.device != d => work.remote += access_pattern::bytes(&access.pattern, bytes),
                _ => local += access_pattern::bytes(&access.pattern, bytes),
            }
        }
        self.device(d).statistics.kernels += 1;
        Ok(self.profile(d).kernel(kernel.operations, local))
    }

    /// Accesses bytes of managed memory as device `d`, in the order of a pattern.
    fn touch(
        &mut self,
        d: u32,
        range: RangeId,
        (pattern, offset, bytes): (&Pattern, u64, u64),
        write: bool,
        in_flight: usize,
        work: &mut MigrationWork,
    ) -> Result<(), NoMemory> {
        let by = Processor::device(d);
        if in_flight <= 1 && *pattern == Pattern::Sequential {
            return self.space.touch(range, pages_of(offset, bytes), by, write, work);
        }
        self.space.touch_in_order(range, access_pattern::pages(pattern, offset, bytes), by, write, in_flight, work)
    }

    /// Accesses managed memory for a copy or fill, as the device: pages that are not resident there fault.
    fn touch_endpoint(
        &mut self,
        d: u32,
        endpoint: &Endpoint,
        bytes: u64,
        write: bool,
        in_flight: usize,
        work: &mut MigrationWork,
    ) -> Result<(), DriverError> {
        let Endpoint::Simulated(addr, memory) = endpoint else { return Ok(()) };
        if !self.memory.is_current(*addr, bytes, memory) {
            return Err(self.simulation(d, format!("a copy or fill uses {bytes} bytes at {addr:#x}, which were freed")));
        }
        if let AllocationKind::Managed(range) = memory.kind {
            self.not_attached_to_host(d, "a copy or fill", range)?;
            let touched = self.touch(d, range, (&Pattern::Sequential, memory.offset, bytes), write, in_flight, work);
            touched.map_err(|NoMemory| self.no_memory(d, "a copy or fill"))?;
        }
        Ok(())
    }

    /// Refuses an access of the device to memory that is attached to the host.
    fn not_attached_to_host(&self, d: u32, user: &str, range: RangeId) -> Result<(), DriverError> {
        match self.attached.get(&range) {
            Some(Attached::Host) => {
                let at = self.memory.base_of(range);
                Err(self.simulation(d, format!("{user} uses unified memory at {at:#x}, which is attached to the host")))
            }
            _ => Ok(()),
        }
    }

    fn no_memory(&self, d: u32, user: &str) -> DriverError {
        let message = format!(
            "a page fault of {user} found no device memory, and no unified memory to evict; \
             a real device would lose its context"
        );
        self.simulation(d, message)
    }

    /// Applies the effects of an operation to memory. A kernel is returned, for the caller to run.
    pub(super) fn end_effects(&mut self, d: u32, action: Action) -> Completion {
        match action {
            Action::Copy { dst, src, bytes, engine } => {
                let (Some(to), Some(from)) = (self.address(&dst, bytes), self.address(&src, bytes)) else {
                    return Completion::Failed(
                        self.simulation(d, "memory was freed during a copy that uses it".into()),
                    );
                };
                // SAFETY: the source is allocated, or is not simulated memory;
                // the caller of the copy ensures that nothing writes to it.
                unsafe { self.memory.copy_to_aliases(from, bytes) };
                match src {
                    // SAFETY: the destination is allocated; the caller of the copy ensures that nothing else uses it.
                    Endpoint::Staged(captured) => unsafe { bytes::write(to, &captured) },
                    // SAFETY: both ranges are allocated, or are host memory that the caller of the copy keeps valid,
                    // because it is still in the call.
                    _ => unsafe { bytes::copy(to, from, bytes as usize) },
                }
                // SAFETY: the destination is allocated; the caller of the copy ensures that nothing else uses it.
                unsafe { self.memory.copy_from_aliases(to, bytes) };
                let statistics = &mut self.device(d).statistics;
                *match engine {
                    EngineKind::ToDevice => &mut statistics.copied_to_device,
                    EngineKind::ToHost => &mut statistics.copied_to_host,
                    _ => &mut statistics.copied_between,
                } += bytes;
                let copied = match engine {
                    EngineKind::ToDevice => Some((true, to)),
                    EngineKind::ToHost => Some((false, from)),
                    _ => None,
                };
                if let Some((to_device, addr)) = copied {
                    self.watchers.notify(vec![Movement::Copied { to_device, addr, bytes }]);
                }
                Completion::Done
            }
            Action::Fill { dst, value, bytes } => {
                let Some(to) = self.address(&dst, bytes) else {
                    return Completion::Failed(
                        self.simulation(d, "memory was freed during a fill that uses it".into()),
                    );
                };
                // SAFETY: the range is allocated; the caller of the fill ensures that nothing else uses it.
                unsafe { bytes::fill(to, value, bytes as usize) };
                // SAFETY: the range is allocated; the caller of the fill ensures that nothing else uses it.
                unsafe { self.memory.copy_from_aliases(to, bytes) };
                self.device(d).statistics.filled += bytes;
                Completion::Done
            }
            Action::Kernel { kernel, ranges } => {
                let gone = |access: &Access, memory: &Option<MemoryRef>| {
                    memory.is_some_and(|memory| !self.memory.is_current(access.addr, access.bytes as u64, &memory))
                };
                let mut used = kernel.accesses.iter().zip(&ranges);
                match used.find(|(access, memory)| gone(access, memory)) {
                    None => {
                        for access in &kernel.accesses {
                            // SAFETY: the range is allocated, or is not simulated memory. The launcher ensures
                            // that nothing else uses it, and that no range that the kernel writes overlaps another of
                            // its ranges.
                            unsafe { self.memory.copy_to_aliases(access.addr, access.bytes as u64) };
                        }
                        Completion::Kernel(kernel)
                    }
                    Some((access, _)) => {
                        let what = format!("kernel {} uses memory at {:#x}, which was freed", kernel.name, access.addr);
                        let error = self.simulation(d, what);
                        Completion::Discarded(kernel, Some(error))
                    }
                }
            }
            Action::Failed(_, Some(kernel)) => Completion::Discarded(kernel, None),
            Action::Prefetch { .. } | Action::Discard { .. } => Completion::Done,
            Action::Record(_) | Action::Wait(_) | Action::Failed(..) => Completion::Done,
        }
    }

    /// Returns the address of one end of a copy, or `None` if its memory was freed.
    fn address(&self, endpoint: &Endpoint, bytes: u64) -> Option<u64> {
        match endpoint {
            Endpoint::Simulated(addr, memory) => self.memory.is_current(*addr, bytes, memory).then_some(*addr),
            Endpoint::Pageable(addr) => Some(*addr),
            Endpoint::Staged(_) => Some(0),
        }
    }
}
