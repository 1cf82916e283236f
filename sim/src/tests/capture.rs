//! Captured streams and graphs: what is refused, against the answers of an H200, and what a launch does.
#![expect(clippy::multiple_unsafe_ops_per_block, reason = "one reason holds for each sequence of driver calls")]

use super::{MIB, Rig};
use crate::{Profile, RaceKind, Simulator};
use cumem_driver::{
    CaptureMode, CaptureState, CudaErrorCode, Driver, DriverError, HostKernel, Location, PoolMemory, PoolProperties,
    RawEvent, RawGraphExec, RawStream,
};
use std::cell::Cell;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::thread;

/// The answers of an H200: one row per call, mode of the capture, thread and mode of the thread.
const ANSWERS: &str = include_str!("../../facts/capture-h200.csv");

/// Calls whose answer differs, or which the simulator does not have, and why.
const DIFFERENT: [(&str, &str); 12] = [
    ("stream_id_self", "the driver trait refuses the call, and does not make it"),
    ("alloc_async_self", "the simulator has no nodes that allocate"),
    (
        "copy_self_from_host",
        "a captured copy of ordinary memory is refused, because the memory may be gone at a launch",
    ),
    ("copy_self_to_host", "a captured copy of ordinary memory is refused, because the memory may be gone at a launch"),
    ("free_async_self", "the row frees memory of another stream, which the simulator does not allocate by this path"),
    ("write_value_self", "the simulator has no writes of single values"),
    ("host_function_self", "the library makes no such call"),
    ("module_load", "a simulated device has no modules"),
    ("fill_per_thread", "the per-thread default stream is a blocking stream, which the row does not say"),
    ("instantiate", "the row captures another stream meanwhile; see `graphs_are_launched_while_a_stream_is_captured`"),
    ("launch_graph_other", "as `instantiate`"),
    ("launch_graph_self", "as `instantiate`"),
];

/// The objects of `sim/facts/capture.c`.
struct Probe {
    sim: Simulator,
    captured: RawStream,
    other: RawStream,
    outside: RawEvent,
    inside: RawEvent,
    timed: [RawEvent; 2],
    memory: u64,
    managed: u64,
    reserved: u64,
    spare: NonNull<u8>,
    pinned: NonNull<u8>,
}

// SAFETY: the addresses are only passed to the simulator, and one thread at a time uses the probe.
unsafe impl Sync for Probe {}

fn code(result: Result<(), DriverError>) -> u32 {
    match result {
        Ok(()) => 0,
        Err(error) => error.code().unwrap_or_else(|| panic!("an error without a code: {error}")).0,
    }
}

impl Probe {
    /// Sets all up as `set_up` does, and begins the capture.
    fn new(blocking: bool, mode: CaptureMode) -> Self {
        let sim = Simulator::new([Profile::default()]).unwrap();
        let [captured, other] = [blocking, false].map(|blocking| sim.create_stream(0, blocking).unwrap());
        let [outside, inside] = [(); 2].map(|()| sim.create_event(0, false).unwrap());
        let timed = [(); 2].map(|()| sim.create_event(0, true).unwrap());
        let address = |memory: NonNull<u8>| memory.as_ptr() as u64;
        let memory = address(sim.allocate_device(0, 1 << 16).unwrap());
        let managed = address(sim.allocate_managed(0, 1 << 16).unwrap());
        let granularity = sim.mapping_granularity(0).unwrap();
        let reserved = address(sim.reserve_addresses(0, 2 * granularity).unwrap());
        let (spare, pinned) = (sim.allocate_device(0, 1 << 16).unwrap(), sim.allocate_pinned(0, 1 << 12).unwrap());
        let probe = Self { sim, captured, other, outside, inside, timed, memory, managed, reserved, spare, pinned };
        // SAFETY: the handles are live, and the test alone uses the memory.
        unsafe {
            for event in [outside, timed[0], timed[1]] {
                probe.sim.record_event(0, event, other).unwrap();
            }
            probe.sim.synchronize_device(0).unwrap();
            probe.sim.begin_capture(0, captured, mode).unwrap();
            probe.fill(captured, 0).unwrap();
            probe.sim.record_event(0, inside, captured).unwrap();
        }
        probe
    }

    fn fill(&self, stream: RawStream, offset: u64) -> Result<(), DriverError> {
        // SAFETY: the memory is live, and the test alone uses it.
        unsafe { self.sim.fill_async(0, (self.memory + offset) as *mut u8, 1, 4096, stream) }
    }

