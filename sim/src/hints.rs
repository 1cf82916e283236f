//! Prefetch, advice, discards, attachments, range attributes and accesses of the host: the checks of each call, before `uvm` does the work.
#![forbid(unsafe_code)]

use super::cost::ns;
use super::handles::Key;
use super::injection::FaultCall;
use super::machine::Machine;
use super::memory::{AllocationKind, MemoryRef, Origin, RangeError};
use super::operation::Action;
use super::races::{AccessKind, used_range};
use super::state::{Attached, MachineState, Until};
use super::uvm::{BLOCK, HOST_NUMA_NODES, MigrationWork, Processor, RangeId, pages_of};
use cumem_driver::{
    Advice, CudaErrorCode, DriverError, Location, PrefetchRange, RangeAttributes, RawStream, StreamAttach,
};

impl MachineState {
    /// Returns the allocation of unified memory that holds a range. Any other range is an invalid value, as in the
    /// driver.
    fn managed(&self, d: u32, call: &'static str, addr: u64, bytes: u64) -> Result<(RangeId, MemoryRef), DriverError> {
        match self.memory.find(addr, bytes) {
            Ok(memory) if bytes > 0 => match memory.kind {
                AllocationKind::Managed(range) => Ok((range, memory)),
                _ => Err(self.code(d, call, CudaErrorCode::INVALID_VALUE)),
            },
            _ => Err(self.code(d, call, CudaErrorCode::INVALID_VALUE)),
        }
    }

    /// Returns the processor at a location. A device must exist and have concurrent managed access. Which code the
    /// driver returns for a device without it is not documented; the simulator returns `INVALID_DEVICE`.
    fn processor(&self, d: u32, call: &'static str, location: Location) -> Result<Processor, DriverError> {
        match location {
            Location::Host => Ok(Processor::HOST),
            Location::HostNuma(node) if node < HOST_NUMA_NODES => Ok(Processor::HOST),
            Location::Device(id) => {
                let known = self.devices.get(id.ordinal() as usize).is_some_and(|device| device.id == id);
                match known && self.profile(id.ordinal()).concurrent_managed_access {
                    true => Ok(Processor::device(id.ordinal())),
                    false => Err(self.code(d, call, CudaErrorCode::INVALID_DEVICE)),
                }
            }
            // Other nodes of host memory, and kinds of locations that this model does not have.
            _ => Err(self.code(d, call, CudaErrorCode::INVALID_VALUE)),
        }
    }

    fn concurrent(&self, d: u32, call: &'static str) -> Result<(), DriverError> {
        match self.profile(d).concurrent_managed_access {
            true => Ok(()),
            false => Err(self.code(d, call, CudaErrorCode::INVALID_DEVICE)),
        }
    }

    /// Enqueues a prefetch. The call blocks the host for a large part of the prefetch, as on a real device.
    fn enqueue_prefetch(&mut self, d: u32, key: Key, (range, memory): (RangeId, MemoryRef), bytes: u64, to: Processor) {
        let pages = pages_of(memory.offset, bytes);
        let blocks = (memory.offset + bytes).div_ceil(BLOCK) - memory.offset / BLOCK;
        let (copied, fresh) = self.space.to_prefetch(range, pages.clone(), to);
        let (first, rest) = self.profile(d).prefetch_call(blocks, copied, fresh, to == Processor::HOST);
        self.order_with_legacy(d, key);
        self.now += first;
        let ready = self.now;
        self.enqueue(key, ready, "cuMemPrefetchAsync", Action::Prefetch { memory, range, pages, to });
        self.now += rest;
    }
}

impl MachineState {
    /// Reports whether unfinished work of a device without concurrent managed access keeps the host from a range.
    fn keeps_host_away(&self, owner: u32, range: RangeId) -> bool {
        match self.attached.get(&range) {
            Some(Attached::Host) => false,
            Some(Attached::Stream(key)) => self.streams.get(*key).is_some_and(|stream| !stream.is_idle()),
            None => self.devices[owner as usize].outstanding > 0,
        }
    }
}

impl Machine {
    pub(super) fn prefetch(
        &self,
        d: u32,
        addr: u64,
        bytes: u64,
        to: Location,
        stream: RawStream,
    ) -> Result<(), DriverError> {
        let call = "cuMemPrefetchAsync";
        let mut state = self.begin_call(d, FaultCall::PrefetchAsync, call, |_| 0)?;
        let managed = state.managed(d, call, addr, bytes)?;
        state.concurrent(d, call)?;
        let processor = state.processor(d, call, to)?;
        let key = state.stream(d, stream, call)?;
        state.not_captured(d, key, call)?;
        state.space.record_prefetch_target(managed.0, pages_of(managed.1.offset, bytes), to);
        state.enqueue_prefetch(d, key, managed, bytes, processor);
        Ok(())
    }

