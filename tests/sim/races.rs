//! The race detector reports each race with both call sites, and reports nothing in correct programs.

use crate::common::{free, simulated};
use cumem::kernel::HostKernel;
use cumem::sim::{AccessKind, Profile, Race, RaceKind, Simulator};
use cumem::{
    Buffer, CudaAsyncResource, CudaResource, Device, Event, ManagedResource, MemoryResource, Stream, UnifiedBuffer,
    layout,
};
use cumem_adaptors::{PoolOptions, ResourceExt};

/// A device with race detection, and two streams on it.
fn rig() -> (Device, Stream, Stream) {
    let device = simulated();
    simulator(&device).detect_races(true);
    let streams = [(); 2].map(|()| Stream::new(&device).unwrap());
    let [first, second] = streams;
    (device, first, second)
}

fn simulator(device: &Device) -> &Simulator {
    device.simulator().unwrap()
}

fn only(device: &Device) -> Race {
    let races = simulator(device).take_races();
    assert_eq!(races.len(), 1, "{races:#?}");
    races[0].clone()
}

fn none(device: &Device) {
    let races = simulator(device).take_races();
    assert!(races.is_empty(), "{races:#?}");
}

fn write(name: &'static str, addr: u64, bytes: usize, stream: &Stream) {
    // SAFETY: the closure touches no memory, so the conflicting uses that the tests declare do not happen. The memory
    // outlives the kernel.
    unsafe { stream.launch_host(HostKernel::new(name, |_| ()).writes(addr, bytes)) }.unwrap();
}

fn read(name: &'static str, addr: u64, bytes: usize, stream: &Stream) {
    // SAFETY: as above.
    unsafe { stream.launch_host(HostKernel::new(name, |_| ()).reads(addr, bytes)) }.unwrap();
}

#[test]
fn a_block_used_on_a_stream_that_does_not_wait_for_its_allocation() {
    let (device, first, second) = rig();
    let pool = CudaAsyncResource::new(&device).unwrap();
    let block = pool.allocate(&first, layout::bytes(4096).unwrap()).unwrap();
    write("early", block.addr(), 100, &second);
    let race = only(&device);
    assert_eq!(race.kind, RaceKind::UseBeforeAllocation);
    assert_eq!((race.first.kind, race.first.by), (AccessKind::Allocated, "cuMemAllocFromPoolAsync"));
    assert_eq!((race.second.kind, race.second.by), (AccessKind::Written, "early"));
    assert_eq!((race.first.stream, race.second.stream), (Some(first.as_raw()), Some(second.as_raw())));
    assert_eq!(race.addresses, block.addr()..block.addr() + 100);
    // Uses after a wait are no race.
    second.wait_for(&first).unwrap();
    first.wait_for(&second).unwrap();
    write("in time", block.addr(), 4096, &first);
    none(&device);
    free(&pool, &first, block).unwrap();
    none(&device);
}

#[test]
fn a_buffer_used_on_another_stream_than_its_own() {
    let (device, first, second) = rig();
    let stack = CudaResource::new(&device).pool(PoolOptions::default()).unwrap();
    let mut buffer = Buffer::<u8, _>::with_capacity(64, &first, &stack).unwrap();
    read("early", buffer.device_address(), 64, &second);
    let race = only(&device);
    assert_eq!((race.kind, race.first.by), (RaceKind::UseBeforeAllocation, "a block"));
    for place in [race.first.caller, race.second.caller] {
        assert!(place.is_some_and(|place| place.file().ends_with("races.rs")), "{race}");
    }
    buffer.set_stream(&second).unwrap();
    read("in time", buffer.device_address(), 64, &second);
    drop(buffer);
    none(&device);
}

#[test]
fn memory_freed_before_its_last_use() {
    let (device, first, second) = rig();
    let stack = CudaResource::new(&device).pool(PoolOptions::default()).unwrap();
    let buffer = Buffer::<u8, _>::zeroed(1 << 20, &first, &stack).unwrap();
    second.wait_for(&first).unwrap();
    write("late", buffer.device_address(), 1 << 20, &second);
    drop(buffer);
    let race = only(&device);
    assert_eq!(race.kind, RaceKind::ReuseBeforeLastUse);
    assert_eq!((race.first.by, race.second.kind), ("late", AccessKind::Freed));
    assert_eq!(race.addresses.end - race.addresses.start, 1 << 20);
    let text = race.to_string();
    assert!(
        text.starts_with("reuse before the last use, 1048576 bytes at 0x") && text.contains("; then freed"),
        "{text}"
    );
}

