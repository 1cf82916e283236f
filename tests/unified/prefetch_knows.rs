//! `Prefetch` calls the driver only for pages that may be elsewhere, confirmed by the simulator's residency.

use crate::common::{free, simulated};
use cumem::kernel::HostKernel;
use cumem::sim::{FaultCall, Profile, Simulator};
use cumem::unified::{Advice, HintOutcome, SkipReason, hints};
use cumem::{Block, CudaResource, Device, Location, ManagedResource, MemoryResource, Stream, UnifiedBuffer, layout};
use cumem_adaptors::{Pool, PoolOptions, Prefetch, ResourceExt};
use proptest::prelude::*;

on_devices!(
    a_block_that_comes_back_is_not_prefetched_again,
    a_host_guard_is_noticed,
    a_prefetch_elsewhere_is_noticed,
    memory_that_was_returned_is_noticed,
    always_asks_always,
);

const MIB: usize = 1 << 20;

type Stack = Prefetch<Pool<ManagedResource>>;

fn stack(device: &Device) -> Stack {
    let pool = ManagedResource::new(device).unwrap().pool(PoolOptions::default()).unwrap();
    pool.prefetch(device.id()).unwrap()
}

fn get(stack: &impl MemoryResource, stream: &Stream, bytes: usize) -> Block {
    stack.allocate(stream, layout::bytes(bytes).unwrap()).unwrap()
}

/// Returns the number of prefetch calls, and the number of those avoided.
fn asked(stack: &Stack) -> (u64, u64) {
    (stack.state().calls(), stack.state().avoided())
}

fn last_prefetch(block: &Block, stream: &Stream) -> Option<Location> {
    hints::range_attributes(block, 0..block.size(), stream).unwrap().last_prefetch_location
}

/// Asserts that all pages are on the device, if the device is simulated.
fn is_there(block: &Block, stream: &Stream) {
    stream.synchronize().unwrap();
    if let Some(residency) = hints::residency(block, 0..block.size(), stream).unwrap() {
        let pages = block.size().next_multiple_of(4096) as u64;
        assert!(residency.on(stream.device_id()) >= pages, "{residency:?}");
    }
}

fn a_block_that_comes_back_is_not_prefetched_again(device: &Device) {
    let (stack, stream) = (stack(device), Stream::new(device).unwrap());
    for bytes in [4096, 64 << 10, 3 * MIB, 16 * MIB] {
        let first = get(&stack, &stream, bytes);
        let addr = first.addr();
        assert_eq!(last_prefetch(&first, &stream), Some(device.id().into()));
        free(&stack, &stream, first).unwrap();
        let before = asked(&stack);
        for _ in 0..10 {
            let again = get(&stack, &stream, bytes);
            assert_eq!(again.addr(), addr);
            is_there(&again, &stream);
            free(&stack, &stream, again).unwrap();
        }
        assert_eq!(asked(&stack), (before.0, before.1 + 10), "{bytes}");
    }
}

fn a_host_guard_is_noticed(device: &Device) {
    let stack = stack(device);
    let stream = Stream::new(device).unwrap();
    let mut buffer = UnifiedBuffer::<u8, _>::zeroed(4 * MIB, &stream, &stack).unwrap();
    buffer.host_write().unwrap()[3 * MIB] = 7;
    drop(buffer);
    let block = get(&stack, &stream, 4 * MIB);
    assert_eq!(asked(&stack), (2, 0));
    is_there(&block, &stream);
    free(&stack, &stream, block).unwrap();
}

fn a_prefetch_elsewhere_is_noticed(device: &Device) {
    let (stack, stream) = (stack(device), Stream::new(device).unwrap());
    let block = get(&stack, &stream, 4 * MIB);
    assert_eq!(hints::prefetch(&block, 0..4096, Location::Host, &stream).unwrap(), HintOutcome::Applied);
    let there = HintOutcome::Skipped(SkipReason::AlreadyThere);
    let ask = |range| hints::prefetch_if_needed(&block, range, device.id(), &stream).unwrap();
    assert_eq!(ask(4096..4 * MIB), there);
    assert_eq!(ask(0..4 * MIB), HintOutcome::Applied);
    is_there(&block, &stream);
    assert_eq!(ask(0..4 * MIB), there);
    assert_eq!(hints::advise(&block, 0..4096, Advice::UnsetReadMostly, &stream).unwrap(), HintOutcome::Applied);
    assert_eq!(ask(0..4 * MIB), HintOutcome::Applied, "advice may move pages");
    let to_host = |_| hints::prefetch_if_needed(&block, 0..4096, Location::Host, &stream).unwrap();
    assert_eq!([(); 2].map(to_host), [HintOutcome::Applied; 2], "nothing is assumed of the host");
    free(&stack, &stream, block).unwrap();
}

