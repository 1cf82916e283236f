//! Bad input returns a typed error with its numbers, and loses no memory.

use crate::common::{free, simulated};
use cumem::error::{CudaErrorCode, DeallocReason};
use cumem::error::{HumanBytes, InvalidLayout};
use cumem::sim::{FaultCall, Profile, ProfileError, Simulator};
use cumem::{
    AllocError, CudaAsyncResource, CudaResource, Device, DeviceError, DriverError, LayerExt, ManagedResource,
    MemoryResource, PinnedResource, Stream, current, layout,
};
use cumem_adaptors::{LimiterState, PoolError, PoolOptions, PoolState, ResourceExt, StackSpec, StatisticsState};
use cumem_replay::{Trace, TraceError};

on_devices!(
    sizes_that_cannot_be,
    alignments_that_cannot_be,
    blocks_of_another_resource,
    blocks_and_streams_of_another_device,
    more_freed_than_a_limit_counts,
    out_of_memory_with_and_without_a_pool,
    a_device_that_does_not_exist,
);

fn leaves(device: &Device) -> Vec<Box<dyn cumem::MemoryResource<Kind = cumem::kind::Device>>> {
    vec![Box::new(CudaResource::new(device)), Box::new(CudaAsyncResource::new(device).unwrap())]
}

fn sizes_that_cannot_be(device: &Device) {
    let stream = Stream::new(device).unwrap();
    assert_eq!(layout::bytes(usize::MAX), Err(InvalidLayout { size: usize::MAX, alignment: 256 }));
    assert!(matches!(layout::array::<u64>(usize::MAX / 4), Err(InvalidLayout { .. })));
    for leaf in leaves(device) {
        let empty = leaf.allocate(&stream, layout::bytes(0).unwrap()).unwrap();
        assert_eq!(empty.size(), 0);
        free(&leaf, &stream, empty).unwrap();
        for huge in [1_usize << 50, isize::MAX as usize - 255] {
            let error = leaf.allocate(&stream, layout::bytes(huge).unwrap()).unwrap_err();
            assert!(
                matches!(error, AllocError::OutOfMemory { requested, free, total, .. } if requested == huge && free <= total),
                "{error}"
            );
        }
    }
}

fn alignments_that_cannot_be(device: &Device) {
    let stream = Stream::new(device).unwrap();
    assert_eq!(layout::aligned(100, 3), Err(InvalidLayout { size: 100, alignment: 3 }));
    assert_eq!(layout::aligned(100, 0), Err(InvalidLayout { size: 100, alignment: 0 }));
    let large = layout::aligned(100, 4096).unwrap();
    let error = CudaResource::new(device).allocate(&stream, large).unwrap_err();
    assert_eq!(error, AllocError::UnsupportedAlignment { layer: "device", alignment: 4096, maximum: 256 });
    // A pool aligns the pieces that it cuts from a chunk.
    let pool = CudaResource::new(device).pool(PoolOptions::default()).unwrap();
    let block = pool.allocate(&stream, large).unwrap();
    assert_eq!(block.addr() % 4096, 0);
    free(&pool, &stream, block).unwrap();
}

fn blocks_of_another_resource(device: &Device) {
    let stream = Stream::new(device).unwrap();
    let (one, two) = (ManagedResource::new(device).unwrap(), ManagedResource::new(device).unwrap());
    let block = one.allocate(&stream, layout::bytes(4096).unwrap()).unwrap();
    let error = free(&two, &stream, block).unwrap_err();
    assert_eq!(error.reason, DeallocReason::Foreign { layer: "managed" });
    let text = format!(
        "the block of 4 KiB at {:#x} was not accepted back: managed did not make this block",
        error.block.addr()
    );
    assert_eq!(error.report().to_string(), text);
    free(&one, &stream, error.block).unwrap();

    let (one, two) = (
        one.pool(PoolOptions::default()).unwrap().statistics(),
        two.pool(PoolOptions::default()).unwrap().statistics(),
    );
    let other = two.allocate(&stream, layout::bytes(4096).unwrap()).unwrap();
    let block = one.allocate(&stream, layout::bytes(4096).unwrap()).unwrap();
    let error = free(&two, &stream, block).unwrap_err();
    assert_eq!(error.reason, DeallocReason::Foreign { layer: "pool" });
    assert_eq!(two.state().counts().current_bytes, 4096, "counted back");
    free(&one, &stream, error.block).unwrap();
    free(&two, &stream, other).unwrap();
}

fn blocks_and_streams_of_another_device(device: &Device) {
    let elsewhere = simulated();
    let (here, there) = (Stream::new(device).unwrap(), Stream::new(&elsewhere).unwrap());
    for stack in [
        StackSpec::parse("device").unwrap().build(device).unwrap(),
        StackSpec::parse("async").unwrap().build(device).unwrap(),
        StackSpec::parse("pinned").unwrap().build(device).unwrap(),
        StackSpec::parse("managed | pool | limit(1GiB) | statistics | prefetch").unwrap().build(device).unwrap(),
    ] {
        let wrong = DeviceError::WrongDevice { what: "the stream", found: elsewhere.id(), expected: device.id() };
        let error = stack.allocate(&there, layout::bytes(4096).unwrap()).unwrap_err();
        assert_eq!(error, AllocError::Device(wrong.clone()), "{stack}");
        let block = stack.allocate(&here, layout::bytes(4096).unwrap()).unwrap();
        let error = free(&stack, &there, block).unwrap_err();
        assert_eq!(error.reason, DeallocReason::Device(wrong), "{stack}");
        free(&stack, &here, error.block).unwrap();
    }
}