    /// Checks all ranges before it enqueues the first. The call costs as much as single prefetches, because a batch was
    /// not measured.
    pub(super) fn prefetch_batch(
        &self,
        d: u32,
        ranges: &[PrefetchRange],
        stream: RawStream,
    ) -> Result<(), DriverError> {
        let call = "cuMemPrefetchBatchAsync";
        let mut state = self.begin_call(d, FaultCall::PrefetchAsync, call, |_| 0)?;
        if stream == RawStream::LEGACY {
            return Err(state.code(d, call, CudaErrorCode::INVALID_VALUE));
        }
        if !self.profiles.iter().all(|profile| profile.concurrent_managed_access) {
            return Err(state.code(d, call, CudaErrorCode::NOT_SUPPORTED));
        }
        let check = |range: &PrefetchRange| {
            let managed = state.managed(d, call, range.addr, range.bytes as u64)?;
            Ok((managed, state.processor(d, call, range.to)?))
        };
        let checked: Vec<_> = ranges.iter().map(check).collect::<Result<_, DriverError>>()?;
        let key = state.stream(d, stream, call)?;
        state.not_captured(d, key, call)?;
        for (range, (managed, processor)) in ranges.iter().zip(checked) {
            let bytes = range.bytes as u64;
            state.space.record_prefetch_target(managed.0, pages_of(managed.1.offset, bytes), range.to);
            state.enqueue_prefetch(d, key, managed, bytes, processor);
        }
        Ok(())
    }

    pub(super) fn advise(&self, d: u32, addr: u64, bytes: u64, advice: Advice) -> Result<(), DriverError> {
        let call = "cuMemAdvise";
        let mut state = self.begin_call(d, FaultCall::Advise, call, |profile| ns(profile.call_advise))?;
        let (range, memory) = state.managed(d, call, addr, bytes)?;
        state.concurrent(d, call)?;
        let location = advice.location().unwrap_or(Location::Host);
        let by_node = matches!(advice, Advice::SetAccessedBy(_) | Advice::UnsetAccessedBy(_));
        if by_node && matches!(location, Location::HostNuma(_)) {
            return Err(state.code(d, call, CudaErrorCode::INVALID_VALUE));
        }
        let processor = state.processor(d, call, location)?;
        let mut work = state.new_work();
        state.space.advise(range, pages_of(memory.offset, bytes), advice, processor, &mut work);
        state.add_statistics(d, Processor::HOST, &work);
        Ok(())
    }

    pub(super) fn range_attributes(&self, d: u32, addr: u64, bytes: u64) -> Result<RangeAttributes, DriverError> {
        let call = "cuMemRangeGetAttributes";
        let state = self.begin_call(d, FaultCall::Query, call, |profile| ns(profile.call_query))?;
        let (range, memory) = state.managed(d, call, addr, bytes)?;
        let common_advice = state.space.common_advice(range, pages_of(memory.offset, bytes));
        let processors = (0..state.devices.len() as u32).map(Processor::device).chain([Processor::HOST]);
        let accessed_by = processors.filter(|p| common_advice.accessed_by(*p)).map(|p| state.location(p)).collect();
        let mut attributes = RangeAttributes::default();
        attributes.read_mostly = common_advice.read_mostly;
        attributes.preferred_location = common_advice.preferred;
        attributes.accessed_by = accessed_by;
        attributes.last_prefetch_location = common_advice.last_prefetch;
        Ok(attributes)
    }

    /// Waits for all work, then discards the contents of a range (`cuMemDiscardBatchAsync`).
    pub(super) fn discard(&self, d: u32, addr: u64, bytes: u64) -> Result<(), DriverError> {
        let call = "cuMemDiscardBatchAsync";
        let state = self.begin_call(d, FaultCall::Advise, call, |profile| ns(profile.call_advise))?;
        let mut state = self.run(state, d, Until::All)?;
        let (range, memory) = state.managed(d, call, addr, bytes)?;
        if state.profiles.iter().any(|profile| !profile.concurrent_managed_access) {
            return Err(state.code(d, call, CudaErrorCode::NOT_SUPPORTED));
        }
        let mut work = state.new_work();
        state.space.discard(range, pages_of(memory.offset, bytes), &mut work);
        state.add_statistics(d, Processor::HOST, &work);
        Ok(())
    }

