//! `Prefetch`: pages migrate to the target, a failed prefetch deallocates the block, and devices without concurrent
//! managed access are refused.

use crate::common::{free, sim, sim_with};
use cumem::error::CudaErrorCode;
use cumem::sim::{FaultCall, Profile, Simulator};
use cumem::unified::hints;
use cumem::{
    AllocError, Device, DeviceError, DriverError, LayerExt, Location, ManagedResource, MemoryResource, Stream, layout,
};
use cumem_adaptors::{Prefetch, PrefetchState, ResourceExt, StatisticsState};
use cumem_test_support::own_process;

// This test reads the recorded errors of drops, which the whole process shares.
own_process!(a_failed_prefetch_returns_the_block);

#[test]
fn each_block_is_prefetched_on_its_stream() {
    let (device, stream) = sim();
    let stack = ManagedResource::new(&device).unwrap().prefetch(device.id()).unwrap();
    let block = stack.allocate(&stream, layout::bytes(8 << 20).unwrap()).unwrap();

    let told = hints::range_attributes(&block, 0..block.size(), &stream).unwrap();
    assert_eq!(told.last_prefetch_location, Some(Location::Device(device.id())));
    stream.synchronize().unwrap();
    let resident = device.simulator().unwrap().residency(block.as_ptr(), block.size()).unwrap();
    assert_eq!(resident.on(device.id()), 8 << 20);

    let prefetched = stack.find::<PrefetchState>().unwrap();
    assert_eq!((prefetched.calls(), prefetched.bytes(), prefetched.skipped()), (1, 8 << 20, 0));
    free(&stack, &stream, block).unwrap();
}

#[test]
fn to_the_host_and_to_a_second_device() {
    let simulator = Simulator::new([Profile::default(), Profile::default()]).unwrap();
    let (first, second) = (Device::of_simulator(&simulator, 0).unwrap(), Device::of_simulator(&simulator, 1).unwrap());
    let stream = Stream::new(&first).unwrap();
    for target in [Location::Host, Location::Device(second.id())] {
        let stack = ManagedResource::new(&first).unwrap().prefetch(target).unwrap();
        let block = stack.allocate(&stream, layout::bytes(4 << 20).unwrap()).unwrap();
        stream.synchronize().unwrap();
        assert_eq!(simulator.residency(block.as_ptr(), block.size()).unwrap().on(target), 4 << 20);
        free(&stack, &stream, block).unwrap();
    }
    let error = ManagedResource::new(&first).unwrap().prefetch(first.id().sibling(7)).unwrap_err();
    assert_eq!(error, DriverError::NoSuchDevice { ordinal: 7, count: 2 }.into());
}

fn a_failed_prefetch_returns_the_block() {
    let (device, stream) = sim();
    let stack = ManagedResource::new(&device).unwrap().limit(1 << 20).statistics().prefetch(device.id()).unwrap();
    device.simulator().unwrap().fail_nth(FaultCall::PrefetchAsync, 1, CudaErrorCode::OUT_OF_MEMORY);
    let error = stack.allocate(&stream, layout::bytes(1 << 20).unwrap()).unwrap_err();
    assert!(matches!(error, AllocError::PrefetchFailed { requested, .. } if requested == 1 << 20), "{error}");
    assert_eq!(stack.find::<StatisticsState>().unwrap().counts().current_bytes, 0);
    assert!(cumem::error::take_drop_errors().is_empty());

    // The limit has room for one block, so the first block was deallocated.
    let block = stack.allocate(&stream, layout::bytes(1 << 20).unwrap()).unwrap();
    free(&stack, &stream, block).unwrap();
}

#[test]
fn zero_bytes_make_no_driver_call() {
    let (device, stream) = sim();
    let stack = ManagedResource::new(&device).unwrap().prefetch(device.id()).unwrap();
    let simulator = device.simulator().unwrap();
    let before = simulator.calls(FaultCall::Any);
    let block = stack.allocate(&stream, layout::bytes(0).unwrap()).unwrap();
    free(&stack, &stream, block).unwrap();
    assert_eq!(simulator.calls(FaultCall::Any), before);
    assert_eq!(stack.state().skipped(), 1);
}

#[test]
fn without_concurrent_access_prefetch_is_refused_or_passes_through() {
    let (device, stream) = sim_with(Profile::wsl());
    let refused = Prefetch::new(ManagedResource::new(&device).unwrap(), device.id()).unwrap_err();
    assert!(matches!(refused, DeviceError::Driver(DriverError::NotSupported { .. })), "{refused}");

    let stack = Prefetch::or_pass_through(ManagedResource::new(&device).unwrap(), device.id()).unwrap();
    assert!(stack.passes_through());
    assert!(stack.to_string().starts_with(&format!("prefetch({}, passing through)", device.id())), "{stack}");
    let block = stack.allocate(&stream, layout::bytes(4096).unwrap()).unwrap();
    assert_eq!((stack.state().calls(), stack.state().skipped()), (0, 1));
    free(&stack, &stream, block).unwrap();
}

#[test]
fn a_target_of_another_machine_is_refused() {
    let (device, _) = sim();
    let (other, _) = sim();
    let error = Prefetch::new(ManagedResource::new(&device).unwrap(), other.id()).unwrap_err();
    assert!(matches!(error, DeviceError::WrongDevice { .. }), "{error}");
}

#[test]
fn a_target_without_concurrent_access_is_refused_too() {
    let simulator = Simulator::new([Profile::default(), Profile::wsl()]).unwrap();
    let (able, unable) = (Device::of_simulator(&simulator, 0).unwrap(), Device::of_simulator(&simulator, 1).unwrap());
    let error = Prefetch::new(ManagedResource::new(&able).unwrap(), unable.id()).unwrap_err();
    assert!(
        matches!(error, DeviceError::Driver(DriverError::NotSupported { device, .. }) if device == unable.id()),
        "{error}"
    );
}
