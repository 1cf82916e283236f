//! Cases that a GPU cannot produce on demand: codes that no header lists, drivers that lack functions, and devices that
//! refuse. A small library takes the place of the driver.

use cumem::error::{CudaErrorCode, ErrorReport, take_drop_errors};
use cumem::unified::hints;
use cumem::unified::{Advice, HintOutcome, SkipReason};
use cumem::{
    AllocError, Block, CudaAsyncResource, CudaVirtualResource, Device, DeviceId, DriverError, Location,
    ManagedResource, MemoryResource, Stream, layout,
};
use cumem_adaptors::{PoolOptions, ResourceExt, Size};
use cumem_test_support::{Driver, with_driver};
use cust::module::Module;
use cust::sys::{CUcontext, CUresult, cuCtxGetCurrent, cuCtxSetCurrent};
use std::alloc::Layout;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

with_driver! {
    contexts_come_and_go: Driver::device();
    a_forked_child_gets_an_error: Driver::device();
    a_subscriber_opens_the_device_when_the_driver_is_loaded: Driver::device();
    unknown_codes_keep_their_number: Driver::device();
    a_busy_device_is_refused_with_its_code: Driver::device().set("RETAIN", 46);
    no_device_is_no_driver: Driver::device().set("INIT", 100);
    failed_initialization_has_a_reason: Driver::device().set("INIT", 12_345);
    a_kernel_of_cust_may_take_pages_from_another_device: Driver::device().set("DEVICES", 2);
    old_drivers_have_no_pools: Driver::device().set("VERSION", 10_020);
    missing_functions_have_names: Driver::device();
    hints_reach_the_old_calls: Driver::device().set("VERSION", 12_010);
    hints_reach_the_new_calls: Driver::device_numa();
    a_function_that_is_not_there_is_an_error: Driver::device();
    a_granularity_of_zero_is_an_error: nonsense(1);
    a_granularity_that_is_no_power_of_two_is_an_error: nonsense(2);
    more_free_memory_than_there_is_is_an_error: nonsense(4);
    a_negative_count_is_an_error: nonsense(8);
    a_negative_number_of_devices_is_no_driver: nonsense(16);
    a_name_that_is_no_text_is_an_error: nonsense(32);
    a_name_without_an_end_is_an_error: nonsense(64);
    an_odd_address_is_an_error: nonsense(128);
    an_address_at_the_end_of_all_addresses_is_an_error: nonsense(256);
    a_null_address_is_an_error: nonsense(512);
    a_null_stream_is_an_error: nonsense(1024);
    an_alias_that_fails_half_way_is_undone: Driver::device().set("FAIL_MAP", 4).set("FAIL_ACCESS", 3);
}

fn current() -> CUcontext {
    let mut context = ptr::null_mut();
    // SAFETY: `context` is writable.
    let code = unsafe { cuCtxGetCurrent(&raw mut context) };
    assert_eq!(code, CUresult::CUDA_SUCCESS);
    context
}

fn make_current(context: CUcontext) {
    // SAFETY: the fake driver accepts any pointer.
    let code = unsafe { cuCtxSetCurrent(context) };
    assert_eq!(code, CUresult::CUDA_SUCCESS);
}

