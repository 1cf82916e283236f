//! The implementation of the [`Driver`] trait for the [`Simulator`].

use super::bytes::FillValue;
use super::cost::ns;
use super::events::EventState;
use super::handles::Key;
use super::injection::FaultCall;
use super::memory::{AllocationKind, Origin};
use super::operation::{Action, StreamPoint};
use super::profile::Profile;
use super::simulator::Simulator;
use super::state::{MachineState, Until};
use super::streams::StreamState;
use cumem_driver::{
    Advice, Attributes, CaptureMode, CaptureState, CudaErrorCode, DeviceId, Driver, DriverError, DriverPoolUsage,
    Extension, HostKernel, KernelArg, LaunchConfig, Location, MemoryInfo, MemoryType, Model, ModuleImage,
    PinnedProperties, PointerInfo, PoolMemory, PoolProperties, PoolReuse, PrefetchRange, RangeAttributes, RawEvent,
    RawFunction, RawGraph, RawGraphExec, RawModule, RawPool, RawStream, StreamAttach,
};
use smallvec::{SmallVec, smallvec};
use std::alloc::Layout;
use std::ops::RangeInclusive;
use std::ptr::NonNull;
use std::sync::atomic::Ordering;
use std::time::Duration;

type Result<T> = std::result::Result<T, DriverError>;

/// A simulated device has no processor that could run PTX or compiled code.
const NO_PTX: &str = "PTX or compiled code: it runs a `HostKernel` in place of a kernel, through `Stream::launch_host`";

/// Those of an NVIDIA H100.
const STREAM_PRIORITIES: RangeInclusive<i32> = -5..=0;

impl Simulator {
    fn no_modules<T>(&self, d: u32) -> Result<T> {
        Err(DriverError::NotSupported { what: NO_PTX, device: self.machine().device_id(d) })
    }
}

impl MachineState {
    fn event(&mut self, d: u32, event: RawEvent, call: &'static str) -> Result<(Key, &mut EventState)> {
        let bad = self.code(d, call, CudaErrorCode::INVALID_HANDLE);
        let key = Key::from_handle(event.0).ok_or_else(|| bad.clone())?;
        self.events.get_mut(key).map(|event| (key, event)).ok_or(bad)
    }
}

// The safety of the unsafe methods is that of the `Driver` trait: the operations that they enqueue rely on what the
// caller ensures. The simulator checks handles and ranges all the same.
impl Driver for Simulator {
    fn device_count(&self) -> u32 {
        self.machine().profiles.len() as u32
    }

    fn device_id(&self, d: u32) -> DeviceId {
        self.machine().device_id(d)
    }

    fn attributes(&self, d: u32) -> Result<Attributes> {
        let count = self.device_count();
        let profile = self.machine().profiles.get(d as usize).ok_or(DriverError::NoSuchDevice { ordinal: d, count })?;
        let mut attributes = Attributes::new(profile.name.clone(), profile.capacity.value as usize);
        attributes.compute_capability = profile.compute_capability;
        attributes.multiprocessors = profile.multiprocessors;
        attributes.copy_engines = profile.copy_engines;
        attributes.integrated = profile.integrated;
        attributes.managed_memory = profile.managed_memory;
        attributes.concurrent_managed_access = profile.concurrent_managed_access;
        attributes.pageable_memory_access = profile.pageable_memory_access;
        attributes.pageable_memory_access_uses_host_page_tables = profile.pageable_memory_access_uses_host_page_tables;
        attributes.direct_managed_mem_access_from_host = profile.direct_managed_mem_access_from_host;
        attributes.memory_pools = profile.memory_pools;
        let all_concurrent = self.machine().profiles.iter().all(|profile| profile.concurrent_managed_access);
        attributes.managed_memory_pools = profile.managed_memory_pools && profile.memory_pools && all_concurrent;
        attributes.host_memory_pools = profile.host_memory_pools && profile.memory_pools;
        attributes.host_numa_memory_pools = attributes.host_memory_pools;
        attributes.pool_handle_types = profile.pool_handle_types;
        attributes.host_register = profile.host_register;
        attributes.host_numa_node = Some(0);
        attributes.virtual_memory_management = profile.virtual_memory_management;
        Ok(attributes)
    }

