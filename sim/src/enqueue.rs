//! Copies, fills and kernels: the checks of each call, and its operation in the stream.

use super::access_pattern;
use super::bytes;
use super::cost::{ns, transfer};
use super::injection::FaultCall;
use super::machine::Machine;
use super::memory::{AllocationKind, MemoryRef, RangeError};
use super::operation::{Action, Endpoint, EngineKind};
use super::races::{AccessKind, UsedRange, used_range};
use super::state::{MachineState, Until};
use cumem_driver::{Access, AccessMode, CudaErrorCode, DriverError, HostKernel, RawStream};
use smallvec::SmallVec;
use std::ops::Range;

impl Machine {
    pub(super) fn copy(&self, d: u32, dst: u64, src: u64, bytes: u64, stream: RawStream) -> Result<(), DriverError> {
        let call = "cuMemcpyAsync";
        let mut state = self.begin_call(d, FaultCall::Copy, call, |p| ns(p.call_copy))?;
        state.not_zero(d, call, bytes)?;
        let key = state.stream(d, stream, call)?;
        let uses = [used_range(src, bytes, AccessKind::Read), used_range(dst, bytes, AccessKind::Written)];
        let endpoints =
            state.endpoint(d, "a copy", dst, bytes).and_then(|to| Ok((to, state.endpoint(d, "a copy", src, bytes)?)));
        let (dst, mut src) = endpoints.inspect_err(|_| state.race_refused(Some(key), call, &uses))?;
        let engine = match (dst.on_device(), src.on_device()) {
            (true, false) => EngineKind::ToDevice,
            (true, true) => EngineKind::DeviceToDevice,
            (false, _) => EngineKind::ToHost,
        };
        // Ordinary host memory is used before the call returns. If it is the source of a copy to a device, the call
        // stages the bytes. Otherwise the call waits for the copy.
        let mut waits = matches!(dst, Endpoint::Pageable(_));
        if let Endpoint::Pageable(from) = src {
            if dst.on_device() {
                // SAFETY: the caller of the copy ensures that the source is readable during the call.
                src = Endpoint::Captured(unsafe { bytes::read(from, bytes as usize) });
                state.now += transfer(bytes, state.profile(d).pageable);
            } else {
                waits = true;
            }
        }
        if waits && state.within_kernel() {
            return Err(state.code(d, call, CudaErrorCode::NOT_PERMITTED));
        }
        state.order_with_legacy(d, key);
        // The race detector is not notified when the host's ordinary memory is allocated and freed, so it skips that
        // memory.
        let known = uses.iter().zip([&src, &dst]).filter(|(_, endpoint)| matches!(endpoint, Endpoint::Simulated(..)));
        state.race_uses(Some(key), call, known.map(|(used, _)| used));
        let ready = state.now;
        let point = state.enqueue(key, ready, call, Action::Copy { dst, src, bytes, engine });
        if waits {
            state.race_host_waited(key);
            self.run(state, d, Until::Point(point))?.report(d)?;
        }
        Ok(())
    }

    pub(super) fn fill(&self, d: u32, dst: u64, value: u8, bytes: u64, stream: RawStream) -> Result<(), DriverError> {
        let call = "cuMemsetD8Async";
        let mut state = self.begin_call(d, FaultCall::Fill, call, |p| ns(p.call_fill))?;
        state.not_zero(d, call, bytes)?;
        let key = state.stream(d, stream, call)?;
        let uses = [used_range(dst, bytes, AccessKind::Written)];
        let dst =
            state.endpoint(d, "a fill", dst, bytes).inspect_err(|_| state.race_refused(Some(key), call, &uses))?;
        if matches!(dst, Endpoint::Pageable(_)) {
            return Err(state.code(d, call, CudaErrorCode::INVALID_VALUE));
        }
        state.order_with_legacy(d, key);
        state.race_uses(Some(key), call, &uses);
        let ready = state.now;
        state.enqueue(key, ready, call, Action::Fill { dst, value, bytes });
        Ok(())
    }

