//! Limited memory: recovery from out of memory, pressure levels and their actions, and spilling.

use crate::common::{self, free};
use cumem::device::MemoryType;
use cumem::error::CudaErrorCode;
use cumem::sim::{FaultCall, Profile, Simulator};
use cumem::{
    AllocError, Block, Buffer, CudaResource, Device, DeviceError, LayerExt, ManagedResource, MemoryResource,
    PinnedResource, Stream, layout,
};
use cumem_adaptors::{
    NotRecovered, Pool, PoolOptions, PoolState, Pressure, PressureError, PressureLevel, PressureOptions, PressureState,
    ResourceExt, Size, SpillState, fit_batch, with_oom_recovery,
};
use cumem_test_support::own_process;
use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

const MIB: usize = 1 << 20;

// This test reads the recorded errors of drops, which the whole process shares.
own_process!(out_of_memory_at_every_allocation_is_recovered_from);

fn device_of(bytes: usize) -> (Device, Stream) {
    let device = Device::simulated(Profile::tiny(bytes as u64)).unwrap();
    let stream = Stream::new(&device).unwrap();
    (device, stream)
}

fn get(stack: &impl MemoryResource, stream: &Stream, bytes: usize) -> Block {
    stack.allocate(stream, layout::bytes(bytes).unwrap()).unwrap()
}

/// Runs `work` and returns its value and what it logged on this thread.
fn events<T>(work: impl FnOnce() -> T) -> (T, String) {
    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);
    impl Write for Log {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
    let value = tracing::subscriber::with_default(subscriber, work);
    let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    (value, text)
}

/// Processes a batch as a user would: with an input buffer, an output buffer and scratch space.
fn process(
    items: usize,
    stream: &Stream,
    memory: &impl MemoryResource<Kind = cumem::kind::Device>,
) -> Result<usize, AllocError> {
    let input = Buffer::<f32, _>::zeroed(items * 256, stream, memory)?;
    let output = Buffer::<f32, _>::zeroed(items, stream, memory)?;
    let scratch = Buffer::<u8, _>::zeroed(items * 64, stream, memory)?;
    Ok(input.len() / 256 + output.len() - scratch.len() / 64)
}

#[test]
fn a_batch_is_halved_until_it_fits() {
    let (device, stream) = device_of(64 * MIB);
    let memory = CudaResource::new(&device).limit(10 * MIB);
    let (done, log) = events(|| with_oom_recovery(100_000, 1, |items| process(items, &stream, &memory)).unwrap());
    assert_eq!((done.items, done.value), (6250, 6250));
    assert_eq!(done.too_many, [100_000, 50_000, 25_000, 12_500]);
    assert!(log.contains("items=100000 fewer=50000") && log.contains("limit reached"), "{log}");
    assert_eq!(memory.state().allocated(), 0);
}

#[test]
fn not_below_the_minimum() {
    let (device, stream) = device_of(64 * MIB);
    let memory = CudaResource::new(&device).limit(MIB);
    let error = with_oom_recovery(8000, 3000, |items| process(items, &stream, &memory)).unwrap_err();
    assert_eq!((error.items, &error.too_many[..]), (3000, &[8000, 4000][..]));
    assert!(matches!(error.error, AllocError::LimitExceeded { .. }), "{error}");
    // With 0 items the closure falls back to the host.
    let done = with_oom_recovery(4, 0, |items| match items {
        0 => Ok("host"),
        _ => process(items << 20, &stream, &memory).map(|_| "device"),
    });
    assert_eq!(done.map(|done| (done.value, done.items)), Ok(("host", 0)));
}

#[test]
fn other_errors_end_it_at_once() {
    let (device, stream) = device_of(64 * MIB);
    let memory = CudaResource::new(&device);
    device.simulator().unwrap().fail_nth(FaultCall::Fill, 1, CudaErrorCode::ILLEGAL_ADDRESS);
    let mut calls = 0;
    let result = with_oom_recovery(1000, 1, |items| {
        calls += 1;
        process(items, &stream, &memory)
    });
    let NotRecovered { items, too_many, error, .. } = result.unwrap_err();
    assert_eq!((calls, items, too_many.len()), (1, 1000, 0));
    assert!(matches!(error, AllocError::Device(ref error) if error.code() == Some(CudaErrorCode::ILLEGAL_ADDRESS)));
}