    fn end(&self, stream: RawStream) -> Result<(), DriverError> {
        // SAFETY: the stream is live, and the graph is used nowhere else.
        unsafe { self.sim.end_capture(0, stream).map(|graph| self.sim.destroy_graph(0, graph).unwrap()) }
    }

    fn fork_work_join(&self) -> Result<(), DriverError> {
        // SAFETY: streams and events are live.
        unsafe {
            self.sim.wait_event(0, self.other, self.inside)?;
            self.fill(self.other, 8192)?;
            self.sim.record_event(0, self.outside, self.other)?;
            self.sim.wait_event(0, self.captured, self.outside)
        }
    }

    /// Makes the call of this name, as the probe on the device does. Returns `None` for a name that is not known.
    fn call(&self, name: &str) -> Option<Result<(), DriverError>> {
        let Self { sim, captured, other, outside, inside, timed, .. } = self;
        let (captured, other, outside, inside, timed) = (*captured, *other, *outside, *inside, *timed);
        let granularity = sim.mapping_granularity(0).unwrap();
        let at = |address: u64| NonNull::new(address as *mut u8).unwrap();
        let managed = self.managed as *mut u8;
        let home = Location::Device(sim.device_id(0));
        let pool = || sim.default_pool(0, PoolMemory::Device);
        // SAFETY: the handles are live, and the test alone uses the memory.
        Some(unsafe {
            match name {
                "mem_alloc" => sim.allocate_device(0, 1 << 16).map(drop),
                "mem_alloc_managed" => sim.allocate_managed(0, 1 << 16).map(drop),
                "mem_free" => sim.free(0, self.spare),
                "mem_alloc_host" => sim.allocate_pinned(0, 1 << 12).map(drop),
                "mem_free_host" => sim.free_pinned(0, self.pinned),
                "mem_get_info" => sim.memory_info(0).map(drop),
                "ctx_synchronize" => sim.synchronize_device(0),
                "stream_create" => sim.create_stream(0, false).map(drop),
                "stream_query_other" => sim.query_stream(0, other).map(drop),
                "stream_query_self" => sim.query_stream(0, captured).map(drop),
                "stream_synchronize_other" => sim.synchronize_stream(0, other),
                "stream_synchronize_self" => sim.synchronize_stream(0, captured),
                "stream_id_other" => sim.stream_id(0, other).map(drop),
                "event_create" => sim.create_event(0, false).map(drop),
                "event_record_other" => sim.record_event(0, outside, other),
                "event_record_self" => sim.record_event(0, outside, captured),
                "event_query_outside" => sim.query_event(0, outside).map(drop),
                "event_query_inside" => sim.query_event(0, inside).map(drop),
                "event_synchronize_outside" => sim.synchronize_event(0, outside),
                "event_synchronize_inside" => sim.synchronize_event(0, inside),
                "event_elapsed" => sim.elapsed(0, timed[0], timed[1]).map(drop),
                "wait_self_outside" => sim.wait_event(0, captured, outside),
                "wait_self_inside" => sim.wait_event(0, captured, inside),
                "wait_other_outside" => sim.wait_event(0, other, outside),
                "event_destroy_inside" => sim.destroy_event(0, inside),
                "ctx_record_event" => sim.record_event_on_device(0, outside),
                "alloc_async_other" => sim.allocate_async(0, pool().unwrap(), 1 << 16, other).map(drop),
                "free_async_other" => {
                    let memory = sim.allocate_async(0, pool().unwrap(), 1 << 16, other).unwrap();
                    sim.free_async(0, memory, other)
                }
                "pool_create" => sim.create_pool(0, &PoolProperties::default()).map(drop),
                "pool_trim" => sim.trim_pool(0, pool().unwrap(), 0),
                "pool_get" => sim.pool_usage(0, pool().unwrap()).map(drop),
                "pool_set" => sim.set_release_threshold(0, pool().unwrap(), 1 << 20),
                "address_reserve" => sim.reserve_addresses(0, granularity).map(drop),
                "address_free" => sim.release_addresses(0, at(self.reserved), 2 * granularity),
                "create_map_unmap" => {
                    let range = at(self.reserved + granularity as u64);
                    sim.map(0, range, granularity).and_then(|()| sim.unmap(0, range, granularity))
                }
                "advise" => sim.advise(0, managed, 1 << 16, cumem_driver::Advice::SetReadMostly),
                "prefetch_self" => sim.prefetch(0, managed, 1 << 16, home, captured),
                "prefetch_other" => sim.prefetch(0, managed, 1 << 16, home, other),
                "range_attribute" => sim.range_attributes(0, managed, 1 << 16).map(drop),
                "pointer_attribute" => sim.pointer_info(0, self.memory as *const u8).map(drop),
                "copy_self" | "copy_other" => {
                    let stream = if name == "copy_self" { captured } else { other };
                    sim.copy_async(0, self.memory as *mut u8, (self.memory + 4096) as *const u8, 4096, stream)
                }
                "fill_self" => self.fill(captured, 0),
                "fill_legacy" => self.fill(RawStream::LEGACY, 0),
                "begin_self_again" => sim.begin_capture(0, captured, CaptureMode::Relaxed),
                "begin_legacy" => sim.begin_capture(0, RawStream::LEGACY, CaptureMode::Relaxed),
                "end_other" => self.end(other),
                "fork_other" => sim.wait_event(0, other, inside),
                "fork_work" => sim.wait_event(0, other, inside).and_then(|()| self.fill(other, 8192)),
                "fork_work_join" => self.fork_work_join(),
                "fork_work_join_more" => self.fork_work_join().and_then(|()| self.fill(other, 8192)),
                "fork_end_other" => sim.wait_event(0, other, inside).and_then(|()| self.end(other)),
                "begin_other_wait_inside" => {
                    let waited = sim
                        .begin_capture(0, other, CaptureMode::Relaxed)
                        .and_then(|()| sim.wait_event(0, other, inside));
                    let _ended = self.end(other);
                    waited
                }
                "legacy_waits_inside" => sim.wait_event(0, RawStream::LEGACY, inside),
                "elapsed_inside" => {
                    let recorded = sim.record_event(0, timed[1], captured);
                    recorded.and_then(|()| sim.elapsed(0, timed[0], timed[1]).map(drop))
                }
                "record_inside_on_other" => sim.record_event(0, inside, other),
                "end_self" => self.end(captured),
                "end_self_query_inside" => self.end(captured).and_then(|()| sim.query_event(0, inside).map(drop)),
                "end_self_wait_inside" => self.end(captured).and_then(|()| sim.wait_event(0, other, inside)),
                "destroy_self" => sim.destroy_stream(0, captured),
                _ => return None,
            }
        })
    }

