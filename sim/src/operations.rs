//! The operations of streams: how long they take, and what they do to memory.

use super::bytes;
use super::cost::{ns, transfer};
use super::memory::{Kind, Place};
use super::operation::{EngineKind, Operation, Settled, Side, What};
use super::order;
use super::state::State;
use super::uvm::{NoMemory, Processor, RangeId, Work, pages_of};
use cumem_driver::{Access, AccessMode, CudaErrorCode, DriverError, HostKernel, MigrationCause, Movement, Pattern};

impl State {
    /// Migrates the pages that an operation needs, and returns its duration in nanoseconds.
    pub(super) fn settle(&mut self, d: u32, operation: &Operation) -> Result<u64, DriverError> {
        let started = self.time;
        let mut work = Work { at: started, ..self.new_work() };
        let settled = self.settle_work(d, &operation.what, &mut work);
        // Pages that moved before an operation failed are recorded, too.
        self.note_steps(started, &mut work);
        self.account(d, Processor::device(d), &work);
        settled
    }

    fn settle_work(&mut self, d: u32, what: &What, work: &mut Work) -> Result<u64, DriverError> {
        let duration = match what {
            What::Copy { dst, src, bytes, engine } => {
                self.touch_side(d, src, *bytes, false, 1, work)?;
                self.touch_side(d, dst, *bytes, true, 1, work)?;
                let between = match (dst.owner(), src.owner()) {
                    (Some(a), Some(b)) if a != b => self.profile(d).link_peer,
                    _ => self.profile(d).device_memory,
                };
                let profile = self.profile(d);
                let bandwidth = match (engine, dst, src) {
                    (_, Side::Pageable(_), _) => profile.pageable,
                    (EngineKind::ToDevice, ..) => profile.link_to_device,
                    (EngineKind::ToHost, ..) => profile.link_to_host,
                    _ => between,
                };
                // The call that captured the source was charged for moving its bytes.
                let moved = if matches!(src, Side::Captured(_)) { 0 } else { *bytes };
                ns(profile.copy_latency) + transfer(moved, bandwidth)
            }
            What::Fill { dst, bytes, .. } => {
                let in_flight = self.profile(d).fill_in_flight.value as usize;
                self.touch_side(d, dst, *bytes, true, in_flight, work)?;
                self.profile(d).kernel(0, *bytes)
            }
            What::Kernel { kernel, places } => self.settle_kernel(d, kernel, places, work)?,
            What::Prefetch { place, range, pages, to } => {
                let base = place.base;
                if !self.memory.still(base, 0, place) {
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
            What::Record(_) | What::Wait(_) | What::Failed(..) => 0,
        };
        Ok(duration + self.profile(d).device_faults(work))
    }

    fn settle_kernel(
        &mut self,
        d: u32,
        kernel: &HostKernel,
        places: &[Option<Place>],
        work: &mut Work,
    ) -> Result<u64, DriverError> {
        if !self.profile(d).concurrent_managed_access {
            self.space.bring_home(Processor::device(d), work).map_err(|NoMemory| self.no_memory(d, kernel.name))?;
        }
        let mut local = 0;
        for (access, place) in kernel.accesses.iter().zip(places) {
            let bytes = access.bytes as u64;
            let Some(place) = place else {
                work.remote += bytes;
                continue;
            };
            if !self.memory.still(access.addr, bytes, place) {
                let what = format!("kernel {} uses {bytes} bytes at {:#x}, which were freed", kernel.name, access.addr);
                return Err(self.simulation(d, what));
            }
            match place.kind {
                Kind::Managed(range) => {
                    let write = access.mode == AccessMode::Write;
                    let order = (&access.pattern, place.offset, bytes);
                    let touched = self.touch(d, range, order, write, kernel.in_flight, work);
                    touched.map_err(|NoMemory| self.no_memory(d, kernel.name))?;
                    local += order::bytes(&access.pattern, bytes);
                }
                Kind::Pinned => work.remote += order::bytes(&access.pattern, bytes),
                _ if place.device != d => work.remote += order::bytes(&access.pattern, bytes),
                _ => local += order::bytes(&access.pattern, bytes),
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
        work: &mut Work,
    ) -> Result<(), NoMemory> {
        let by = Processor::device(d);
        if in_flight <= 1 && *pattern == Pattern::Sequential {
            return self.space.touch(range, pages_of(offset, bytes), by, write, work);
        }
        self.space.touch_in_order(range, order::pages(pattern, offset, bytes), by, write, in_flight, work)
    }

    /// Accesses managed memory for a copy or fill, as the device: pages that are not resident there fault.
    fn touch_side(
        &mut self,
        d: u32,
        side: &Side,
        bytes: u64,
        write: bool,
        in_flight: usize,
        work: &mut Work,
    ) -> Result<(), DriverError> {
        let Side::Simulated(addr, place) = side else { return Ok(()) };
        if !self.memory.still(*addr, bytes, place) {
            return Err(self.simulation(d, format!("a copy or fill uses {bytes} bytes at {addr:#x}, which were freed")));
        }
        if let Kind::Managed(range) = place.kind {
            let touched = self.touch(d, range, (&Pattern::Sequential, place.offset, bytes), write, in_flight, work);
            touched.map_err(|NoMemory| self.no_memory(d, "a copy or fill"))?;
        }
        Ok(())
    }

    fn no_memory(&self, d: u32, who: &str) -> DriverError {
        let message = format!(
            "a page fault of {who} found no device memory, and no unified memory to evict; \
             a real device would lose its context"
        );
        self.simulation(d, message)
    }

    /// Applies the effects of an operation to memory. A kernel is returned, for the caller to run.
    pub(super) fn settle_bytes(&mut self, d: u32, what: What) -> Settled {
        match what {
            What::Copy { dst, src, bytes, engine } => {
                let (Some(to), Some(from)) = (self.address(&dst, bytes), self.address(&src, bytes)) else {
                    return Settled::Failed(self.simulation(d, "memory was freed during a copy that uses it".into()));
                };
                // SAFETY: the source is allocated, or is not simulated memory;
                // the caller of the copy ensures that nothing writes to it.
                unsafe { self.memory.fetch(from, bytes) };
                match src {
                    // SAFETY: the destination is allocated; the caller of the copy ensures that nothing else uses it.
                    Side::Captured(captured) => unsafe { bytes::write(to, &captured) },
                    // SAFETY: both ranges are allocated, or are host memory that the caller of the copy keeps valid,
                    // because it is still in the call.
                    _ => unsafe { bytes::copy(to, from, bytes as usize) },
                }
                // SAFETY: the destination is allocated; the caller of the copy ensures that nothing else uses it.
                unsafe { self.memory.bring_home(to, bytes) };
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
                    self.watchers.tell(&[Movement::Copied { to_device, addr, bytes }]);
                }
                Settled::Done
            }
            What::Fill { dst, value, bytes } => {
                let Some(to) = self.address(&dst, bytes) else {
                    return Settled::Failed(self.simulation(d, "memory was freed during a fill that uses it".into()));
                };
                // SAFETY: the range is allocated; the caller of the fill ensures that nothing else uses it.
                unsafe { bytes::fill(to, value, bytes as usize) };
                // SAFETY: the range is allocated; the caller of the fill ensures that nothing else uses it.
                unsafe { self.memory.bring_home(to, bytes) };
                self.device(d).statistics.filled += bytes;
                Settled::Done
            }
            What::Kernel { kernel, places } => {
                let gone = |access: &Access, place: &Option<Place>| {
                    place.is_some_and(|place| !self.memory.still(access.addr, access.bytes as u64, &place))
                };
                let mut used = kernel.accesses.iter().zip(&places);
                match used.find(|(access, place)| gone(access, place)) {
                    None => {
                        for access in &kernel.accesses {
                            // SAFETY: the range is allocated, or is not simulated memory. The launcher ensures
                            // that nothing else uses it, and that no range that the kernel writes overlaps another of
                            // its ranges.
                            unsafe { self.memory.fetch(access.addr, access.bytes as u64) };
                        }
                        Settled::Kernel(kernel)
                    }
                    Some((access, _)) => {
                        let what = format!("kernel {} uses memory at {:#x}, which was freed", kernel.name, access.addr);
                        let error = self.simulation(d, what);
                        Settled::Discarded(kernel, Some(error))
                    }
                }
            }
            What::Failed(_, Some(kernel)) => Settled::Discarded(kernel, None),
            What::Prefetch { .. } | What::Record(_) | What::Wait(_) | What::Failed(..) => Settled::Done,
        }
    }

    /// Returns the address of one end of a copy, or `None` if its memory was freed.
    fn address(&self, side: &Side, bytes: u64) -> Option<u64> {
        match side {
            Side::Simulated(addr, place) => self.memory.still(*addr, bytes, place).then_some(*addr),
            Side::Pageable(addr) => Some(*addr),
            Side::Captured(_) => Some(0),
        }
    }
}