fn memory_that_was_returned_is_noticed(device: &Device) {
    // Without a pool, the driver allocates and frees each block.
    let stack = ManagedResource::new(device).unwrap().prefetch(device.id()).unwrap();
    let stream = Stream::new(device).unwrap();
    for round in 1..=5 {
        let block = get(&stack, &stream, 4 * MIB);
        assert_eq!((stack.state().calls(), stack.state().avoided()), (round, 0));
        is_there(&block, &stream);
        free(&stack, &stream, block).unwrap();
    }
}

fn always_asks_always(device: &Device) {
    let (stack, stream) = (stack(device).always(), Stream::new(device).unwrap());
    for round in 1..=3 {
        let block = get(&stack, &stream, MIB);
        assert_eq!(asked(&stack), (round, 0));
        free(&stack, &stream, block).unwrap();
    }
}

#[test]
fn prefetch_of_a_resident_block_makes_no_driver_call() {
    let device = simulated();
    let (stack, stream) = (stack(&device), Stream::new(&device).unwrap());
    let block = get(&stack, &stream, 16 * MIB);
    free(&stack, &stream, block).unwrap();
    let simulator = device.simulator().unwrap();
    let before = simulator.calls(FaultCall::Any);
    let block = get(&stack, &stream, 16 * MIB);
    assert_eq!(simulator.calls(FaultCall::Any), before);
    free(&stack, &stream, block).unwrap();
}

#[test]
fn pages_prefetched_on_one_stream_are_resident_for_another() {
    let device = simulated();
    let (stack, one, two) = (stack(&device), Stream::new(&device).unwrap(), Stream::new(&device).unwrap());
    let first = get(&stack, &one, 8 * MIB);
    let addr = first.addr();
    free(&stack, &one, first).unwrap();
    // The prefetch is enqueued, but has not ended.
    let again = get(&stack, &two, 8 * MIB);
    assert_eq!((again.addr(), asked(&stack)), (addr, (1, 1)));
    let kernel = HostKernel::new("use", |_| ()).reads(addr, 8 * MIB);
    // SAFETY: the block outlives the work, because the stream is synchronized. The simulator initializes new memory.
    unsafe { two.launch_host(kernel) }.unwrap();
    two.synchronize().unwrap();
    assert_eq!(device.simulator().unwrap().statistics(device.id()).unwrap().faults, 0);
    free(&stack, &two, again).unwrap();
}

#[test]
fn no_residency_is_assumed_if_pages_may_be_evicted() {
    let device = Device::simulated(Profile::tiny(64 << 20)).unwrap();
    let (stack, stream) = (stack(&device), Stream::new(&device).unwrap());
    let block = get(&stack, &stream, 16 * MIB);
    free(&stack, &stream, block).unwrap();
    let block = get(&stack, &stream, 16 * MIB);
    assert_eq!(asked(&stack).1, 1, "there is room");
    free(&stack, &stream, block).unwrap();

    // A large plain allocation makes the driver evict pages.
    let plain = CudaResource::new(&device);
    let large = get(&plain, &stream, 56 * MIB);
    let before = asked(&stack);
    for _ in 0..3 {
        let block = get(&stack, &stream, 16 * MIB);
        free(&stack, &stream, block).unwrap();
    }
    assert_eq!(asked(&stack), (before.0 + 3, before.1));
    free(&plain, &stream, large).unwrap();

    // As much managed memory as the device has, in addition to the pool's.
    let more = ManagedResource::new(&device).unwrap();
    let oversubscribed = get(&more, &stream, 64 * MIB);
    let before = asked(&stack);
    let blocks = [0; 2].map(|_| get(&stack, &stream, 16 * MIB));
    assert_eq!(asked(&stack), (before.0 + 2, before.1));
    blocks.into_iter().for_each(|block| free(&stack, &stream, block).unwrap());
    free(&more, &stream, oversubscribed).unwrap();

    for _ in 0..2 {
        let block = get(&stack, &stream, 16 * MIB);
        is_there(&block, &stream);
        free(&stack, &stream, block).unwrap();
    }
    assert_eq!(asked(&stack).1, before.1 + 1, "there is room again");
}

