//! Copies, fills and kernels: the checks of each call, and its operation in the stream.

use super::access_pattern;
use super::bytes::{self, FillValue};
use super::capture::{Membership, Work};
use super::cost::{ns, transfer};
use super::handles::Key;
use super::injection::FaultCall;
use super::machine::Machine;
use super::memory::{AllocationKind, MemoryRef, RangeError};
use super::operation::{Action, Endpoint, EngineKind, Place, StreamPoint};
use super::races::{AccessKind, UsedRange, used_range};
use super::state::{MachineState, Until};
use cumem_driver::{Access, AccessMode, CudaErrorCode, DriverError, HostKernel, RawStream};
use smallvec::SmallVec;
use std::ops::Range;

impl Machine {
    pub(super) fn copy(&self, d: u32, dst: u64, src: u64, bytes: u64, stream: RawStream) -> Result<(), DriverError> {
        let call = COPY;
        let mut state = self.begin_call(d, FaultCall::Copy, call, |p| ns(p.call_copy))?;
        state.not_zero(d, call, bytes)?;
        let key = state.stream(d, stream, call)?;
        if let Some(member) = state.captured(d, key, call)? {
            return state.capture_copy(d, member, dst, src, bytes);
        }
        let copy = state.checked_copy(d, key, dst, src, bytes)?;
        // Ordinary host memory is used before the call returns. If it is the source of a copy to a device, the call
        // stages the bytes. Otherwise the call waits for the copy.
        let mut waits = matches!(copy.dst, Place::Pageable(_));
        let mut staged = None;
        if let Place::Pageable(from) = copy.src {
            if copy.dst.on_device() {
                // SAFETY: the caller of the copy ensures that the source is readable during the call.
                staged = Some(unsafe { bytes::read(from, bytes as usize) });
                state.now += transfer(bytes, state.profile(d).pageable);
            } else {
                waits = true;
            }
        }
        if waits && state.within_kernel() {
            return Err(state.code(d, call, CudaErrorCode::NOT_PERMITTED));
        }
        let point = state.enqueue_copy(d, key, &copy, staged);
        if waits {
            state.race_host_waited(key);
            self.run(state, d, Until::Point(point))?.report(d)?;
        }
        Ok(())
    }

    pub(super) fn fill(
        &self,
        d: u32,
        dst: u64,
        value: FillValue,
        bytes: u64,
        stream: RawStream,
    ) -> Result<(), DriverError> {
        let call = value.call();
        let mut state = self.begin_call(d, FaultCall::Fill, call, |p| ns(p.call_fill))?;
        state.not_zero(d, call, bytes)?;
        let key = state.stream(d, stream, call)?;
        match state.captured(d, key, call)? {
            None => state.submit_fill(d, key, dst, value, bytes),
            Some(member) => {
                state.checked_fill(d, key, dst, value, bytes)?;
                state.add_to_capture(member, Work::Fill { dst, value, bytes });
                Ok(())
            }
        }
    }

    pub(super) fn launch(&self, d: u32, kernel: HostKernel, stream: RawStream) -> Result<(), DriverError> {
        let call = "cuLaunchKernel";
        let mut state = self.begin_call(d, FaultCall::Launch, call, |p| ns(p.call_launch))?;
        let key = state.stream(d, stream, call)?;
        match state.captured(d, key, call)? {
            None => state.submit_kernel(d, key, kernel),
            Some(member) => {
                state.checked_kernel(d, key, &kernel)?;
                state.capture_kernel(d, member, kernel)
            }
        }
    }
}

fn used_by_kernel(access: &Access) -> UsedRange {
    let kind = match access.mode {
        AccessMode::Read => AccessKind::Read,
        AccessMode::Write => AccessKind::Written,
    };
    used_range(access.addr, access.bytes as u64, kind)
}

const COPY: &str = "cuMemcpyAsync";

/// The uses of memory by a kernel, for the race detector, and the memory.
type CheckedKernel = (Vec<UsedRange>, Box<[Option<MemoryRef>]>);

/// Address ranges that refer to the same bytes.
type Spans = SmallVec<[Range<u64>; 2]>;

/// A copy whose ends were found to be allocated.
struct CheckedCopy {
    dst: Place,
    src: Place,
    bytes: u64,
    uses: [UsedRange; 2],
}

impl MachineState {
    fn checked_copy(&mut self, d: u32, key: Key, dst: u64, src: u64, bytes: u64) -> Result<CheckedCopy, DriverError> {
        let uses = [used_range(src, bytes, AccessKind::Read), used_range(dst, bytes, AccessKind::Written)];
        let endpoints =
            self.place(d, "a copy", dst, bytes).and_then(|to| Ok((to, self.place(d, "a copy", src, bytes)?)));
        let (dst, src) = endpoints.inspect_err(|_| self.race_refused(Some(key), COPY, &uses))?;
        Ok(CheckedCopy { dst, src, bytes, uses })
    }