fn out_of_memory_at_every_allocation_is_recovered_from() {
    for stack in ["device", "device | pool", "device | pool | limit(80%) | statistics"] {
        for n in 1..=12 {
            let (device, stream) = device_of(64 * MIB);
            let simulator: &Simulator = device.simulator().unwrap();
            {
                let memory = cumem_adaptors::StackSpec::parse(stack).unwrap().build(&device).unwrap();
                let memory = memory.into_device_accessible().unwrap();
                simulator.fail_nth(FaultCall::AllocateDevice, n, CudaErrorCode::OUT_OF_MEMORY);
                for _ in 0..4 {
                    type Error = Box<dyn std::error::Error>;
                    let done = with_oom_recovery(64, 1, |items| {
                        let input = Buffer::<u8, _>::zeroed(items * 4096, &stream, &memory)?;
                        let output = Buffer::<u8, _>::zeroed(items * 64, &stream, &memory)?;
                        Ok::<_, Error>((input.len(), output.len()))
                    });
                    let done = done.unwrap_or_else(|error| panic!("{stack}, failure {n}: {error}"));
                    assert_eq!(done.value, (done.items * 4096, done.items * 64));
                    assert!(done.items >= 32, "one failure takes at most one halving");
                }
            }
            simulator.clear_faults();
            assert!(simulator.live_allocations().no_memory(), "{stack}, failure {n}");
            assert!(cumem::error::take_drop_errors().is_empty());
        }
    }
}

/// All items are processed in batches that fit, although another user takes most of the memory at times.
#[test]
fn sixteen_threads_on_cards_of_4_8_and_24_gb() {
    const ITEMS: usize = 64;
    for gib in [4_usize, 8, 24] {
        let device = Device::simulated(Profile::h100_pcie5().with_capacity((gib as u64) << 30)).unwrap();
        {
            let stack = CudaResource::new(&device).pool(PoolOptions::default()).unwrap().limit(Size::Percent(80));
            // Each item takes a sixteenth of the limit, so the sixteen threads compete for it.
            let per_item = stack.state().bytes() / 16 / (4 << 20) * (4 << 20);
            let others = CudaResource::new(&device);
            let processed = AtomicUsize::new(0);
            let batch = |items: usize, stream: &Stream| -> Result<usize, AllocError> {
                // Not filled, because the buffers have gigabytes and their contents are not tested.
                let buffer = Buffer::<u8, _>::with_capacity(items * per_item, stream, &stack)?;
                assert!(buffer.capacity() >= items * per_item);
                Ok(items)
            };
            std::thread::scope(|scope| {
                for thread in 0..16 {
                    let (device, stack, others, processed, batch) = (&device, &stack, &others, &processed, &batch);
                    scope.spawn(move || {
                        let stream = Stream::new(device).unwrap();
                        let mut left = ITEMS;
                        while left > 0 {
                            // Another user takes nine tenths of the free memory for a while.
                            let free = device.memory_info().unwrap().free;
                            let taken =
                                (thread == 0).then(|| others.allocate(&stream, layout::bytes(free / 10 * 9).unwrap()));
                            let fit = fit_batch(stack, per_item, 0, left).unwrap();
                            match with_oom_recovery(fit.items.max(1), 1, |items| batch(items, &stream)) {
                                Ok(done) => left -= done.value,
                                Err(error) => assert!(error.error.is_out_of_memory(), "{error}"),
                            }
                            if let Some(Ok(block)) = taken {
                                common::free(others, &stream, block).unwrap();
                            }
                            std::thread::yield_now();
                        }
                        processed.fetch_add(ITEMS, Ordering::Relaxed);
                    });
                }
            });
            assert_eq!(processed.into_inner(), 16 * ITEMS);
            assert_eq!(stack.state().allocated(), 0);
        }
        assert!(device.simulator().unwrap().live_allocations().no_memory(), "{gib} GiB");
    }
}

/// A stack that trims at 50 MiB in use and refuses at 90 MiB. Each level ends 10 MiB below. Every allocation checks.
fn watched(device: &Device) -> Pressure<Pool<CudaResource>> {
    let options = PressureOptions::default().trim_at(50 * MIB).refuse_at(90 * MIB).slack(10 * MIB).ask_after(0);
    let pool = CudaResource::new(device).pool(PoolOptions::default().step(2 * MIB)).unwrap();
    pool.pressure(options).unwrap()
}