#[test]
fn pool_memory_freed_before_its_last_use_as_a_block() {
    let (device, first, second) = rig();
    let stack = CudaResource::new(&device).pool(PoolOptions::default()).unwrap();
    let block = stack.allocate(&first, layout::bytes(4096).unwrap()).unwrap();
    second.wait_for(&first).unwrap();
    write("late", block.addr(), 4096, &second);
    // The block is freed on a stream that does not wait for the other stream's work. The pool declares the free, so the
    // race is found before the next owner uses the memory.
    free(&stack, &first, block).unwrap();
    let race = only(&device);
    assert_eq!((race.kind, race.first.by, race.second.by), (RaceKind::ReuseBeforeLastUse, "late", "a pool"));
    let next = stack.allocate(&first, layout::bytes(4096).unwrap()).unwrap();
    read("next", next.addr() + 8, 8, &first);
    none(&device);
    device.synchronize().unwrap();
    free(&stack, &first, next).unwrap();
}

#[test]
fn the_host_uses_what_another_stream_writes() {
    let (device, first, second) = rig();
    let stack = ManagedResource::new(&device).unwrap();
    let mut buffer = UnifiedBuffer::<u32, _>::zeroed(1024, &first, &stack).unwrap();
    second.wait_for(&first).unwrap();
    write("behind its back", buffer.device_address(), 4, &second);
    let _ = buffer.host_read().unwrap()[0];
    let race = only(&device);
    assert_eq!((race.kind, race.second.kind, race.second.stream), (RaceKind::HostAccess, AccessKind::Read, None));
    assert_eq!(race.first.by, "behind its back");
    assert!(race.second.caller.is_some_and(|place| place.line() + 4 == line!()), "{race}");
    // Reads by both sides are no race. A write by the host is.
    second.synchronize().unwrap();
    read("meanwhile", buffer.device_address(), 4096, &second);
    assert_eq!(buffer.host_read().unwrap().len(), 1024);
    none(&device);
    buffer.host_write().unwrap()[0] = 1;
    assert_eq!(only(&device).kind, RaceKind::HostAccess);
    second.synchronize().unwrap();
}

#[test]
fn a_write_launched_during_a_host_access_is_a_race() {
    let (device, first, second) = rig();
    let stack = ManagedResource::new(&device).unwrap();
    let buffer = UnifiedBuffer::<u32, _>::zeroed(1024, &first, &stack).unwrap();
    let guard = buffer.host_read().unwrap();
    read("no harm", buffer.device_address(), 4096, &second);
    write("under its hands", buffer.device_address() + 4, 4, &second);
    none(&device);
    drop(guard);
    let race = only(&device);
    assert_eq!((race.kind, race.first.by), (RaceKind::HostAccess, "under its hands"));
    assert_eq!((race.second.kind, race.second.stream), (AccessKind::Read, None));
    // The race is reported once.
    let _ = buffer.host_read().unwrap().len();
    none(&device);
    second.synchronize().unwrap();
}

#[test]
fn memory_used_after_it_was_freed() {
    let (device, first, second) = rig();
    let resource = CudaResource::new(&device);
    let block = resource.allocate(&first, layout::bytes(1 << 20).unwrap()).unwrap();
    let addr = block.addr();
    free(&resource, &first, block).unwrap();
    // SAFETY: the simulator refuses the kernel, so it touches no memory.
    let refused = unsafe { second.launch_host(HostKernel::new("late", |_| ()).writes(addr, 16)) };
    assert!(refused.unwrap_err().to_string().contains("which was freed"));
    let race = only(&device);
    assert_eq!((race.kind, race.first.by, race.second.by), (RaceKind::UseAfterFree, "cuMemFree", "late"));
    assert!(race.second.caller.is_some());
    // A use after the free is a race on the same stream too. A new block at the same addresses may be used.
    let pool = CudaAsyncResource::new(&device).unwrap();
    let block = pool.allocate(&first, layout::bytes(4096).unwrap()).unwrap();
    let addr = block.addr();
    free(&pool, &first, block).unwrap();
    // SAFETY: as above.
    unsafe { first.launch_host(HostKernel::new("later", |_| ()).reads(addr, 16)) }.unwrap_err();
    assert_eq!(only(&device).kind, RaceKind::UseAfterFree);
    let again = pool.allocate(&first, layout::bytes(4096).unwrap()).unwrap();
    write("in time", again.addr(), 4096, &first);
    free(&pool, &first, again).unwrap();
    none(&device);
}