    /// Enqueues the discard of ranges. All ranges are checked before the first is enqueued.
    pub(super) fn discard_batch(&self, d: u32, ranges: &[(u64, usize)], stream: RawStream) -> Result<(), DriverError> {
        let call = "cuMemDiscardBatchAsync";
        let mut state = self.begin_call(d, FaultCall::Advise, call, |profile| ns(profile.call_advise))?;
        if stream == RawStream::LEGACY {
            return Err(state.code(d, call, CudaErrorCode::INVALID_VALUE));
        }
        if !self.profiles.iter().all(|profile| profile.concurrent_managed_access) {
            return Err(state.code(d, call, CudaErrorCode::NOT_SUPPORTED));
        }
        let check = |&(addr, bytes): &(u64, usize)| state.managed(d, call, addr, bytes as u64);
        let checked: Vec<_> = ranges.iter().map(check).collect::<Result<_, DriverError>>()?;
        let key = state.stream(d, stream, call)?;
        state.not_captured(d, key, call)?;
        let uses: Vec<_> =
            ranges.iter().map(|&(addr, bytes)| used_range(addr, bytes as u64, AccessKind::Written)).collect();
        state.race_uses(Some(key), call, &uses);
        for (&(_, bytes), (range, memory)) in ranges.iter().zip(checked) {
            let (ready, pages) = (state.now, pages_of(memory.offset, bytes as u64));
            state.enqueue(key, ready, call, Action::Discard { memory, range, pages });
        }
        Ok(())
    }

    /// Attaches a whole allocation of unified memory (`cuStreamAttachMemAsync`). The model waits for the work of the
    /// stream, after which the attachment holds.
    pub(super) fn attach(
        &self,
        d: u32,
        addr: u64,
        bytes: u64,
        to: StreamAttach,
        stream: RawStream,
    ) -> Result<(), DriverError> {
        let call = "cuStreamAttachMemAsync";
        let mut state = self.begin_call(d, FaultCall::Advise, call, |profile| ns(profile.call_advise))?;
        let invalid = state.code(d, call, CudaErrorCode::INVALID_VALUE);
        let (range, memory) = state.managed(d, call, addr, bytes)?;
        let is_default = [RawStream::LEGACY, RawStream::PER_THREAD, RawStream(0)].contains(&stream);
        let is_whole = memory.offset == 0 && memory.bytes == bytes && memory.origin == Origin::Driver;
        if !is_whole || (is_default && to == StreamAttach::Single) {
            return Err(invalid);
        }
        let key = state.stream(d, stream, call)?;
        state.not_captured(d, key, call)?;
        let point = state.end_of_work(d, key);
        let mut state = self.run(state, d, Until::Point(point))?;
        match to {
            StreamAttach::Global => drop(state.attached.remove(&range)),
            StreamAttach::Host => drop(state.attached.insert(range, Attached::Host)),
            StreamAttach::Single => drop(state.attached.insert(range, Attached::Stream(key))),
        }
        Ok(())
    }

    /// Simulates an access of the host. Pages of unified memory that the host cannot reach migrate to it, one fault
    /// after the other.
    pub(super) fn host_access(&self, d: u32, addr: u64, bytes: u64, write: bool) -> Result<(), DriverError> {
        let mut state = self.begin_call(d, FaultCall::HostAccess, "an access of the host", |_| 0)?;
        let uses = [used_range(addr, bytes, if write { AccessKind::Written } else { AccessKind::Read })];
        let memory = match state.memory.find(addr, bytes) {
            Ok(memory) => memory,
            // Memory that is not the simulator's needs no migration.
            Err(RangeError::Unknown) => return Ok(()),
            Err(bad) => {
                state.race_refused(None, "the host", &uses);
                return Err(state.range_error(d, "the host", addr, bytes, bad));
            }
        };
        state.race_uses(None, "the host", &uses);
        state.memory_at(d, "the host", addr, bytes)?;
        let range = match memory.kind {
            AllocationKind::Managed(range) => range,
            AllocationKind::Pinned => return Ok(()),
            AllocationKind::Device
            | AllocationKind::Segment(_)
            | AllocationKind::Mapped(_)
            | AllocationKind::Alias(_) => {
                return Err(state.simulation(d, format!("the host touched device memory at {addr:#x}")));
            }
        };
        let owner = memory.device;
        if !state.profile(owner).concurrent_managed_access && state.keeps_host_away(owner, range) {
            let message = format!(
                "the host touched unified memory at {addr:#x} while the device had unfinished work; without \
                 concurrent managed access the process would have crashed"
            );
            return Err(state.simulation(owner, message));
        }
        // Host and device share one memory, so nothing migrates.
        if state.profile(owner).integrated && !state.profile(owner).concurrent_managed_access {
            return Ok(());
        }
        let mut work = MigrationWork { at: state.now, ..state.new_work() };
        let touched = state.space.touch(range, pages_of(memory.offset, bytes), Processor::HOST, write, &mut work);
        let at = state.now;
        state.now += state.profile(owner).host_faults(&work);
        state.record_steps(at, &mut work);
        state.add_statistics(owner, Processor::HOST, &work);
        touched.map_err(|_| state.code(owner, "a page fault of the host", CudaErrorCode::OUT_OF_MEMORY))
    }
}