    /// Returns the code of the call, the state of the capture after it, and the code of its end.
    fn run(&self, name: &str, another_thread: bool) -> Option<[i64; 3]> {
        let result = match another_thread {
            false => self.call(name)?,
            true => thread::scope(|scope| scope.spawn(|| self.call(name)).join().unwrap())?,
        };
        // SAFETY: the stream is live, or the simulator refuses its handle.
        let state = match unsafe { self.sim.capture_state(0, self.captured) } {
            Ok(CaptureState::None) => 0,
            Ok(CaptureState::Active { .. }) => 1,
            Ok(CaptureState::Invalidated) => 2,
            Err(_) => -1,
        };
        Some([code(result).into(), state, code(self.end(self.captured)).into()])
    }
}

#[test]
fn a_capture_answers_each_call_as_the_driver_does() {
    let (mut compared, mut skipped) = (0, Vec::new());
    for row in ANSWERS.lines().skip(2) {
        let [name, stream, mode, thread, thread_mode, answers @ ..] = &row.split(',').collect::<Vec<_>>()[..] else {
            panic!("a short row: {row}")
        };
        // The library makes its calls in relaxed mode.
        if *thread_mode != "relaxed" {
            continue;
        }
        let mode = match *mode {
            "global" => CaptureMode::Global,
            "thread_local" => CaptureMode::ThreadLocal,
            _ => CaptureMode::Relaxed,
        };
        let probe = Probe::new(*stream == "blocking", mode);
        match probe.run(name, *thread == "another") {
            _ if DIFFERENT.iter().any(|(different, _)| different == name) => skipped.push(*name),
            None => panic!("{name} is neither simulated nor in the list"),
            Some(ours) => {
                let theirs: Vec<i64> = answers.iter().map(|answer| answer.parse().unwrap()).collect();
                assert_eq!(&ours[..], &theirs[..], "{row}");
                compared += 1;
            }
        }
    }
    skipped.dedup();
    assert_eq!((compared, skipped.len()), (60 * 7, DIFFERENT.len()));
}