/// The child has objects of the parent, uses them, and drops them.
fn a_forked_child_gets_an_error() {
    let device = Device::open(0).unwrap();
    let stream = Stream::new(&device).unwrap();
    let resource = CudaVirtualResource::new(&device).unwrap();
    let block = resource.allocate(&stream, layout::bytes(1000).unwrap()).unwrap();
    let forked = DriverError::Forked { device: device.id() };
    let child = || {
        let refused = [
            device.memory_info().err(),
            device.synchronize().err(),
            Device::open(0).and_then(|device| device.memory_info()).err(),
            Stream::new(&device).map(drop).err(),
        ];
        assert!(refused.iter().all(|error| error.as_ref() == Some(&forked)), "{refused:?}");
        assert!(forked.to_string().contains("was forked after the CUDA driver was loaded"));
        assert!(resource.allocate(&stream, layout::bytes(1).unwrap()).is_err());
        // SAFETY: nothing uses the block.
        let kept = unsafe { resource.deallocate(&stream, block) }.unwrap_err();
        std::mem::forget(resource); // its block is live
        drop((stream, device));
        assert_eq!(kept.block.size(), 1000);
        assert_eq!(take_drop_errors(), [""; 0], "the objects are the parent's");
    };
    // SAFETY: this process has one thread that uses the library. The child ends in this block.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        // SAFETY: `alarm` only sets a timer, which ends the child if it hangs.
        unsafe { libc::alarm(60) };
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(child)).is_err();
        // SAFETY: `_exit` ends the process at once.
        unsafe { libc::_exit(i32::from(panicked)) };
    }
    let mut status = -1;
    // SAFETY: `status` is writable.
    let ended = unsafe { libc::waitpid(pid, &raw mut status, 0) };
    assert_eq!((ended, status), (pid, 0));
}

fn contexts_come_and_go() {
    let other: CUcontext = ptr::without_provenance_mut(0x1000);
    make_current(other);
    let device = Device::open(0).unwrap();
    assert_eq!(current(), other, "opening puts it back");
    // The fake driver's cuMemGetInfo needs the primary context, and reports as the total 1000 times how often that is
    // retained.
    assert_eq!(device.memory_info().unwrap().total, 1000);
    assert_eq!(current(), other);
    make_current(ptr::null_mut());
    device.memory_info().unwrap();
    let primary = current();
    assert!(!primary.is_null() && primary != other, "no context was current, so the primary context stays current");
    device.memory_info().unwrap();
    assert_eq!(current(), primary);

    make_current(other);
    device.bind_to_thread().unwrap();
    assert_eq!(current(), primary);

    let used_elsewhere = || {
        assert!(current().is_null());
        device.memory_info().unwrap().total
    };
    assert_eq!(std::thread::scope(|scope| scope.spawn(used_elsewhere).join().unwrap()), 1000);
}

/// The event comes from the first call, which initializes the driver. A subscriber that opens a device in this event would
/// wait for that initialization.
fn a_subscriber_opens_the_device_when_the_driver_is_loaded() {
    // SAFETY: `alarm` only sets a timer, which ends this process if it hangs.
    unsafe { libc::alarm(60) };
    let opened = Arc::new(AtomicUsize::new(0));
    tracing::subscriber::with_default(Opens(Arc::clone(&opened)), || Device::open(0).map(drop)).unwrap();
    assert_eq!(opened.load(Relaxed), 1);
}

/// Opens the device in each event about the driver.
struct Opens(Arc<AtomicUsize>);

impl Subscriber for Opens {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
    fn event(&self, event: &Event<'_>) {
        if event.metadata().target().starts_with("cumem_driver") {
            Device::open(0).unwrap();
            self.0.fetch_add(1, Relaxed);
        }
    }
}

fn unknown_codes_keep_their_number() {
    let device = Device::open(0).unwrap();
    let error = Stream::new(&device).unwrap().is_idle().unwrap_err();
    assert_eq!(error.code(), Some(CudaErrorCode(54321)));
    assert_eq!(error.to_string(), "cuStreamQuery on cuda:0 failed: CUDA error 54321");
}

fn a_busy_device_is_refused_with_its_code() {
    // Code 46 is missing in cust_raw's enum.
    for _ in 0..2 {
        let error = Device::open(0).unwrap_err();
        assert_eq!(error.code(), Some(CudaErrorCode::DEVICE_UNAVAILABLE), "{error}");
    }
}

fn no_device_is_no_driver() {
    let error = Device::open(0).unwrap_err();
    assert_eq!(error.to_string(), no_driver("the driver lists no device"));
    assert_eq!(Device::count(), Err(error));
}

fn failed_initialization_has_a_reason() {
    let text = Device::open(0).unwrap_err().to_string();
    assert_eq!(text, no_driver("cuInit of the driver for CUDA 13.0 failed: CUDA error 12345"));
}

