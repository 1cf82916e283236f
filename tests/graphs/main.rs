//! Captures and graphs, on the simulated device and on a GPU.
//!
//! Tests that need a GPU are ignored by default. `cargo test --test graphs -- --include-ignored` runs them. They run one
//! after the other, because a wait for the device, in whichever thread, ends a capture.

use cumem::error::CudaErrorCode;
use cumem::kernel::{CaptureMode, CaptureState, Function, HostKernel, KernelArg, LaunchConfig, Module};
use cumem::sim::{FaultCall, Profile};
use cumem::{Block, Buffer, CudaResource, Device, LayerExt, MemoryResource, Stream, layout};
use cumem_adaptors::graph_pools::GraphPoolId;
use cumem_adaptors::{GraphPoolsState, StackSpec};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;

const PTX: &str = include_str!("../devices/cuda_driver/kernels.ptx");
const COUNT: u32 = 10_000;
const STACKS: [&str; 6] = [
    "device | graph_pools",
    "device | pool | graph_pools",
    "device | pool | limit(1GiB) | statistics | graph_pools",
    "virtual | pool | graph_pools",
    "managed | pool(maximum=1GiB) | graph_pools",
    "async | graph_pools",
];

fn gpu() -> (Device, MutexGuard<'static, ()>) {
    static ALONE: Mutex<()> = Mutex::new(());
    let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    (Device::open(0).expect("these tests need a CUDA device"), alone)
}

fn simulated() -> Device {
    Device::simulated(Profile::default()).unwrap()
}

/// Enqueues a kernel that writes `value` to the `COUNT` numbers at `address`.
fn fill(stream: &Stream, address: u64, value: u32) {
    if stream.device().is_simulated() {
        let kernel = HostKernel::repeatable("fill", move |memory| memory.write::<u32>(0).fill(value));
        // SAFETY: the callers keep the memory until the work is done.
        unsafe { stream.launch_host(kernel.writes(address, COUNT as usize * 4)) }.unwrap();
        return;
    }
    static FILL: OnceLock<Function> = OnceLock::new();
    let kernel = FILL.get_or_init(|| Module::from_ptx(stream.device(), PTX).unwrap().function("fill").unwrap());
    let args = [KernelArg::new(address), KernelArg::new(COUNT), KernelArg::new(value)];
    // SAFETY: these are the kernel's parameters, and the callers keep the memory until the work is done.
    unsafe { stream.launch_kernel(kernel, LaunchConfig::for_elements(COUNT, 128), &args) }.unwrap();
}

fn numbers(stream: &Stream) -> Buffer<u32, CudaResource> {
    Buffer::zeroed(COUNT as usize, stream, CudaResource::new(stream.device())).unwrap()
}

fn allocate(stack: &impl MemoryResource, stream: &Stream, bytes: usize) -> Block {
    stack.allocate(stream, layout::bytes(bytes).unwrap()).unwrap()
}

fn free(stack: &impl MemoryResource, stream: &Stream, block: Block) {
    // SAFETY: all uses of the block were enqueued, or captured, before.
    unsafe { stack.deallocate(stream, block) }.unwrap();
}

/// Waits for all streams of a test, without a wait for the device.
fn finish(streams: &[&Stream]) {
    streams.iter().for_each(|stream| stream.synchronize().unwrap());
}

fn work_runs_at_each_launch(device: &Device) {
    let [stream, branch] = [(); 2].map(|()| Stream::new(device).unwrap());
    let (first, second) = (numbers(&stream), numbers(&stream));
    fill(&stream, first.device_address(), 1); // loads the kernel before the capture
    finish(&[&stream]);
    // SAFETY: the buffers are read only after a launch.
    let capture = unsafe { stream.begin_capture(CaptureMode::Global) }.unwrap();
    fill(&stream, first.device_address(), 7);
    branch.wait_for(&stream).unwrap();
    fill(&branch, second.device_address(), 8);
    stream.wait_for(&branch).unwrap();
    assert!(matches!(stream.capture_state(), Ok(CaptureState::Active { .. })));
    assert_eq!(stream.capture_state(), branch.capture_state());
    let graph = capture.end().unwrap();
    assert_eq!((stream.capture_state(), branch.capture_state()), (Ok(CaptureState::None), Ok(CaptureState::None)));
    assert_eq!((first.to_vec().unwrap()[0], second.to_vec().unwrap()[0]), (1, 0), "captured work has not run");
    for _ in 0..2 {
        fill(&stream, first.device_address(), 3);
        // SAFETY: the buffers live until they are read, which waits for the launch.
        unsafe { graph.launch(&stream) }.unwrap();
        assert!(first.to_vec().unwrap().iter().all(|number| *number == 7));
        assert!(second.to_vec().unwrap().iter().all(|number| *number == 8));
    }
}