impl Rig {
    /// Captures what `work` enqueues on the stream, and returns the executable graph.
    fn captured(&self, work: impl FnOnce()) -> RawGraphExec {
        // SAFETY: the stream is live, and so is the graph until it is destroyed.
        unsafe {
            self.sim.begin_capture(0, self.stream, CaptureMode::Global).unwrap();
            work();
            let graph = self.sim.end_capture(0, self.stream).unwrap();
            let exec = self.sim.instantiate_graph(0, graph).unwrap();
            self.sim.destroy_graph(0, graph).unwrap();
            exec
        }
    }

    fn launch_graph(&self, exec: RawGraphExec, stream: RawStream) {
        // SAFETY: graph and stream are live, and the tests keep the memory.
        unsafe { self.sim.launch_graph(0, exec, stream) }.unwrap();
    }

    fn destroy_exec(&self, exec: RawGraphExec) {
        // SAFETY: the graph is live and is not used afterwards.
        unsafe { self.sim.destroy_graph_exec(0, exec) }.unwrap();
    }

    fn event(&self) -> RawEvent {
        self.sim.create_event(0, false).unwrap()
    }

    /// Makes the work of `later` from now on wait for the work of `earlier` so far.
    fn join(&self, later: RawStream, earlier: RawStream) {
        let event = self.event();
        // SAFETY: the handles are live.
        unsafe {
            self.sim.record_event(0, event, earlier).unwrap();
            self.sim.wait_event(0, later, event).unwrap();
            self.sim.destroy_event(0, event).unwrap();
        }
    }
}

fn add_one(addr: u64, runs: &Arc<AtomicU32>) -> HostKernel {
    let runs = Arc::clone(runs);
    let kernel = HostKernel::repeatable("add one", move |memory| {
        runs.fetch_add(1, Relaxed);
        memory.write::<u32>(0).iter_mut().for_each(|value| *value += 1);
    });
    kernel.writes(addr, 4096)
}

#[test]
fn captured_work_runs_at_each_launch_and_not_before() {
    let rig = Rig::h100();
    let (memory, read) = (rig.device(4096), rig.pinned(4096));
    let addr = memory.as_ptr() as u64;
    rig.fill(memory, 0, 4096);
    rig.sync(rig.stream).unwrap();
    let (runs, before) = (Arc::new(AtomicU32::new(0)), rig.sim.live_allocations());
    let exec = rig.captured(|| {
        rig.launch(add_one(addr, &runs), rig.stream).unwrap();
        rig.copy(read.as_mut_ptr(), memory.as_ptr(), 4096, rig.stream).unwrap();
    });
    rig.sync(rig.stream).unwrap();
    assert_eq!((runs.load(Relaxed), rig.sim.live_allocations().graphs), (0, 1));
    for launch in 1..=3 {
        rig.launch_graph(exec, rig.stream);
        rig.sync(rig.stream).unwrap();
        assert_eq!((runs.load(Relaxed), read[0], read[4092]), (launch, launch as u8, launch as u8));
    }
    rig.launch_graph(exec, rig.stream);
    rig.destroy_exec(exec);
    rig.sync(rig.stream).unwrap();
    assert_eq!((runs.load(Relaxed), read[0]), (4, 4), "a launch that was enqueued completes");
    assert_eq!(rig.sim.live_allocations(), before);
    assert_eq!(Arc::strong_count(&runs), 1, "the closures are dropped with the graph");
}

#[test]
fn branches_of_a_graph_run_at_the_same_time() {
    let time = |fork: bool| {
        let rig = Rig::h100();
        let (to_device, to_host) = (rig.device(32 * MIB), rig.device(32 * MIB));
        let [source, target] = [(); 2].map(|()| rig.pinned(32 * MIB).as_mut_ptr());
        let second = rig.second_stream();
        let exec = rig.captured(|| {
            let branch = if fork { second } else { rig.stream };
            if fork {
                rig.join(second, rig.stream);
            }
            rig.copy(to_device.as_ptr(), source, 32 * MIB, rig.stream).unwrap();
            rig.copy(target, to_host.as_ptr(), 32 * MIB, branch).unwrap();
            if fork {
                rig.join(rig.stream, second);
            }
        });
        let start = rig.sim.clock();
        rig.launch_graph(exec, rig.stream);
        rig.sync(rig.stream).unwrap();
        rig.sim.clock() - start
    };
    let (serial, parallel) = (time(false), time(true));
    assert!(parallel < serial * 6 / 10, "{parallel:?} in two branches, {serial:?} in one");
}