fn no_driver(reason: &str) -> String {
    format!("no CUDA driver: {reason}; without a GPU, use `Device::simulated` or `Device::first_or_simulated`")
}

fn a_kernel_of_cust_may_take_pages_from_another_device() {
    let [first, second] = [0, 1].map(|ordinal| Device::open(ordinal).unwrap());
    let [stream, other] = [&first, &second].map(|device| Stream::new(device).unwrap());
    let resource = ManagedResource::new(&first).unwrap();
    let block = resource.allocate(&stream, layout::bytes(4096).unwrap()).unwrap();
    let prefetch = || hints::prefetch_if_needed(&block, 0..4096, first.id(), &stream).unwrap();
    let there = HintOutcome::Skipped(SkipReason::AlreadyThere);
    assert_eq!([prefetch(), prefetch()], [HintOutcome::Applied, there]);

    first.bind_to_thread().unwrap();
    let module = Module::from_ptx("", &[]).unwrap();
    let kernel = module.get_function("any").unwrap();
    // SAFETY: kernels of the fake driver take no arguments and do nothing.
    unsafe { stream.launch(&kernel, 1, 1, 0, &[]) }.unwrap();
    assert_eq!(prefetch(), there, "a kernel on the same device leaves the pages resident");
    // SAFETY: as above.
    unsafe { other.launch(&kernel, 1, 1, 0, &[]) }.unwrap();
    assert_eq!([prefetch(), prefetch()], [HintOutcome::Applied, there]);
    // SAFETY: no work uses the memory.
    unsafe { resource.deallocate(&stream, block) }.unwrap();
}

fn old_drivers_have_no_pools() {
    let device = Device::open(0).unwrap();
    let facts = device.attributes();
    assert_eq!(facts.compute_capability, (75, 76));
    assert!(facts.concurrent_managed_access && facts.virtual_memory_management && !facts.memory_pools, "{facts:?}");
    let error = CudaAsyncResource::new(&device).unwrap_err();
    assert!(matches!(error, DriverError::NotSupported { .. }), "{error}");
}

fn missing_functions_have_names() {
    let device = Device::open(0).unwrap();
    let missing = |symbol| DriverError::MissingSymbol { symbol, driver_version: "13.0".into() };
    assert_eq!(CudaAsyncResource::new(&device).unwrap_err(), missing("cuDeviceGetDefaultMemPool"));
    with_block(&device, |stream, block| {
        let node = Location::HostNuma(0);
        assert_eq!(hints::prefetch(block, 0..10, node, stream), Err(missing("cuMemPrefetchAsync_v2").into()));
        let advice = Advice::SetPreferredLocation(node);
        assert_eq!(hints::advise(block, 0..10, advice, stream), Err(missing("cuMemPrefetchAsync_v2").into()));
        // Hints for other locations need no missing function.
        assert_eq!(hints::prefetch(block, 0..10, Location::Host, stream), Ok(HintOutcome::Applied));
    });
}

fn hints_reach_the_old_calls() {
    let device = Device::open(0).unwrap();
    with_block(&device, |stream, block| {
        assert_eq!(hints::prefetch(block, 8..20, Location::Host, stream), Ok(HintOutcome::Applied));
        let told = hints::range_attributes(block, 0..20, stream).unwrap();
        // The fake driver reports the arguments of the last hint: call 1 (prefetch), the location.
        assert_eq!(told.accessed_by[..], [Location::Device(DeviceId::cuda(1))]);
        assert_eq!(told.preferred_location, Some(Location::Host));
        assert!(told.read_mostly);

        let at = Location::Device(DeviceId::cuda(5));
        assert_eq!(hints::advise(block, 0..20, Advice::UnsetAccessedBy(at), stream), Ok(HintOutcome::Applied));
        let told = hints::range_attributes(block, 0..20, stream).unwrap();
        // Call 2 (advice), advice 6, the location.
        assert_eq!(told.accessed_by[..], [Location::Device(DeviceId::cuda(2))]);
        assert_eq!(told.preferred_location, Some(Location::Device(DeviceId::cuda(6))));
        assert_eq!(told.last_prefetch_location, Some(at));
        // Advice without a location passes the block's device.
        assert_eq!(hints::advise(block, 0..20, Advice::SetReadMostly, stream), Ok(HintOutcome::Applied));
        let told = hints::range_attributes(block, 0..20, stream).unwrap();
        assert_eq!(told.last_prefetch_location, Some(device.id().into()));
    });
}

