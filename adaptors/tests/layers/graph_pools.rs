//! Graphs keep the memory of their capture, and neither they nor other streams disturb a capture.

use crate::common::{free, sim};
use cumem::error::CudaErrorCode;
use cumem::kernel::{CaptureMode, CaptureState, HostKernel};
use cumem::sim::faults;
use cumem::sim::{FaultCall, Profile};
use cumem::{
    AnyUpstream, Block, Buffer, CudaResource, CudaVirtualResource, Device, LayerExt, MemoryResource, Stream, layout,
};
use cumem_adaptors::graph_pools::{GraphPoolError, GraphPoolId, PooledCapture};
use cumem_adaptors::{GraphPools, GraphPoolsState, PoolOptions, PoolState, ResourceExt, StackSpec};
use std::error::Error;

const MIB: usize = 1 << 20;

type Stack = GraphPools<cumem_adaptors::Pool<CudaResource>>;

fn stack(device: &Device) -> Stack {
    CudaResource::new(device).pool(PoolOptions::new()).unwrap().graph_pools()
}

fn allocate(stack: &impl MemoryResource, stream: &Stream, bytes: usize) -> Block {
    stack.allocate(stream, layout::bytes(bytes).unwrap()).unwrap()
}

fn capture<'s>(state: &GraphPoolsState, stream: &'s Stream, id: GraphPoolId) -> PooledCapture<'s> {
    // SAFETY: the tests use results of captured work only after a launch.
    unsafe { state.capture(stream, CaptureMode::Global, id) }.unwrap()
}

/// Fills the memory of a block with `value`, as a kernel.
fn fill(stream: &Stream, block: &Block, value: u8) {
    let kernel = HostKernel::repeatable("fill", move |memory| memory.write::<u8>(0).fill(value));
    // SAFETY: the tests keep the memory, in blocks or in graphs.
    unsafe { stream.launch_host(kernel.writes(block.addr(), block.size())) }.unwrap();
}

#[test]
fn memory_of_a_capture_goes_to_no_other_work_while_the_graph_exists() {
    let (device, stream) = sim();
    let stack = stack(&device);
    let capturing = capture(stack.state(), &stream, GraphPoolId::unique());
    let block = allocate(&stack, &stream, MIB);
    let (addr, end) = (block.addr(), block.addr() + MIB as u64);
    fill(&stream, &block, 7);
    free(&stack, &stream, block).unwrap();
    let again = allocate(&stack, &stream, MIB);
    assert_eq!(again.addr(), addr, "the capture uses its own freed memory again");
    free(&stack, &stream, again).unwrap();
    let graph = capturing.end().unwrap();

    let others: Vec<_> = (0..64).map(|_| allocate(&stack, &stream, MIB)).collect();
    assert!(others.iter().all(|other| other.addr() + MIB as u64 <= addr || other.addr() >= end));
    let reserved = stack.state().reserved();
    assert!(reserved >= MIB && stack.find::<PoolState>().unwrap().stats().requested >= 64 * MIB + reserved);
    drop(graph);
    assert_eq!(stack.state().reserved(), 0);
    assert_eq!(stack.find::<PoolState>().unwrap().stats().requested, 64 * MIB);
    others.into_iter().for_each(|block| free(&stack, &stream, block).unwrap());
}

#[test]
fn a_later_capture_of_the_same_pool_uses_the_memory_again() {
    let (device, stream) = sim();
    let stack = stack(&device);
    let id = GraphPoolId::unique();
    let record = |pool| {
        let capturing = capture(stack.state(), &stream, pool);
        let block = allocate(&stack, &stream, MIB);
        let addr = block.addr();
        fill(&stream, &block, 1);
        free(&stack, &stream, block).unwrap();
        (addr, capturing.end().unwrap())
    };
    let (first, second, other) = (record(id), record(id), record(GraphPoolId::unique()));
    assert_eq!(first.0, second.0);
    assert_ne!(first.0, other.0);
    drop(first);
    assert!(stack.state().reserved() > 0, "the second graph holds the memory");
    drop((second, other));
    assert_eq!(stack.state().reserved(), 0);
}

/// The output of a graph is a block that the program keeps after the capture, and frees on another stream.
#[test]
fn a_block_that_outlives_its_capture_is_freed_to_its_pool() {
    let (device, stream) = sim();
    let (stack, other) = (stack(&device), Stream::new(&device).unwrap());
    let capturing = capture(stack.state(), &stream, GraphPoolId::unique());
    // SAFETY: the buffer is read only after the launch, which writes it.
    let output = unsafe { Buffer::<u32, _>::uninit(1000, &stream, &stack) }.unwrap();
    let kernel = HostKernel::repeatable("count", |memory| memory.write::<u32>(0).fill(7));
    // SAFETY: the kernel writes the buffer, which outlives the launch below.
    unsafe { stream.launch_host(kernel.writes(output.device_address(), output.size_bytes())) }.unwrap();
    let graph = capturing.end().unwrap();
    // SAFETY: the buffer lives until it is read, which waits for the launch.
    unsafe { graph.launch(&stream) }.unwrap();
    assert_eq!(output.to_vec().unwrap(), [7; 1000]);
    drop(graph);
    assert!(stack.state().reserved() > 0, "a block is live");
    let (block, _) = (allocate(&stack, &other, 64), other.wait_for(&stream).unwrap());
    free(&stack, &other, block).unwrap();
    drop(output);
    assert_eq!(stack.state().reserved(), 0);
}