    /// Enqueues a copy, from `staged` if the call has staged the source.
    fn enqueue_copy(&mut self, d: u32, key: Key, copy: &CheckedCopy, staged: Option<Box<[u8]>>) -> StreamPoint {
        let CheckedCopy { dst, src, bytes, uses } = copy;
        let engine = match (dst.on_device(), src.on_device()) {
            (true, false) => EngineKind::ToDevice,
            (true, true) => EngineKind::DeviceToDevice,
            (false, _) => EngineKind::ToHost,
        };
        self.order_with_legacy(d, key);
        // The race detector is not notified when the host's ordinary memory is allocated and freed, so it skips that
        // memory.
        let known = uses.iter().zip([src, dst]).filter(|(_, place)| matches!(place, Place::Simulated(..)));
        self.race_uses(Some(key), COPY, known.map(|(used, _)| used));
        let src = staged.map_or_else(|| (*src).into(), Endpoint::Staged);
        let (ready, dst, bytes) = (self.now, (*dst).into(), *bytes);
        self.enqueue(key, ready, COPY, Action::Copy { dst, src, bytes, engine })
    }

    /// Captures a copy between memory of the simulator.
    fn capture_copy(&mut self, d: u32, member: Membership, dst: u64, src: u64, bytes: u64) -> Result<(), DriverError> {
        for addr in [dst, src] {
            if matches!(self.place(d, "a copy", addr, bytes)?, Place::Pageable(_)) {
                let message = "a captured copy of ordinary host memory; use pinned memory, which stays in place".into();
                return Err(self.simulation(d, message));
            }
        }
        self.add_to_capture(member, Work::Copy { dst, src, bytes });
        Ok(())
    }

    /// Enqueues a captured copy.
    pub(super) fn submit_copy(&mut self, d: u32, key: Key, dst: u64, src: u64, bytes: u64) -> Result<(), DriverError> {
        let copy = self.checked_copy(d, key, dst, src, bytes)?;
        self.enqueue_copy(d, key, &copy, None);
        Ok(())
    }

    fn checked_fill(&mut self, d: u32, key: Key, dst: u64, value: FillValue, bytes: u64) -> Result<Place, DriverError> {
        let call = value.call();
        if !dst.is_multiple_of(value.alignment()) {
            return Err(self.code(d, call, CudaErrorCode::INVALID_VALUE));
        }
        let uses = [used_range(dst, bytes, AccessKind::Written)];
        let dst = self.place(d, "a fill", dst, bytes).inspect_err(|_| self.race_refused(Some(key), call, &uses))?;
        match dst {
            Place::Pageable(_) => Err(self.code(d, call, CudaErrorCode::INVALID_VALUE)),
            Place::Simulated(..) => Ok(dst),
        }
    }

    pub(super) fn submit_fill(
        &mut self,
        d: u32,
        key: Key,
        dst: u64,
        value: FillValue,
        bytes: u64,
    ) -> Result<(), DriverError> {
        let uses = [used_range(dst, bytes, AccessKind::Written)];
        let dst = self.checked_fill(d, key, dst, value, bytes)?;
        self.order_with_legacy(d, key);
        self.race_uses(Some(key), value.call(), &uses);
        let ready = self.now;
        self.enqueue(key, ready, value.call(), Action::Fill { dst: dst.into(), value, bytes });
        Ok(())
    }

    fn checked_kernel(&mut self, d: u32, key: Key, kernel: &HostKernel) -> Result<CheckedKernel, DriverError> {
        access_pattern::check(kernel).map_err(|why| self.simulation(d, format!("kernel {} {why}", kernel.name)))?;
        let looking = self.races.is_some();
        let uses: Vec<_> = kernel.accesses.iter().filter(|_| looking).map(used_by_kernel).collect();
        let ranges = self.kernel_memory(d, kernel);
        let ranges = ranges.inspect_err(|_| self.race_refused(Some(key), kernel.name, &uses))?;
        Ok((uses, ranges))
    }

    pub(super) fn submit_kernel(&mut self, d: u32, key: Key, kernel: HostKernel) -> Result<(), DriverError> {
        let (uses, ranges) = self.checked_kernel(d, key, &kernel)?;
        self.order_with_legacy(d, key);
        let known = uses.iter().zip(&ranges).filter(|(_, memory)| memory.is_some());
        self.race_uses(Some(key), kernel.name, known.map(|(used, _)| used));
        let (ready, name) = (self.now, kernel.name);
        self.enqueue(key, ready, name, Action::Kernel { kernel: Box::new(kernel), ranges });
        Ok(())
    }

    /// Returns all address ranges of the bytes that a kernel uses in one access: the declared range, and the original
    /// addresses of the parts that are aliases.
    fn spans(&self, access: &Access) -> Spans {
        let span = access.addr..access.addr.saturating_add(access.bytes as u64);
        let mut spans = self.memory.first_addresses(&span);
        spans.push(span);
        spans
    }

    fn place(&self, d: u32, user: &str, addr: u64, bytes: u64) -> Result<Place, DriverError> {
        if addr == 0 {
            return Err(self.code(d, "cuMemcpyAsync", CudaErrorCode::INVALID_VALUE));
        }
        let memory = self.memory_at(d, user, addr, bytes)?;
        Ok(memory.map_or(Place::Pageable(addr), |memory| Place::Simulated(addr, memory)))
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
                // Mapped memory is accessible to its own device, and to devices that were let in.
                Some(memory) if memory.device != d && memory.kind.is_mapped() => {
                    self.memory.is_open_to(&(addr..addr.saturating_add(bytes)), d)
                }
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