    fn memory_info(&self, d: u32) -> Result<MemoryInfo> {
        let state = self.machine().begin_query(d, "cuMemGetInfo")?;
        let total = state.profile(d).capacity.value as usize;
        Ok(MemoryInfo::new(state.space.free_bytes(d) as usize, total))
    }

    fn host_memory_info(&self, d: u32) -> Result<MemoryInfo> {
        let state = self.machine().lock();
        let total = state.profile(d).host_memory.value as usize;
        Ok(MemoryInfo::new(total.saturating_sub(state.pinned as usize), total))
    }

    fn synchronize_device(&self, d: u32) -> Result<()> {
        let machine = self.machine();
        let cost = |p: &Profile| ns(p.call_synchronize);
        let mut state = machine.begin_call(d, FaultCall::Synchronize, "cuCtxSynchronize", cost)?;
        if state.within_kernel() {
            return Err(state.code(d, "cuCtxSynchronize", CudaErrorCode::NOT_PERMITTED));
        }
        state.nothing_captured(d, "cuCtxSynchronize")?;
        machine.wait(state, d, Until::Device(d)).map(drop)
    }

    fn create_stream(&self, d: u32, blocking: bool) -> Result<RawStream> {
        let cost = |p: &Profile| ns(p.call_stream);
        let mut state = self.machine().begin_call(d, FaultCall::CreateStream, "cuStreamCreate", cost)?;
        Ok(RawStream(state.streams.insert(StreamState::new(d, blocking)).handle()))
    }

    /// The model has no priorities: kernels run in the order in which their streams are ready.
    fn create_stream_with_priority(&self, d: u32, blocking: bool, _priority: i32) -> Result<RawStream> {
        self.create_stream(d, blocking)
    }

    fn stream_priorities(&self, d: u32) -> Result<RangeInclusive<i32>> {
        self.machine().begin_query(d, "cuCtxGetStreamPriorityRange").map(|_| STREAM_PRIORITIES)
    }

    unsafe fn destroy_stream(&self, d: u32, stream: RawStream) -> Result<()> {
        let call = "cuStreamDestroy";
        let mut state = self.machine().begin_call(d, FaultCall::Destroy, call, |p| ns(p.call_stream))?;
        let bad = state.code(d, call, CudaErrorCode::INVALID_HANDLE);
        let key = Key::from_handle(stream.0).ok_or_else(|| bad.clone())?;
        state.streams.get(key).filter(|stream| stream.device == d && !stream.closing).ok_or(bad)?;
        state.end_captures_of(key);
        state.close_stream(key);
        Ok(())
    }

    unsafe fn synchronize_stream(&self, d: u32, stream: RawStream) -> Result<()> {
        let (call, machine) = ("cuStreamSynchronize", self.machine());
        let mut state = machine.begin_call(d, FaultCall::Synchronize, call, |p| ns(p.call_synchronize))?;
        let key = state.stream(d, stream, call)?;
        state.not_captured(d, key, call)?;
        let point = state.end_of_work(d, key);
        state.race_host_waited(key);
        machine.wait(state, d, Until::Point(point)).map(drop)
    }

    unsafe fn stream_id(&self, d: u32, stream: RawStream) -> Result<u64> {
        if self.machine().captured.load(Ordering::Relaxed) {
            let call = "cuStreamGetId";
            let mut state = self.machine().lock();
            let captured = state.stream(d, stream, call).ok().and_then(|key| state.membership(key));
            if captured.is_some() {
                return Err(state.code(d, call, CudaErrorCode::STREAM_CAPTURE_UNSUPPORTED));
            }
        }
        // No two streams have one handle.
        Ok(stream.0)
    }

    unsafe fn query_stream(&self, d: u32, stream: RawStream) -> Result<bool> {
        let call = "cuStreamQuery";
        let mut state = self.machine().begin_query(d, call)?;
        let key = state.stream(d, stream, call)?;
        state.not_captured(d, key, call)?;
        let idle = state.is_idle(d, key);
        if idle {
            if key == state.devices[d as usize].legacy {
                state.order_with_legacy(d, key);
            }
            state.race_host_waited(key);
        }
        state.report(d)?;
        Ok(idle)
    }