#[test]
fn a_captured_branch_allocates_from_the_pool_and_other_streams_do_not() {
    let (device, stream) = sim();
    let stack = stack(&device);
    let [branch, other] = [(); 2].map(|()| Stream::new(&device).unwrap());
    let capturing = capture(stack.state(), &stream, GraphPoolId::unique());
    branch.wait_for(&stream).unwrap();
    let reserved = || stack.find::<PoolState>().unwrap().stats().requested;
    let before = reserved();
    let outside = allocate(&stack, &other, MIB);
    assert_eq!(reserved(), before + MIB, "the stack's own pool made the block");
    let inside = allocate(&stack, &branch, MIB);
    assert!(stack.state().reserved() > 0);
    fill(&branch, &inside, 1);
    stream.wait_for(&branch).unwrap();
    free(&stack, &branch, inside).unwrap();
    free(&stack, &other, outside).unwrap();
    drop(capturing.end().unwrap());
}

/// Each of these would query, or wait for, the captured stream if the pool did not know of the capture.
#[test]
fn pools_leave_captured_streams_alone() {
    for foreign in [false, true] {
        let device = Device::simulated(Profile::default()).unwrap();
        let owned = Stream::new(&device).unwrap();
        let stream = match foreign {
            // SAFETY: `owned` lives as long as the test.
            true => unsafe { Stream::from_raw(&device, owned.as_raw()) },
            false => owned.clone(),
        };
        let other = Stream::new(&device).unwrap();
        let limit = CudaResource::new(&device).limit(8 * MIB);
        let stack = limit.pool(PoolOptions::new()).unwrap().graph_pools();
        // The stream's heap has all memory, and its work is not done.
        let block = allocate(&stack, &stream, 4 * MIB);
        fill(&stream, &block, 1);
        free(&stack, &stream, block).unwrap();
        let capturing = capture(stack.state(), &stream, GraphPoolId::unique());
        // Only the memory of the captured stream would fit, so the pool searches everywhere.
        assert!(stack.allocate(&other, layout::bytes(6 * MIB).unwrap()).is_err());
        let small = allocate(&stack, &other, MIB);
        free(&stack, &other, small).unwrap();
        let _refused_or_partial = stack.upstream().trim();
        let inside = allocate(&stack, &stream, 1000);
        free(&stack, &stream, inside).unwrap();
        assert!(matches!(stream.capture_state(), Ok(CaptureState::Active { .. })), "foreign: {foreign}");
        let graph = capturing.end().unwrap();
        drop(graph);
        stream.synchronize().unwrap();
        let large = allocate(&stack, &other, 6 * MIB);
        free(&stack, &other, large).unwrap();
    }
}

/// The private pool is at its end, and searches the memory that it has. It must not give memory of a graph away.
#[test]
fn a_full_device_takes_no_memory_from_a_graph() {
    let (device, stream) = sim();
    let stack = CudaResource::new(&device).limit(8 * MIB).pool(PoolOptions::new().step(MIB)).unwrap().graph_pools();
    let id = GraphPoolId::unique();
    let capturing = capture(stack.state(), &stream, id);
    let block = allocate(&stack, &stream, 2 * MIB);
    fill(&stream, &block, 7);
    free(&stack, &stream, block).unwrap();
    let graph = capturing.end().unwrap();
    let reserved = stack.state().reserved();
    let second = capture(stack.state(), &stream, id);
    assert!(stack.allocate(&stream, layout::bytes(7 * MIB).unwrap()).is_err());
    drop(second);
    assert_eq!(stack.state().reserved(), reserved, "the first graph still uses its memory");
    // SAFETY: the graph keeps the memory that its work uses.
    unsafe { graph.launch(&stream) }.unwrap();
    stream.synchronize().unwrap();
    drop(graph);
    assert_eq!(stack.state().reserved(), 0);
    let all = allocate(&stack, &stream, 8 * MIB);
    free(&stack, &stream, all).unwrap();
}

/// The launch runs on a stream that the pool has never seen.
#[test]
fn memory_goes_back_only_after_the_launches_of_its_graph() {
    let (device, stream) = sim();
    let (stack, launcher) = (stack(&device), Stream::new(&device).unwrap());
    let capturing = capture(stack.state(), &stream, GraphPoolId::unique());
    let block = allocate(&stack, &stream, 64 * MIB);
    fill(&stream, &block, 7);
    free(&stack, &stream, block).unwrap();
    let graph = capturing.end().unwrap();
    // SAFETY: the graph keeps the memory, also while it is dropped.
    unsafe { graph.launch(&launcher) }.unwrap();
    drop(graph);
    assert_eq!(stack.state().reserved(), 0);
    assert!(launcher.is_idle().unwrap(), "the memory went back before its last use");
}