#[test]
fn kernels_of_another_device_may_have_taken_the_pages() {
    let simulator = Simulator::new([Profile::default(), Profile::default()]).unwrap();
    let (first, second) = (Device::of_simulator(&simulator, 0).unwrap(), Device::of_simulator(&simulator, 1).unwrap());
    let (stack, stream, other) = (stack(&first), Stream::new(&first).unwrap(), Stream::new(&second).unwrap());
    let block = get(&stack, &stream, 4 * MIB);
    stream.synchronize().unwrap();
    let kernel = HostKernel::new("take", |_| ()).writes(block.addr(), 4 * MIB);
    // SAFETY: the block outlives the work, because the stream is synchronized. The block's prefetch has ended.
    unsafe { other.launch_host(kernel) }.unwrap();
    other.synchronize().unwrap();
    let residency = hints::residency(&block, 0..4 * MIB, &stream).unwrap().unwrap();
    assert_eq!(residency.on(second.id()), 4 * MIB as u64);
    free(&stack, &stream, block).unwrap();

    let block = get(&stack, &stream, 4 * MIB);
    assert_eq!(asked(&stack), (2, 0));
    is_there(&block, &stream);

    // A prefetch to the second device invalidates the knowledge about the first.
    assert_eq!(hints::prefetch(&block, 0..block.size(), second.id(), &stream).unwrap(), HintOutcome::Applied);
    let there = HintOutcome::Skipped(SkipReason::AlreadyThere);
    assert_eq!(hints::prefetch_if_needed(&block, 0..block.size(), second.id(), &stream).unwrap(), there);
    assert_eq!(hints::prefetch_if_needed(&block, 0..block.size(), first.id(), &stream).unwrap(), HintOutcome::Applied);
    is_there(&block, &stream);
    free(&stack, &stream, block).unwrap();
}

/// The operations of a random program. This library sees each of them.
#[derive(Debug, Clone)]
enum Op {
    Allocate { bytes: usize, stream: usize },
    Free { which: usize, stream: usize },
    HostWrite { bytes: usize },
    ToHost { which: usize },
    TakePlain { bytes: usize },
    GivePlain,
    Trim,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (1..5 * MIB, 0..2_usize).prop_map(|(bytes, stream)| Op::Allocate { bytes, stream }),
        5 => (0..64_usize, 0..2_usize).prop_map(|(which, stream)| Op::Free { which, stream }),
        1 => (1..3 * MIB).prop_map(|bytes| Op::HostWrite { bytes }),
        1 => (0..64_usize).prop_map(|which| Op::ToHost { which }),
        1 => (MIB..50 * MIB).prop_map(|bytes| Op::TakePlain { bytes }),
        1 => Just(Op::GivePlain),
        1 => Just(Op::Trim),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn pages_left_out_of_a_prefetch_are_always_resident(ops in prop::collection::vec(op(), 1..80)) {
        let device = Device::simulated(Profile::tiny(64 << 20)).unwrap();
        let streams = [0; 2].map(|_| Stream::new(&device).unwrap());
        let stack = stack(&device);
        let plain = CudaResource::new(&device);
        let (mut live, mut taken): (Vec<Block>, Vec<Block>) = (Vec::new(), Vec::new());
        for op in ops {
            match op {
                Op::Allocate { bytes, stream } => {
                    let avoided = stack.state().avoided();
                    // If plain allocations take all memory, a prefetch fails when it runs.
                    let Ok(block) = stack.allocate(&streams[stream], layout::bytes(bytes).unwrap()) else { continue };
                    let done = streams[stream].synchronize();
                    if stack.state().avoided() > avoided {
                        prop_assert!(done.is_ok());
                        is_there(&block, &streams[stream]);
                    }
                    live.push(block);
                }
                Op::Free { which, stream } if !live.is_empty() => {
                    let block = live.swap_remove(which % live.len());
                    free(&stack, &streams[stream], block).unwrap();
                }
                Op::HostWrite { bytes } => {
                    let Ok(mut buffer) = UnifiedBuffer::<u8, _>::zeroed(bytes, &streams[0], &stack) else { continue };
                    if let Ok(mut bytes) = buffer.host_write() {
                        bytes[0] = 1;
                    }
                }
                Op::ToHost { which } if !live.is_empty() => {
                    let block = &live[which % live.len()];
                    let outcome = hints::prefetch(block, 0..block.size() / 2, Location::Host, &streams[0]).unwrap();
                    prop_assert!(block.size() < 2 || outcome == HintOutcome::Applied);
                    let _late_errors_are_not_what_is_tested = streams[0].synchronize();
                }
                Op::TakePlain { bytes } => taken.extend(plain.allocate(&streams[0], layout::bytes(bytes).unwrap())),
                Op::GivePlain => taken.drain(..).for_each(|block| free(&plain, &streams[0], block).unwrap()),
                Op::Trim => live.drain(..).for_each(|block| free(&stack, &streams[0], block).unwrap()),
                Op::Free { .. } | Op::ToHost { .. } => {}
            }
        }
        live.into_iter().for_each(|block| free(&stack, &streams[0], block).unwrap());
        taken.into_iter().for_each(|block| free(&plain, &streams[0], block).unwrap());
    }
}