fn hints_reach_the_new_calls() {
    let device = Device::open(0).unwrap();
    with_block(&device, |stream, block| {
        let node = Location::HostNuma(4);
        assert_eq!(hints::prefetch(block, 0..20, node, stream), Ok(HintOutcome::Applied));
        let told = hints::range_attributes(block, 0..20, stream).unwrap();
        // Call 3 (prefetch), the type of location (3, a node), the node. The fake driver reports
        // every location as a node.
        assert_eq!(told.accessed_by[..], [Location::Device(DeviceId::cuda(3))]);
        assert_eq!(told.preferred_location, Some(Location::HostNuma(3)));
        assert_eq!(told.last_prefetch_location, Some(node));

        assert_eq!(hints::advise(block, 0..20, Advice::SetPreferredLocation(node), stream), Ok(HintOutcome::Applied));
        let told = hints::range_attributes(block, 0..20, stream).unwrap();
        assert_eq!(told.accessed_by[..], [Location::Device(DeviceId::cuda(4))]);
        assert_eq!(told.preferred_location, Some(Location::HostNuma(3)));
        assert_eq!(told.last_prefetch_location, Some(node));
    });
}

fn a_function_that_is_not_there_is_an_error() {
    // The fake driver has no cuMemAlloc. The call returns an error that names it, and does not crash.
    let device = Device::open(0).unwrap();
    let stream = Stream::new(&device).unwrap();
    let error = cumem::CudaResource::new(&device).allocate(&stream, Layout::new::<u64>()).unwrap_err();
    let missing = DriverError::MissingSymbol { symbol: "cuMemAlloc_v2", driver_version: "13.0".into() };
    assert_eq!(error, AllocError::from(missing));
}

fn an_alias_that_fails_half_way_is_undone() {
    let device = Device::open(0).unwrap();
    let (stream, leaf) = (Stream::new(&device).unwrap(), CudaVirtualResource::new(&device).unwrap());
    // The fake driver reports the number of mapped granules and of references to handles as the free memory. Two blocks
    // take the first two calls of cuMemMap and cuMemSetAccess. Then the alias's second map and later its access fail.
    let out = || device.memory_info().unwrap().free;
    let blocks = [1, 2].map(|granules| leaf.allocate(&stream, layout::bytes(granules << 21).unwrap()).unwrap());
    assert_eq!(out(), 3);
    // SAFETY: the blocks are live, and no work uses them.
    let map = || unsafe { leaf.map_alias(&[&blocks[1], &blocks[0]]) };
    for (call, code) in [("cuMemMap", CudaErrorCode::OUT_OF_MEMORY), ("cuMemSetAccess", CudaErrorCode::UNKNOWN)] {
        assert_eq!(map().unwrap_err(), DriverError::Call { call, device: device.id(), code }.into());
        assert_eq!(out(), 3);
    }
    let alias = map().unwrap();
    assert_eq!((alias.addr(), alias.size(), out()), (2 << 40, 3 << 21, 6), "at the same addresses");
    // SAFETY: no work uses the memory.
    unsafe { leaf.unmap_alias(alias) }.unwrap();
    for block in blocks {
        // SAFETY: the block is from this resource, and unused.
        unsafe { leaf.deallocate(&stream, block) }.unwrap();
    }
    assert_eq!(out(), 0);
}

/// A driver that gives one answer that cannot be right. `drivers/device.c` lists them.
fn nonsense(which: u32) -> Driver {
    Driver::device().set("NONSENSE", which)
}