#[test]
fn no_false_alarm_of_the_race_detector() {
    let (device, stream) = sim();
    let simulator = device.simulator().unwrap();
    simulator.detect_races(true);
    let stack = stack(&device);
    let capturing = capture(stack.state(), &stream, GraphPoolId::unique());
    for value in 0..3 {
        let block = allocate(&stack, &stream, MIB);
        fill(&stream, &block, value);
        free(&stack, &stream, block).unwrap();
    }
    let graph = capturing.end().unwrap();
    for _ in 0..2 {
        // SAFETY: the graph keeps the memory that its work uses.
        unsafe { graph.launch(&stream) }.unwrap();
    }
    stream.synchronize().unwrap();
    assert_eq!(simulator.take_races(), []);
}

#[test]
fn wrong_calls_are_typed_and_change_nothing() {
    let (device, stream) = sim();
    let stack = stack(&device);
    let (state, id) = (stack.state(), GraphPoolId(3, 4));
    assert_eq!(state.end(id), Err(GraphPoolError::NotOpen { id }));
    assert_eq!(state.release(id), Err(GraphPoolError::NotHeld { id }));
    state.begin(id, |_| true).unwrap();
    assert_eq!(state.begin(id, |_| true), Err(GraphPoolError::AlreadyOpen { id }));
    let inside = allocate(&stack, &stream, 100);
    state.end(id).unwrap();
    state.release(id).unwrap();
    assert_eq!(state.release(id), Err(GraphPoolError::NotHeld { id }));
    assert!(state.reserved() > 0, "a block is live");
    let text = "the graph pool (3, 4) has no capture that was not released";
    assert_eq!(GraphPoolError::NotHeld { id }.to_string(), text);
    free(&stack, &stream, inside).unwrap();
    assert_eq!(state.reserved(), 0);
    // SAFETY: the program enqueues no work.
    let twice = unsafe {
        let _capture = state.capture(&stream, CaptureMode::Global, id).unwrap();
        state.capture(&stream, CaptureMode::Global, GraphPoolId(3, 5)).unwrap_err()
    };
    let GraphPoolError::Device(error) = twice else { panic!("{twice}") };
    assert_eq!(error.code(), Some(CudaErrorCode::ILLEGAL_STATE));
    assert_eq!(stream.capture_state(), Ok(CaptureState::None));
}

#[test]
fn a_dropped_capture_releases_its_memory() {
    let (device, stream) = sim();
    let stack = stack(&device);
    let capturing = capture(stack.state(), &stream, GraphPoolId::unique());
    let block = allocate(&stack, &stream, MIB);
    free(&stack, &stream, block).unwrap();
    drop(capturing);
    assert_eq!((stack.state().reserved(), stream.capture_state()), (0, Ok(CaptureState::None)));
}

#[test]
fn stacks_from_text_have_graph_pools() {
    let (device, stream) = sim();
    for text in ["device | pool | graph_pools | statistics", "virtual | pool | limit(80%) | graph_pools"] {
        let stack = StackSpec::parse(text).unwrap().build(&device).unwrap();
        assert_eq!(StackSpec::parse(text).unwrap().to_string(), text);
        let state = stack.find::<GraphPoolsState>().unwrap();
        let capturing = capture(state, &stream, GraphPoolId::unique());
        let block = allocate(&stack, &stream, 3 * MIB);
        fill(&stream, &block, 1);
        free(&stack, &stream, block).unwrap();
        drop(capturing.end().unwrap());
        assert_eq!(state.reserved(), 0);
    }
}

#[test]
fn nothing_is_lost_whichever_driver_call_fails() {
    let report = faults::enumerate(&Profile::default(), |device| {
        let stream = Stream::new(device)?;
        let stack = AnyUpstream::new(CudaVirtualResource::new(device)?.pool(PoolOptions::new())?.graph_pools());
        let state = stack.find::<GraphPoolsState>().unwrap();
        // SAFETY: the program uses no result of the captured work.
        let capturing = unsafe { state.capture(&stream, CaptureMode::Global, GraphPoolId::unique()) }?;
        let block = stack.allocate(&stream, layout::bytes(3 * MIB)?)?;
        let freed = free(&stack, &stream, block);
        let graph = capturing.end()?;
        freed?;
        // SAFETY: the graph keeps its memory.
        unsafe { graph.launch(&stream) }?;
        drop(graph);
        stream.synchronize()?;
        Ok::<_, Box<dyn Error>>(())
    });
    report.assert();
    assert!(report.calls().iter().any(|(call, _)| *call == FaultCall::Capture));
}