    unsafe fn wait_event(&self, d: u32, stream: RawStream, event: RawEvent) -> Result<()> {
        let call = "cuStreamWaitEvent";
        let mut state = self.machine().begin_call(d, FaultCall::WaitEvent, call, |p| ns(p.call_wait))?;
        let key = state.stream(d, stream, call)?;
        let (event, found) = state.event(d, event, call)?;
        let points = found.points.clone();
        if state.wait_captured(d, key, event, call)? {
            return Ok(());
        }
        state.race_event_waited(Some(key), event);
        points.into_iter().for_each(|point| state.enqueue_wait(key, point));
        Ok(())
    }

    fn create_event(&self, d: u32, timing: bool) -> Result<RawEvent> {
        let mut state = self.machine().begin_call(d, FaultCall::CreateEvent, "cuEventCreate", |p| ns(p.call_event))?;
        let event = EventState { device: d, timing, points: SmallVec::new(), reached: None, captured: None };
        Ok(RawEvent(state.events.insert(event).handle()))
    }

    unsafe fn destroy_event(&self, d: u32, event: RawEvent) -> Result<()> {
        let call = "cuEventDestroy";
        let mut state = self.machine().begin_call(d, FaultCall::Destroy, call, |p| ns(p.call_event))?;
        let key = state.event(d, event, call)?.0;
        state.events.remove(key);
        state.race_event_destroyed(key);
        Ok(())
    }

    unsafe fn record_event(&self, d: u32, event: RawEvent, stream: RawStream) -> Result<()> {
        let call = "cuEventRecord";
        let mut state = self.machine().begin_call(d, FaultCall::RecordEvent, call, |p| ns(p.call_record))?;
        let stream = state.stream(d, stream, call)?;
        let (key, found) = state.event(d, event, call)?;
        if found.device != d {
            return Err(state.code(d, call, CudaErrorCode::INVALID_HANDLE));
        }
        let timing = found.timing;
        if state.record_captured(d, key, stream, call)? {
            return Ok(());
        }
        let mut point = state.end_of_work(d, stream);
        if timing {
            let ready = state.now;
            point = state.enqueue(stream, ready, call, Action::Record(key));
        }
        let found = state.event(d, event, call)?.1;
        (found.points, found.reached) = (smallvec![point], None);
        state.race_event_recorded(key, stream);
        Ok(())
    }

    unsafe fn record_event_on_device(&self, d: u32, event: RawEvent) -> Result<()> {
        let call = "cuCtxRecordEvent";
        let mut state = self.machine().begin_call(d, FaultCall::RecordEvent, call, |p| ns(p.call_record))?;
        let (key, found) = state.event(d, event, call)?;
        if found.device != d || found.timing {
            return Err(state.code(d, call, CudaErrorCode::INVALID_HANDLE));
        }
        state.nothing_captured(d, call)?;
        let busy = state.streams.iter().filter(|(_, stream)| stream.device == d && !stream.is_idle());
        let points = busy.map(|(stream, busy)| StreamPoint { stream, seq: busy.submitted }).collect();
        state.event(d, event, call)?.1.points = points;
        state.race_event_recorded_on_device(key, d);
        Ok(())
    }

    unsafe fn query_event(&self, d: u32, event: RawEvent) -> Result<bool> {
        let call = "cuEventQuery";
        let mut state = self.machine().begin_query(d, call)?;
        let (event, found) = state.event(d, event, call)?;
        let points = found.points.clone();
        state.event_not_captured(d, event, call)?;
        let done = points.into_iter().all(|point| state.streams.passed(point));
        if done {
            state.race_event_waited(None, event);
        }
        state.report(d)?;
        Ok(done)
    }

    unsafe fn synchronize_event(&self, d: u32, event: RawEvent) -> Result<()> {
        let (call, machine) = ("cuEventSynchronize", self.machine());
        let mut state = machine.begin_call(d, FaultCall::Synchronize, call, |p| ns(p.call_synchronize))?;
        let (event, found) = state.event(d, event, call)?;
        let points = found.points.clone();
        state.event_not_captured(d, event, call)?;
        state.race_event_waited(None, event);
        for point in points {
            state = machine.wait(state, d, Until::Point(point))?;
        }
        Ok(())
    }