fn more_freed_than_a_limit_counts(device: &Device) {
    let stream = Stream::new(device).unwrap();
    let leaf = PinnedResource::new(device);
    let (one, two) = ((&leaf).limit(1 << 20), (&leaf).limit(1 << 20));
    let block = one.allocate(&stream, layout::bytes(1000).unwrap()).unwrap();
    let error = free(&two, &stream, block).unwrap_err();
    assert_eq!(error.reason, DeallocReason::NotOutstanding { layer: "limit", outstanding: 0, returned: 1024 });
    free(&one, &stream, error.block).unwrap();
}

fn out_of_memory_with_and_without_a_pool(device: &Device) {
    let stream = Stream::new(device).unwrap();
    let total = device.attributes().total_memory;
    for text in ["device | statistics", "device | pool | limit(100TiB) | statistics"] {
        let stack = StackSpec::parse(text).unwrap().build(device).unwrap();
        let error = stack.allocate(&stream, layout::bytes(2 * total).unwrap()).unwrap_err();
        assert!(error.is_out_of_memory(), "{error}");
        assert!(error.to_string().contains(&HumanBytes(2 * total).to_string()), "{error}");
        let counts = stack.find::<StatisticsState>().unwrap().counts();
        assert_eq!((counts.current_blocks, counts.total_blocks, counts.failures), (0, 0, 1));
        if let (Some(pool), Some(limit)) = (stack.find::<PoolState>(), stack.find::<LimiterState>()) {
            assert_eq!((pool.stats().allocated, limit.allocated()), (0, 0));
            assert!(
                matches!(&error, AllocError::Exhausted { upstream: Some(cause), .. }
                    if matches!(**cause, AllocError::OutOfMemory { layer: "device", .. })),
                "{error}"
            );
        }
        let block = stack.allocate(&stream, layout::bytes(4096).unwrap()).unwrap();
        free(&stack, &stream, block).unwrap();
    }
}

fn a_device_that_does_not_exist(device: &Device) {
    let (error, count) = match device.simulator() {
        Some(simulator) => (Device::of_simulator(simulator, 99).unwrap_err(), simulator.profiles().len() as u32),
        None => (Device::open(99).unwrap_err(), Device::count().unwrap()),
    };
    // A default resource is set on a device, so there is none for a device that does not exist.
    assert_eq!(error, DriverError::NoSuchDevice { ordinal: 99, count });
}

#[test]
fn a_default_resource_for_another_device() {
    let (device, other) = (simulated(), simulated());
    let error = current::set(&device, CudaResource::new(&other)).unwrap_err();
    assert_eq!(error, DeviceError::WrongDevice { what: "the resource", found: other.id(), expected: device.id() });
}

#[test]
fn a_prefetch_that_fails_gives_the_block_back() {
    let device = simulated();
    let simulator = device.simulator().unwrap().clone();
    let stream = Stream::new(&device).unwrap();
    {
        let stack = ManagedResource::new(&device).unwrap().limit(4096).prefetch(device.id()).unwrap();
        simulator.fail_nth(FaultCall::PrefetchAsync, 1, CudaErrorCode::ILLEGAL_ADDRESS);
        let error = stack.allocate(&stream, layout::bytes(4096).unwrap()).unwrap_err();
        assert!(
            matches!(&error, AllocError::PrefetchFailed { requested: 4096, source }
                if source.code() == Some(CudaErrorCode::ILLEGAL_ADDRESS)),
            "{error}"
        );
        assert_eq!(stack.find::<LimiterState>().unwrap().allocated(), 0);
    }
    assert!(simulator.live_allocations().no_memory());
}

#[test]
fn a_host_allocation_that_cannot_succeed_is_an_error() {
    let device = simulated();
    let stream = Stream::new(&device).unwrap();
    let host = device.simulator().unwrap().profiles()[0].host_memory.value as usize;
    for stack in ["host", "pinned"].map(|text| StackSpec::parse(text).unwrap().build(&device).unwrap()) {
        let error = stack.allocate(&stream, layout::bytes(1 << 60).unwrap()).unwrap_err();
        assert!(matches!(error, AllocError::OutOfMemory { total, .. } if total == host), "{error}");
    }
}

#[test]
fn a_pool_larger_than_any_memory() {
    let device = simulated();
    for initial in [usize::MAX, usize::MAX - 300, 1 << 50] {
        let error = CudaResource::new(&device).pool(PoolOptions::default().initial(initial)).unwrap_err();
        assert!(matches!(error, PoolError::Initial(_)), "{error}");
    }
    assert!(device.simulator().unwrap().live_allocations().no_memory());
}

#[test]
fn invalid_profiles_are_refused() {
    let mut profile = Profile::default();
    profile.link_to_device.value = -1.0;
    let error = Simulator::new([Profile::default(), profile]).unwrap_err();
    assert!(matches!(&error, ProfileError::Unsound { ordinal: 1, .. }), "{error}");
    assert!(error.to_string().contains("link_to_device"), "{error}");
    let many = std::iter::repeat_n(Profile::default(), 64);
    assert_eq!(Simulator::new(many).unwrap_err(), ProfileError::TooManyDevices { devices: 64, most: 63 });
}

#[test]
fn an_invalid_stack_and_an_invalid_trace_are_errors() {
    let error = StackSpec::parse("managed | pool(initial=lots)").unwrap_err();
    assert_eq!((error.span(), error.message().contains("`lots` is no size")), (15..27, true), "{error}");

    let text = "Thread,Time,Action,Pointer,Size,Stream\n1,0,allocate,0x100,64,0\n1,0,fre,0x100,64,0\n";
    let error = Trace::parse(text.as_bytes(), "text").unwrap_err();
    assert!(matches!(error, TraceError::Malformed { line: 3, .. }), "{error}");
}