#[test]
fn two_streams_write_and_an_order_of_any_kind_helps() {
    let (device, first, second) = rig();
    let resource = CudaResource::new(&device);
    let block = resource.allocate(&first, layout::bytes(4096).unwrap()).unwrap();
    let addr = block.addr();
    write("one", addr, 64, &first);
    write("two", addr + 63, 64, &second);
    let race = only(&device);
    assert_eq!((race.kind, race.addresses), (RaceKind::Unordered, addr + 63..addr + 64));
    device.synchronize().unwrap();

    // Separate bytes, and reads of the same bytes, are no race.
    write("one", addr, 64, &first);
    write("two", addr + 64, 64, &second);
    read("one", addr + 128, 64, &first);
    read("two", addr + 128, 64, &second);
    none(&device);
    device.synchronize().unwrap();

    // The host orders the work by waiting, or by a query that returns true.
    write("one", addr, 64, &first);
    first.synchronize().unwrap();
    write("two", addr, 64, &second);
    simulator(&device).pass_time(std::time::Duration::from_secs(1));
    assert!(second.is_idle().unwrap());
    write("one", addr, 64, &first);
    let event = Event::new(&device).unwrap();
    event.record(&first).unwrap();
    simulator(&device).pass_time(std::time::Duration::from_secs(1));
    assert!(event.is_done().unwrap());
    write("two", addr, 64, &second);
    none(&device);

    // An event covers only the work that was enqueued before it was recorded.
    event.record(&second).unwrap();
    write("too late for the event", addr + 64, 64, &second);
    first.wait(&event).unwrap();
    write("one", addr, 64, &first);
    none(&device);
    write("one", addr + 64, 64, &first);
    assert_eq!(only(&device).first.by, "too late for the event");
    device.synchronize().unwrap();

    // The legacy default stream and blocking streams wait for each other. Other streams wait for neither.
    let (legacy, blocking) = (Stream::legacy_default(&device), Stream::blocking(&device).unwrap());
    write("blocking", addr, 64, &blocking);
    write("legacy", addr, 64, &legacy);
    write("blocking", addr, 64, &blocking);
    none(&device);
    write("apart", addr, 64, &first);
    assert_eq!(only(&device).first.by, "blocking");
    free(&resource, &first, block).unwrap();
    none(&device);
}

#[test]
fn a_race_is_found_also_if_virtual_time_orders_the_accesses() {
    let (device, first, second) = rig();
    let resource = CudaResource::new(&device);
    let block = resource.allocate(&first, layout::bytes(64).unwrap()).unwrap();
    write("one", block.addr(), 64, &first);
    simulator(&device).pass_time(std::time::Duration::from_secs(1));
    write("two", block.addr(), 64, &second);
    assert_eq!(only(&device).kind, RaceKind::Unordered);
    free(&resource, &first, block).unwrap();
}

#[test]
fn two_devices_are_ordered_by_events_too() {
    let simulator = Simulator::new([Profile::default(), Profile::default()]).unwrap();
    simulator.detect_races(true);
    let devices = [0, 1].map(|d| Device::of_simulator(&simulator, d).unwrap());
    let streams = [0, 1].map(|d: usize| Stream::new(&devices[d]).unwrap());
    let resource = ManagedResource::new(&devices[0]).unwrap();
    let block = resource.allocate(&streams[0], layout::bytes(64).unwrap()).unwrap();
    write("zero", block.addr(), 64, &streams[0]);
    streams[1].wait_for(&streams[0]).unwrap();
    write("one", block.addr(), 64, &streams[1]);
    none(&devices[0]);
    // Synchronizing one device does not synchronize the other.
    devices[0].synchronize().unwrap();
    write("zero", block.addr(), 64, &streams[0]);
    assert_eq!(only(&devices[0]).first.by, "one");
    free(&resource, &streams[0], block).unwrap();
}

#[test]
fn races_are_detected_only_on_request() {
    let (device, first, second) = rig();
    simulator(&device).detect_races(false);
    let resource = CudaResource::new(&device);
    let block = resource.allocate(&first, layout::bytes(64).unwrap()).unwrap();
    write("one", block.addr(), 64, &first);
    write("two", block.addr(), 64, &second);
    none(&device);
    // Uses before the detection was switched on are unknown.
    simulator(&device).detect_races(true);
    write("one", block.addr(), 64, &first);
    none(&device);
    free(&resource, &first, block).unwrap();
}