    unsafe fn elapsed(&self, d: u32, start: RawEvent, end: RawEvent) -> Result<Duration> {
        let call = "cuEventElapsedTime";
        let mut state = self.machine().begin_query(d, call)?;
        let mut times = [0; 2];
        for (time, event) in times.iter_mut().zip([start, end]) {
            let event = state.event(d, event, call)?.1;
            if event.captured.is_some() {
                return Err(state.code(d, call, CudaErrorCode::CAPTURED_EVENT));
            }
            let (unusable, reached) = (!event.timing || event.points.is_empty(), event.reached);
            if unusable {
                return Err(state.code(d, call, CudaErrorCode::INVALID_HANDLE));
            }
            *time = reached.ok_or_else(|| state.code(d, call, CudaErrorCode::NOT_READY))?;
        }
        Ok(Duration::from_nanos(times[1].saturating_sub(times[0])))
    }

    fn allocate_device(&self, d: u32, bytes: usize) -> Result<NonNull<u8>> {
        self.machine().allocate_device(d, bytes as u64)
    }

    fn allocate_managed(&self, d: u32, bytes: usize) -> Result<NonNull<u8>> {
        self.machine().allocate_managed(d, bytes as u64)
    }

    unsafe fn free(&self, d: u32, ptr: NonNull<u8>) -> Result<()> {
        // SAFETY: the caller keeps the contract of `Driver::free`.
        unsafe { self.machine().free(d, ptr.as_ptr() as u64) }
    }

    fn allocate_pinned(&self, d: u32, bytes: usize) -> Result<NonNull<u8>> {
        self.machine().allocate_pinned(d, bytes as u64)
    }

    unsafe fn free_pinned(&self, d: u32, ptr: NonNull<u8>) -> Result<()> {
        // SAFETY: the caller keeps the contract of `Driver::free_pinned`.
        unsafe { self.machine().free_pinned(d, ptr.as_ptr() as u64) }
    }

    fn allocate_pinned_pages(&self, d: u32, bytes: usize, properties: PinnedProperties) -> Result<NonNull<u8>> {
        self.machine().allocate_pinned_pages(d, bytes as u64, properties)
    }

    unsafe fn free_pinned_pages(
        &self,
        d: u32,
        ptr: NonNull<u8>,
        _bytes: usize,
        _properties: PinnedProperties,
    ) -> Result<()> {
        // SAFETY: the caller keeps the contract of `Driver::free_pinned_pages`.
        unsafe { self.machine().free_pinned_pages(d, ptr.as_ptr() as u64) }
    }

    unsafe fn register_host(&self, d: u32, ptr: NonNull<u8>, bytes: usize) -> Result<()> {
        self.machine().register_host(d, ptr.as_ptr() as u64, bytes as u64)
    }

    unsafe fn unregister_host(&self, d: u32, ptr: NonNull<u8>) -> Result<()> {
        // SAFETY: the caller keeps the contract of `Driver::unregister_host`.
        unsafe { self.machine().unregister_host(d, ptr.as_ptr() as u64) }
    }

    fn allocate_system(&self, d: u32, layout: Layout) -> Result<NonNull<u8>> {
        self.machine().allocate_system(d, layout)
    }

    unsafe fn free_system(&self, d: u32, ptr: NonNull<u8>, _layout: Layout) -> Result<()> {
        // SAFETY: the caller keeps the contract of `Driver::free_system`.
        unsafe { self.machine().free_system(d, ptr.as_ptr() as u64) }
    }

    fn default_pool(&self, d: u32, memory: PoolMemory) -> Result<RawPool> {
        self.machine().default_pool(d, memory)
    }

    fn current_pool(&self, d: u32) -> Result<RawPool> {
        self.machine().current_pool(d)
    }

    fn create_pool(&self, d: u32, properties: &PoolProperties) -> Result<RawPool> {
        self.machine().create_pool(d, properties)
    }