/// Runs `work` in another thread while a stream is captured, and asserts that the capture survives.
fn a_capture_survives_other_threads(device: &Device) {
    for text in STACKS {
        let stack = StackSpec::parse(text).unwrap().build(device).unwrap();
        let [stream, other, third] = [(); 3].map(|()| Stream::new(device).unwrap());
        let output = numbers(&stream);
        fill(&stream, output.device_address(), 1);
        // Free memory of a stream that will be captured, and of one with work.
        let blocks = [&stream, &other].map(|stream| allocate(&stack, stream, 8 << 20));
        for (stream, block) in [&stream, &other].into_iter().zip(blocks) {
            fill(stream, block.addr(), 1);
            free(&stack, stream, block);
        }
        // SAFETY: the output is read only after the launch.
        let capture = unsafe { stream.begin_capture(CaptureMode::Global) }.unwrap();
        fill(&stream, output.device_address(), 9);
        thread::scope(|scope| {
            scope.spawn(|| {
                for megabytes in 1..12 {
                    let block = allocate(&stack, &third, megabytes << 20);
                    fill(&third, block.addr(), 2);
                    free(&stack, if megabytes % 2 == 0 { &third } else { &other }, block);
                }
                third.synchronize().unwrap();
            });
        });
        assert!(matches!(stream.capture_state(), Ok(CaptureState::Active { .. })), "{text}");
        let graph = capture.end().unwrap();
        // SAFETY: the output lives until it is read, which waits for the launch.
        unsafe { graph.launch(&stream) }.unwrap();
        assert_eq!(output.to_vec().unwrap(), [9; COUNT as usize], "{text}");
        finish(&[&stream, &other, &third]);
    }
}

/// Allocations within a capture: growth, reuse, branches, and memory that no other work gets.
fn a_graph_keeps_its_memory(device: &Device) {
    for text in STACKS {
        let stack = StackSpec::parse(text).unwrap().build(device).unwrap();
        let state = stack.find::<GraphPoolsState>().unwrap();
        let [stream, branch] = [(); 2].map(|()| Stream::new(device).unwrap());
        let output = numbers(&stream);
        fill(&stream, output.device_address(), 0);
        let bytes = COUNT as usize * 4;
        // SAFETY: the output is read only after a launch.
        let capture = unsafe { state.capture(&stream, CaptureMode::Global, GraphPoolId::unique()) }.unwrap();
        let scratch = allocate(&stack, &stream, bytes);
        let (start, end) = (scratch.addr(), scratch.addr() + bytes as u64);
        fill(&stream, start, 5);
        branch.wait_for(&stream).unwrap();
        let on_branch = allocate(&stack, &branch, 32 << 20); // the pool grows
        fill(&branch, on_branch.addr(), 6);
        free(&stack, &branch, on_branch);
        stream.wait_for(&branch).unwrap();
        fill(&stream, output.device_address(), 5);
        free(&stack, &stream, scratch);
        let again = allocate(&stack, &stream, bytes);
        assert_eq!(again.addr(), start, "{text}");
        free(&stack, &stream, again);
        let graph = capture.end().unwrap();
        // Other work gets other memory, and does not disturb the graph.
        let others: Vec<_> = (0..20).map(|_| allocate(&stack, &stream, 4 << 20)).collect();
        for other in &others {
            assert!(other.addr() + (4 << 20) <= start || other.addr() >= end, "{text}");
            fill(&stream, other.addr(), 1);
        }
        for _ in 0..2 {
            fill(&stream, output.device_address(), 0);
            // SAFETY: the graph keeps its memory, and the output lives until it is read.
            unsafe { graph.launch(&stream) }.unwrap();
            assert_eq!(output.to_vec().unwrap(), [5; COUNT as usize], "{text}");
        }
        assert!(state.reserved() >= (32 << 20) + bytes, "{text}");
        drop(graph);
        assert_eq!(state.reserved(), 0, "{text}");
        others.into_iter().for_each(|block| free(&stack, &stream, block));
        finish(&[&stream, &branch]);
    }
}

/// Otherwise every later wait for the device would be refused, because a pool may keep the stream alive.
#[test]
fn a_capture_that_is_dropped_ends_although_the_driver_refuses_the_call() {
    let device = simulated();
    let stream = Stream::new(&device).unwrap();
    // SAFETY: no work is enqueued.
    let capture = unsafe { stream.begin_capture(CaptureMode::Relaxed) }.unwrap();
    device.simulator().unwrap().fail_nth(FaultCall::Capture, 1, CudaErrorCode::UNKNOWN);
    drop(capture);
    assert_eq!(stream.capture_state(), Ok(CaptureState::None));
    device.synchronize().unwrap();
}

macro_rules! on_both_devices {
    ($($name:ident),+) => {$(
        mod $name {
            #[test]
            fn simulated() {
                super::$name(&super::simulated());
            }

            #[test]
            #[ignore = "needs a CUDA device"]
            fn gpu() {
                let (device, _alone) = super::gpu();
                super::$name(&device);
            }
        }
    )+};
}

on_both_devices!(work_runs_at_each_launch, a_capture_survives_other_threads, a_graph_keeps_its_memory);