    pub(super) fn launch(&self, d: u32, kernel: HostKernel, stream: RawStream) -> Result<(), DriverError> {
        let call = "cuLaunchKernel";
        let mut state = self.begin_call(d, FaultCall::Launch, call, |p| ns(p.call_launch))?;
        let key = state.stream(d, stream, call)?;
        access_pattern::check(&kernel).map_err(|why| state.simulation(d, format!("kernel {} {why}", kernel.name)))?;
        let looking = state.races.is_some();
        let uses: Vec<_> = kernel.accesses.iter().filter(|_| looking).map(used_by_kernel).collect();
        let ranges = state.kernel_memory(d, &kernel);
        let ranges = ranges.inspect_err(|_| state.race_refused(Some(key), kernel.name, &uses))?;
        state.order_with_legacy(d, key);
        let known = uses.iter().zip(&ranges).filter(|(_, memory)| memory.is_some());
        state.race_uses(Some(key), kernel.name, known.map(|(used, _)| used));
        let (ready, name) = (state.now, kernel.name);
        state.enqueue(key, ready, name, Action::Kernel { kernel: Box::new(kernel), ranges });
        Ok(())
    }
}

fn used_by_kernel(access: &Access) -> UsedRange {
    let kind = match access.mode {
        AccessMode::Read => AccessKind::Read,
        AccessMode::Write => AccessKind::Written,
    };
    used_range(access.addr, access.bytes as u64, kind)
}

/// Address ranges that refer to the same bytes.
type Spans = SmallVec<[Range<u64>; 2]>;

impl MachineState {
    /// Returns all address ranges of the bytes that a kernel uses in one access: the declared range, and the original
    /// addresses of the parts that are aliases.
    fn spans(&self, access: &Access) -> Spans {
        let span = access.addr..access.addr.saturating_add(access.bytes as u64);
        let mut spans = self.memory.first_addresses(&span);
        spans.push(span);
        spans
    }

    fn endpoint(&self, d: u32, user: &str, addr: u64, bytes: u64) -> Result<Endpoint, DriverError> {
        if addr == 0 {
            return Err(self.code(d, "cuMemcpyAsync", CudaErrorCode::INVALID_VALUE));
        }
        let memory = self.memory_at(d, user, addr, bytes)?;
        Ok(memory.map_or(Endpoint::Pageable(addr), |memory| Endpoint::Simulated(addr, memory)))
    }

    /// Returns the allocations that hold a kernel's ranges. Fails if the device cannot reach a range, or if a written
    /// range overlaps another.
    fn kernel_memory(&self, d: u32, kernel: &HostKernel) -> Result<Box<[Option<MemoryRef>]>, DriverError> {
        let user = kernel.name;
        // Within a kernel, not even a real device orders accesses to the same bytes at two addresses.
        let spans: SmallVec<[_; 4]> = kernel.accesses.iter().map(|access| self.spans(access)).collect();
        for (i, _) in kernel.accesses.iter().enumerate().filter(|(_, access)| access.mode == AccessMode::Write) {
            let overlaps = |(a, b): (&Range<u64>, &Range<u64>)| a.start.max(b.start) < a.end.min(b.end);
            let with = |other: &Spans| spans[i].iter().any(|a| other.iter().any(|b| overlaps((a, b))));
            if let Some(j) = (0..spans.len()).find(|&j| j != i && with(&spans[j])) {
                return Err(self.simulation(d, format!("kernel {user} writes range {i}, which overlaps its range {j}")));
            }
        }
        let memory = |access: &Access| {
            let (addr, bytes) = (access.addr, access.bytes as u64);
            if addr == 0 {
                return Err(self.simulation(d, format!("kernel {user} uses the null pointer")));
            }
            if bytes == 0 {
                return Ok(None);
            }
            let memory = self.memory_at(d, user, addr, bytes)?;
            let reachable = match &memory {
                None => self.profile(d).pageable_memory_access,
                // Mapped memory is accessible to its own device only.
                Some(memory) if memory.device != d && memory.kind.is_mapped() => false,
                Some(memory)
                    if memory.device != d
                        && matches!(memory.kind, AllocationKind::Device | AllocationKind::Segment(_)) =>
                {
                    self.profile(d).peer_access && self.profile(memory.device).peer_access
                }
                Some(_) => true,
            };
            match reachable {
                true => Ok(memory),
                false => Err(self.range_error(d, user, addr, bytes, RangeError::Unknown)),
            }
        };
        kernel.accesses.iter().map(memory).collect()
    }
}