#[test]
fn launches_of_one_graph_run_one_after_the_other() {
    let rig = Rig::h100();
    rig.sim.detect_races(true);
    let memory = rig.device(4096);
    let runs = Arc::new(AtomicU32::new(0));
    rig.fill(memory, 0, 4096);
    let exec = rig.captured(|| rig.launch(add_one(memory.as_ptr() as u64, &runs), rig.stream).unwrap());
    let second = rig.second_stream();
    rig.launch_graph(exec, rig.stream);
    rig.launch_graph(exec, second);
    rig.sync(second).unwrap();
    assert_eq!(runs.load(Relaxed), 2);
    assert!(rig.sim.take_races().is_empty());
}

#[test]
fn the_race_detector_knows_the_order_within_a_graph() {
    for joined in [true, false] {
        let rig = Rig::h100();
        rig.sim.detect_races(true);
        let (memory, second) = (rig.device(4096), rig.second_stream());
        let (addr, runs) = (memory.as_ptr() as u64, Arc::new(AtomicU32::new(0)));
        let exec = rig.captured(|| {
            rig.join(second, rig.stream);
            rig.launch(add_one(addr, &runs), second).unwrap();
            if joined {
                rig.join(rig.stream, second);
            }
            rig.launch(add_one(addr, &runs), rig.stream).unwrap();
            rig.join(rig.stream, second);
        });
        assert!(rig.sim.take_races().is_empty(), "captured work is no use of memory");
        rig.launch_graph(exec, rig.stream);
        let races: Vec<_> = rig.sim.take_races().iter().map(|race| race.kind).collect();
        assert_eq!(races, if joined { vec![] } else { vec![RaceKind::Unordered] });
    }
}

#[test]
fn a_graph_that_uses_freed_memory_fails_at_its_launch() {
    let rig = Rig::h100();
    let memory = rig.device(4096);
    let exec = rig.captured(|| rig.fill(memory, 7, 4096));
    // SAFETY: no work uses the memory yet.
    unsafe { rig.sim.free(0, memory) }.unwrap();
    rig.launch_graph(exec, rig.stream);
    let error = rig.sync(rig.stream).unwrap_err();
    assert!(error.to_string().contains("a fill uses 4096 bytes"), "{error}");
    rig.sync(rig.stream).unwrap();
}

#[test]
fn a_kernel_that_runs_once_is_not_captured() {
    let rig = Rig::h100();
    let memory = rig.device(4096);
    let once = HostKernel::new("once", |_| ()).writes(memory.as_ptr() as u64, 4096);
    let refused = Cell::new(None);
    let exec = rig.captured(|| refused.set(rig.launch(once, rig.stream).err()));
    let error = refused.take().unwrap().to_string();
    assert!(error.contains("kernel once cannot be captured") && error.contains("`HostKernel::repeatable`"), "{error}");
    rig.launch_graph(exec, rig.stream);
    rig.sync(rig.stream).unwrap();
}

#[test]
fn graphs_are_launched_while_a_stream_is_captured() {
    let rig = Rig::h100();
    let (memory, second) = (rig.device(4096), rig.second_stream());
    let exec = rig.captured(|| rig.fill(memory, 7, 4096));
    // SAFETY: the streams are live, and the test alone uses the memory.
    unsafe {
        rig.sim.begin_capture(0, rig.stream, CaptureMode::Global).unwrap();
        rig.launch_graph(exec, second);
        rig.sync(second).unwrap();
        let refused = rig.sim.launch_graph(0, exec, rig.stream).unwrap_err();
        assert_eq!(refused.code(), Some(CudaErrorCode::STREAM_CAPTURE_UNSUPPORTED));
        let ended = rig.sim.end_capture(0, rig.stream).unwrap_err();
        assert_eq!(ended.code(), Some(CudaErrorCode::STREAM_CAPTURE_INVALIDATED));
    }
    rig.launch_graph(exec, rig.stream);
    rig.sync(rig.stream).unwrap();
}