    unsafe fn destroy_pool(&self, d: u32, pool: RawPool) -> Result<()> {
        let call = "cuMemPoolDestroy";
        let mut state = self.machine().begin_call(d, FaultCall::Destroy, call, |p| ns(p.call_stream))?;
        let (key, found) = state.pool(d, pool, call)?;
        if found.is_default {
            return Err(state.code(d, call, CudaErrorCode::INVALID_VALUE));
        }
        (found.closing, found.dirty) = (true, true);
        state.end_pool_if_empty(key);
        Ok(())
    }

    unsafe fn set_release_threshold(&self, d: u32, pool: RawPool, bytes: u64) -> Result<()> {
        let call = "cuMemPoolSetAttribute";
        let mut state = self.machine().begin_call(d, FaultCall::MemPool, call, |p| ns(p.call_query))?;
        let found = state.pool(d, pool, call)?.1;
        (found.threshold, found.dirty) = (bytes, true);
        Ok(())
    }

    unsafe fn release_threshold(&self, d: u32, pool: RawPool) -> Result<u64> {
        let call = "cuMemPoolGetAttribute";
        Ok(self.machine().begin_query(d, call)?.pool(d, pool, call)?.1.threshold)
    }

    unsafe fn set_pool_reuse(&self, d: u32, pool: RawPool, reuse: PoolReuse, on: bool) -> Result<()> {
        let call = "cuMemPoolSetAttribute";
        let mut state = self.machine().begin_call(d, FaultCall::MemPool, call, |p| ns(p.call_query))?;
        state.pool(d, pool, call)?.1.set_reuse(reuse, on);
        Ok(())
    }

    unsafe fn pool_reuse(&self, d: u32, pool: RawPool, reuse: PoolReuse) -> Result<bool> {
        let call = "cuMemPoolGetAttribute";
        Ok(self.machine().begin_query(d, call)?.pool(d, pool, call)?.1.reuses(reuse))
    }

    unsafe fn set_pool_access(&self, d: u32, pool: RawPool, peer: u32) -> Result<()> {
        self.machine().set_pool_access(d, pool, peer)
    }

    unsafe fn pool_usage(&self, d: u32, pool: RawPool) -> Result<DriverPoolUsage> {
        let call = "cuMemPoolGetAttribute";
        let mut state = self.machine().begin_query(d, call)?;
        let pool = state.pool(d, pool, call)?.1;
        Ok(DriverPoolUsage::new(pool.reserved, pool.used))
    }

    unsafe fn trim_pool(&self, d: u32, pool: RawPool, keep: usize) -> Result<()> {
        let call = "cuMemPoolTrimTo";
        let mut state = self.machine().begin_call(d, FaultCall::MemPool, call, |p| ns(p.call_query))?;
        let key = state.pool(d, pool, call)?.0;
        state.shrink_pool(key, keep as u64);
        Ok(())
    }

    unsafe fn allocate_async(&self, d: u32, pool: RawPool, bytes: usize, stream: RawStream) -> Result<NonNull<u8>> {
        let call = "cuMemAllocFromPoolAsync";
        let mut state = self.machine().begin_call(d, FaultCall::AllocateAsync, call, |p| ns(p.call_allocate_async))?;
        state.not_zero(d, call, bytes as u64)?;
        let pool = state.pool(d, pool, call)?.0;
        let key = state.stream(d, stream, call)?;
        if state.membership(key).is_some() {
            let message = "an allocation by a captured stream; the simulator has no nodes that allocate".into();
            return Err(state.simulation(d, message));
        }
        state.order_with_legacy(d, key);
        match state.take_from_pool(d, pool, bytes as u64, key) {
            Ok(addr) => {
                state.memory.live.count_stream_ordered(1, bytes as u64);
                state.journal.mix(bytes as u64);
                state.race_allocated(Some(key), call, addr, bytes as u64);
                Ok(NonNull::new(addr as *mut u8).unwrap_or(NonNull::dangling()))
            }
            Err(code) => Err(state.code(d, call, code)),
        }
    }