#[test]
fn levels_rise_and_fall_with_slack_between() {
    let (device, stream) = device_of(100 * MIB);
    let stack = watched(&device);
    let others = CudaResource::new(&device);
    let level_with = |used: usize| {
        let block = get(&others, &stream, used);
        let probe = stack.allocate(&stream, layout::bytes(1000).unwrap());
        let level = stack.state().level();
        assert_eq!(probe.is_err(), level == PressureLevel::Refuse);
        if let Ok(probe) = probe {
            free(&stack, &stream, probe).unwrap();
        }
        free(&others, &stream, block).unwrap();
        level
    };
    use PressureLevel::{Normal, Refuse, Trim};
    // The MiB that others use, and the level. From the first probe on the pool reserves 2 MiB, except after a trim.
    let script =
        [(20, Normal), (44, Normal), (52, Trim), (45, Trim), (40, Trim), (36, Normal), (46, Normal)].into_iter().chain(
            [(60, Trim), (86, Trim), (92, Refuse), (84, Refuse), (80, Refuse), (70, Trim), (30, Normal), (95, Refuse)],
        );
    let ((), log) = events(|| {
        for (step, (used, level)) in script.enumerate() {
            assert_eq!(level_with(used * MIB), level, "step {step}: {used} MiB");
        }
    });
    assert_eq!(log.matches("refused under memory pressure").count(), 2, "each series of refusals once: {log}");
    let state = stack.find::<PressureState>().unwrap();
    assert_eq!(state.refusals(), 4);
    assert!(state.trims() >= 2 && state.trimmed_bytes() >= 4 * MIB as u64, "{state:?}");
}

#[test]
fn pressure_trims_then_spills_then_refuses_and_reports_each_step() {
    let (device, stream) = device_of(100 * MIB);
    let simulator = device.simulator().unwrap();
    {
        let second = ManagedResource::new(&device).unwrap().limit(30 * MIB).statistics();
        let stack = watched(&device).spill_to(second).unwrap().statistics();
        let mut blocks = Vec::new();
        let (error, log) = events(|| {
            // The pool keeps the freed 20 MiB until pressure makes it trim.
            let large = get(&stack, &stream, 20 * MIB);
            let kept = get(&stack, &stream, 10 * MIB);
            free(&stack, &stream, large).unwrap();
            blocks.push(kept);
            loop {
                match stack.allocate(&stream, layout::bytes(10 * MIB - 256).unwrap()) {
                    Ok(block) => blocks.push(block),
                    Err(error) => return error,
                }
            }
        });
        assert!(matches!(error, AllocError::LimitExceeded { .. }), "{error}");
        let spilled = stack.find::<SpillState>().unwrap();
        assert_eq!((spilled.blocks(), spilled.bytes(), spilled.refusals()), (3, 3 * (10 * MIB - 256), 1));
        assert_eq!(simulator.live_allocations().managed.blocks, 3);
        let pressure = stack.find::<PressureState>().unwrap();
        assert_eq!((pressure.level(), pressure.refusals()), (PressureLevel::Refuse, 4));
        let used = |info: cumem::device::MemoryInfo| info.total - info.free;
        assert!(used(device.memory_info().unwrap()) <= 100 * MIB);

        let at = |what: &str| log.find(what).unwrap_or_else(|| panic!("`{what}` was not said: {log}"));
        let order =
            ["now=Trim", "now=Refuse", "refused under memory pressure", "spilling", "neither resource has memory"];
        assert!(order.map(at).is_sorted(), "{log}");
        assert!(log.contains("trim_at=52428800") && log.contains("limit=94371840"), "{log}");

        // Blocks are freed in any order, each to the resource that allocated it.
        let ((), log) = events(|| {
            let (even, odd): (Vec<_>, Vec<_>) = blocks.into_iter().enumerate().partition(|(i, _)| i % 2 == 0);
            even.into_iter().chain(odd).for_each(|(_, block)| free(&stack, &stream, block).unwrap());
        });
        assert!(log.contains("nothing is spilled any more"), "{log}");
        assert_eq!((spilled.blocks(), spilled.bytes(), spilled.total_blocks()), (0, 0, 3));
        assert_eq!(simulator.live_allocations().managed.blocks, 0);
        assert_eq!(stack.find::<PoolState>().unwrap().stats().allocated, 0);
    }
    assert!(simulator.live_allocations().no_memory());
}

#[test]
fn a_leaf_out_of_memory_trims_and_retries_once() {
    let (device, stream) = device_of(64 * MIB);
    let one = CudaResource::new(&device).pool(PoolOptions::default()).unwrap();
    let one = one.pressure(PressureOptions::default().ask_after(64 * MIB)).unwrap();
    let block = get(&one, &stream, 40 * MIB);
    free(&one, &stream, block).unwrap();
    // A second stack, whose pressure layer trims the first stack's pool.
    let first = Arc::new(one);
    let reach = Arc::clone(&first);
    let two = CudaResource::new(&device).pressure(PressureOptions::default().ask_after(64 * MIB)).unwrap();
    let two = two.trimming(move |_| Ok(reach.upstream().trim()?));
    let block = get(&two, &stream, 50 * MIB);
    assert_eq!((two.state().trims(), two.state().trimmed_bytes()), (1, 40 * MIB as u64));
    assert_eq!(first.upstream().stats().reserved, 0);
    free(&two, &stream, block).unwrap();

    // If a trim frees nothing, the first error is returned.
    let error = two.allocate(&stream, layout::bytes(65 * MIB).unwrap()).unwrap_err();
    assert!(matches!(error, AllocError::OutOfMemory { requested, .. } if requested == 65 * MIB), "{error}");
}