/// Checks an error that names the driver's call and its answer.
fn assert_invalid<T>(result: Result<T, DriverError>, call: &str, answer: &str) {
    let error = result.err().expect("the answer is refused");
    assert!(matches!(error, DriverError::InvalidAnswer { .. }), "{error:?}");
    assert_eq!(error.to_string(), format!("{call} on cuda:0 returned {answer}, which no CUDA driver returns"));
}

fn a_granularity_of_zero_is_an_error() {
    let device = Device::open(0).unwrap();
    let result = CudaVirtualResource::new(&device);
    assert_invalid(result, "cuMemGetAllocationGranularity", "a granularity of 0 bytes");
}

fn a_granularity_that_is_no_power_of_two_is_an_error() {
    let device = Device::open(0).unwrap();
    let result = CudaVirtualResource::new(&device);
    assert_invalid(result, "cuMemGetAllocationGranularity", "a granularity of 3145728 bytes");
}

fn more_free_memory_than_there_is_is_an_error() {
    let device = Device::open(0).unwrap();
    assert_invalid(device.memory_info(), "cuMemGetInfo", "1048576 free bytes of 1000");
    // Where a layer uses the figures, it refuses too.
    let pool = ManagedResource::new(&device).unwrap().pool(PoolOptions::new().initial(Size::PercentOfFree(50)));
    let text = ErrorReport::of(&pool.unwrap_err()).to_string();
    assert!(text.contains("1048576 free bytes of 1000"), "{text}");
}

fn a_negative_count_is_an_error() {
    assert_invalid(Device::open(0), "cuDeviceGetAttribute", "-3 for attribute 40");
}

fn a_negative_number_of_devices_is_no_driver() {
    let error = Device::open(0).unwrap_err();
    assert_eq!(error.to_string(), no_driver("cuDeviceGetCount of the driver returned -1 devices"));
}

fn a_name_that_is_no_text_is_an_error() {
    let result = Device::open(0).unwrap_err().to_string();
    assert!(result.starts_with(r"cuDeviceGetName on cuda:0 returned a name that is no text: fake\xff\x00"), "{result}");
}

fn a_name_without_an_end_is_an_error() {
    // The fake driver writes as much as the library offers. The library ends the name.
    assert_eq!(Device::open(0).unwrap().attributes().name, "x".repeat(255));
}

fn an_odd_address_is_an_error() {
    refuses_address("8 for 100 bytes");
}

fn an_address_at_the_end_of_all_addresses_is_an_error() {
    refuses_address("the address 0xffffffffffffff00 for 4096 bytes");
}

fn a_null_address_is_an_error() {
    refuses_address("the address 0x0 for 4096 bytes");
}

/// Allocates from a driver that returns an invalid address, and checks the end of the message.
fn refuses_address(answer: &str) {
    let device = Device::open(0).unwrap();
    let (stream, memory) = (Stream::new(&device).unwrap(), ManagedResource::new(&device).unwrap());
    let bytes = if answer.contains("100") { 100 } else { 4096 };
    let error = memory.allocate(&stream, layout::bytes(bytes).unwrap()).unwrap_err();
    let text = ErrorReport::of(&error).to_string();
    assert!(text.contains("cuMemAllocManaged on cuda:0 returned the address 0x"), "{text}");
    assert!(text.contains(&format!("{answer}, which no")), "{text}");
}

fn a_null_stream_is_an_error() {
    let device = Device::open(0).unwrap();
    let error = Stream::new(&device).unwrap_err().to_string();
    assert_eq!(error, "cuStreamCreate on cuda:0 returned no handle, which no CUDA driver returns");
}

fn with_block(device: &Device, test: impl FnOnce(&Stream, &Block)) {
    let stream = Stream::new(device).unwrap();
    let memory = ManagedResource::new(device).unwrap();
    let block = memory.allocate(&stream, Layout::array::<u8>(100).unwrap()).unwrap();
    test(&stream, &block);
    // SAFETY: the block is from this resource, and unused.
    unsafe { memory.deallocate(&stream, block) }.unwrap();
}