    unsafe fn free_async(&self, d: u32, ptr: NonNull<u8>, stream: RawStream) -> Result<()> {
        let call = "cuMemFreeAsync";
        let mut state = self.machine().begin_call(d, FaultCall::Free, call, |p| ns(p.call_free_async))?;
        let key = state.stream(d, stream, call)?;
        if state.membership(key).is_some() {
            // The memory was allocated outside of the graph.
            return Err(state.code(d, call, CudaErrorCode::INVALID_VALUE));
        }
        let addr = ptr.as_ptr() as u64;
        let pool = state.memory.find(addr, 0).ok().and_then(|memory| memory.pool());
        let live = pool.filter(|pool| state.pools.get(*pool).is_some_and(|pool| pool.live(addr).is_some()));
        let pool = live.ok_or_else(|| state.code(d, call, CudaErrorCode::INVALID_VALUE))?;
        let point = state.end_of_work(d, key);
        let bytes = state.pools.get(pool).and_then(|pool| pool.live(addr)).unwrap_or(0);
        state.race_freed(Some(key), call, addr, bytes);
        state.give_to_pool(pool, addr, Some(point));
        Ok(())
    }

    fn mapping_granularity(&self, d: u32) -> Result<usize> {
        self.machine().mapping_granularity(d)
    }

    fn reserve_addresses(&self, d: u32, bytes: usize) -> Result<NonNull<u8>> {
        self.machine().reserve_addresses(d, bytes as u64)
    }

    unsafe fn release_addresses(&self, d: u32, ptr: NonNull<u8>, bytes: usize) -> Result<()> {
        self.machine().release_addresses(d, ptr.as_ptr() as u64, bytes as u64)
    }

    unsafe fn map(&self, d: u32, ptr: NonNull<u8>, bytes: usize) -> Result<()> {
        self.machine().map(d, ptr.as_ptr() as u64, bytes as u64)
    }

    unsafe fn map_again(&self, d: u32, ptr: NonNull<u8>, pieces: &[(NonNull<u8>, usize)]) -> Result<()> {
        let pieces: Vec<_> = pieces.iter().map(|(piece, bytes)| (piece.as_ptr() as u64, *bytes as u64)).collect();
        self.machine().map_again(d, ptr.as_ptr() as u64, &pieces)
    }

    fn can_access_peer(&self, d: u32, peer: u32) -> Result<bool> {
        self.machine().can_access_peer(d, peer)
    }

    unsafe fn set_access(&self, d: u32, ptr: NonNull<u8>, bytes: usize, peer: u32) -> Result<()> {
        self.machine().set_access(d, ptr.as_ptr() as u64, bytes as u64, peer)
    }

    unsafe fn unmap(&self, d: u32, ptr: NonNull<u8>, bytes: usize) -> Result<()> {
        // SAFETY: the caller keeps the contract of `Driver::unmap`.
        unsafe { self.machine().unmap(d, ptr.as_ptr() as u64, bytes as u64) }
    }

    unsafe fn copy_async(&self, d: u32, dst: *mut u8, src: *const u8, bytes: usize, stream: RawStream) -> Result<()> {
        self.machine().copy(d, dst as u64, src as u64, bytes as u64, stream)
    }

    unsafe fn fill_async(&self, d: u32, dst: *mut u8, value: u8, bytes: usize, stream: RawStream) -> Result<()> {
        self.machine().fill(d, dst as u64, FillValue::Byte(value), bytes as u64, stream)
    }

    unsafe fn fill_words_async(&self, d: u32, dst: *mut u8, word: u32, words: usize, stream: RawStream) -> Result<()> {
        // More bytes than there are addresses are refused, as the driver refuses them.
        let bytes = (words as u64).saturating_mul(4);
        self.machine().fill(d, dst as u64, FillValue::Word(word), bytes, stream)
    }

    unsafe fn write_value(&self, d: u32, _at: *mut u32, _value: u32, _stream: RawStream) -> Result<()> {
        // The call serves kernels that poll memory while they run. The simulator runs no such kernels.
        Err(DriverError::NotSupported { what: "writes of single values by a stream", device: self.device_id(d) })
    }

    unsafe fn prefetch(&self, d: u32, ptr: *const u8, bytes: usize, to: Location, stream: RawStream) -> Result<()> {
        self.machine().prefetch(d, ptr as u64, bytes as u64, to, stream)
    }

    unsafe fn prefetch_batch(&self, d: u32, ranges: &[PrefetchRange], stream: RawStream) -> Result<()> {
        self.machine().prefetch_batch(d, ranges, stream)
    }