#[test]
fn a_failed_trim_is_reported_and_not_fatal() {
    let (device, stream) = device_of(100 * MIB);
    let options = PressureOptions::default().trim_at(10 * MIB).refuse_at(90 * MIB).slack(0).ask_after(0);
    let stack = CudaResource::new(&device).pressure(options).unwrap().trimming(|_| Err("not now".into()));
    let first = get(&stack, &stream, 20 * MIB);
    let (second, log) = events(|| get(&stack, &stream, MIB));
    assert!(log.contains("not now"), "{log}");
    assert_eq!((stack.state().level(), stack.state().trims()), (PressureLevel::Trim, 0));
    [first, second].into_iter().for_each(|block| free(&stack, &stream, block).unwrap());
}

#[test]
fn bytes_freed_before_a_failed_trim_are_counted() {
    let (device, stream) = device_of(100 * MIB);
    let stack = watched(&device);
    let blocks = [0; 20].map(|_| get(&stack, &stream, 4 * MIB));
    blocks.into_iter().for_each(|block| free(&stack, &stream, block).unwrap());
    let others = CudaResource::new(&device);
    let block = get(&others, &stream, 12 * MIB);
    // The pool keeps 80 MiB. The driver refuses to free one chunk, and freeing the others is enough.
    device.simulator().unwrap().fail_nth(FaultCall::Free, 2, CudaErrorCode::UNKNOWN);
    let probe = get(&stack, &stream, 8 * MIB);
    let state = stack.state();
    assert!(state.trimmed_bytes() >= 60 * MIB as u64, "{state:?}");
    assert_eq!(state.refusals(), 0);
    free(&stack, &stream, probe).unwrap();
    free(&others, &stream, block).unwrap();
}

#[test]
fn invalid_levels_and_foreign_devices_are_refused() {
    let (device, _) = device_of(64 * MIB);
    let make = |options| CudaResource::new(&device).pressure(options).unwrap_err();
    let levels = |slack, trim_at, refuse_at| PressureError::Levels { slack, trim_at, refuse_at, total: 64 * MIB };
    let options = PressureOptions::default().slack(MIB).trim_at(20 * MIB);
    assert_eq!(make(options.refuse_at(10 * MIB)), levels(MIB, 20 * MIB, 10 * MIB));
    assert_eq!(make(options.refuse_at(65 * MIB)), levels(MIB, 20 * MIB, 65 * MIB));
    assert_eq!(make(options.slack(21 * MIB).refuse_at(30 * MIB)), levels(21 * MIB, 20 * MIB, 30 * MIB));

    let (elsewhere, _) = device_of(64 * MIB);
    let error = CudaResource::new(&device).spill_to(PinnedResource::new(&elsewhere)).unwrap_err();
    let what = "the resource to spill to";
    assert_eq!(error, DeviceError::WrongDevice { what, found: elsewhere.id(), expected: device.id() });
}

#[test]
fn spilled_memory_has_the_capabilities_of_both_kinds() {
    let (device, stream) = device_of(64 * MIB);
    let first = ManagedResource::new(&device).unwrap().limit(MIB);
    let stack = first.spill_to(PinnedResource::new(&device)).unwrap();
    let mut buffers = [1, 2].map(|_| Buffer::<u8, _>::zeroed(MIB, &stream, &stack).unwrap());
    for buffer in &mut buffers {
        buffer.host_write().unwrap().fill(7);
        assert!(buffer.host_read().unwrap().iter().all(|byte| *byte == 7));
    }
    let kinds = buffers.each_ref().map(|buffer| device.pointer_info(buffer.as_ptr()).unwrap().memory_type);
    assert_eq!(kinds, [MemoryType::Unified, MemoryType::Host]);

    // If the driver refuses a free, the block stays spilled.
    let block = get(&stack, &stream, MIB);
    device.simulator().unwrap().fail_nth(FaultCall::Free, 1, CudaErrorCode::UNKNOWN);
    let error = free(&stack, &stream, block).unwrap_err();
    assert_eq!(stack.state().blocks(), 2);
    free(&stack, &stream, error.block).unwrap();
    assert_eq!(stack.state().blocks(), 1);
}