    unsafe fn discard_batch(&self, d: u32, ranges: &[(u64, usize)], stream: RawStream) -> Result<()> {
        self.machine().discard_batch(d, ranges, stream)
    }

    unsafe fn attach(&self, d: u32, ptr: *const u8, bytes: usize, to: StreamAttach, stream: RawStream) -> Result<()> {
        self.machine().attach(d, ptr as u64, bytes as u64, to, stream)
    }

    unsafe fn advise(&self, d: u32, ptr: *const u8, bytes: usize, advice: Advice) -> Result<()> {
        self.machine().advise(d, ptr as u64, bytes as u64, advice)
    }

    fn range_attributes(&self, d: u32, ptr: *const u8, bytes: usize) -> Result<RangeAttributes> {
        self.machine().range_attributes(d, ptr as u64, bytes as u64)
    }

    fn pointer_info(&self, d: u32, ptr: *const u8) -> Result<PointerInfo> {
        let call = "cuPointerGetAttributes";
        let state = self.machine().begin_query(d, call)?;
        // The driver does not know memory of the system's allocator.
        let found = state.memory.find(ptr as u64, 1).ok().filter(|memory| memory.origin != Origin::System);
        let Some(memory) = found else {
            return Err(state.code(d, call, CudaErrorCode::INVALID_VALUE));
        };
        let memory_type = match memory.kind {
            AllocationKind::Device
            | AllocationKind::Segment(_)
            | AllocationKind::Mapped(_)
            | AllocationKind::Alias(_) => MemoryType::Device,
            AllocationKind::Managed(_) => MemoryType::Unified,
            AllocationKind::Pinned => MemoryType::Host,
        };
        Ok(PointerInfo::new(memory_type, self.device_id(memory.device)))
    }

    fn host_access(&self, d: u32, ptr: *const u8, bytes: usize, write: bool) -> Result<()> {
        self.machine().host_access(d, ptr as u64, bytes as u64, write)
    }

    unsafe fn begin_capture(&self, d: u32, stream: RawStream, mode: CaptureMode) -> Result<()> {
        self.machine().begin_capture(d, stream, mode)
    }

    unsafe fn end_capture(&self, d: u32, stream: RawStream) -> Result<RawGraph> {
        self.machine().end_capture(d, stream)
    }

    unsafe fn capture_state(&self, d: u32, stream: RawStream) -> Result<CaptureState> {
        self.machine().capture_state(d, stream)
    }

    unsafe fn destroy_graph(&self, d: u32, graph: RawGraph) -> Result<()> {
        self.machine().destroy_graph(d, graph)
    }

    unsafe fn instantiate_graph(&self, d: u32, graph: RawGraph) -> Result<RawGraphExec> {
        self.machine().instantiate_graph(d, graph)
    }

    unsafe fn launch_graph(&self, d: u32, exec: RawGraphExec, stream: RawStream) -> Result<()> {
        self.machine().launch_graph(d, exec, stream)
    }

    unsafe fn destroy_graph_exec(&self, d: u32, exec: RawGraphExec) -> Result<()> {
        self.machine().destroy_graph_exec(d, exec)
    }

    unsafe fn load_module(&self, d: u32, _image: ModuleImage<'_>) -> Result<RawModule> {
        self.no_modules(d)
    }

    unsafe fn unload_module(&self, d: u32, _module: RawModule) -> Result<()> {
        self.no_modules(d)
    }

    unsafe fn function(&self, d: u32, _module: RawModule, _name: &str) -> Result<RawFunction> {
        self.no_modules(d)
    }

    unsafe fn launch(
        &self,
        d: u32,
        _function: RawFunction,
        _config: LaunchConfig,
        _args: &[KernelArg],
        _stream: RawStream,
    ) -> Result<()> {
        self.no_modules(d)
    }

    unsafe fn launch_host(&self, d: u32, kernel: HostKernel, stream: RawStream) -> Result<()> {
        self.machine().launch(d, kernel, stream)
    }

    fn model(&self) -> Option<&dyn Model> {
        Some(self)
    }

    fn extension(&self) -> &Extension {
        &self.machine().extension
    }
}
