//! The assertions for tests pass when they should. Otherwise they fail with the numbers.

use cumem::sim::Profile;
use cumem::unified::HintOutcome;
use cumem::{
    Buffer, CudaAsyncResource, CudaResource, Device, ManagedResource, MemoryResource, Stream, UnifiedBuffer,
    assert_migrated, assert_no_leak, assert_peak,
};
use cumem_adaptors::{PoolOptions, ResourceExt};
use std::panic::{AssertUnwindSafe, catch_unwind};

fn rig() -> (Device, Stream) {
    let device = Device::simulated(Profile::tiny(64 << 20)).unwrap();
    let stream = Stream::new(&device).unwrap();
    (device, stream)
}

fn buffer<R: MemoryResource<Kind: cumem::kind::DeviceAccessible>>(
    bytes: usize,
    stream: &Stream,
    r: R,
) -> Buffer<u8, R> {
    Buffer::zeroed(bytes, stream, r).unwrap()
}

/// Returns the panic message of a failing assertion.
fn said(assertion: impl FnOnce()) -> String {
    let panic = catch_unwind(AssertUnwindSafe(assertion)).expect_err("the assertion fails");
    *panic.downcast::<String>().unwrap()
}

#[test]
fn the_peak_is_of_all_kinds_of_memory() {
    let (device, stream) = rig();
    let kept = buffer(1000, &stream, CudaResource::new(&device));
    let managed = buffer(500, &stream, ManagedResource::new(&device).unwrap());
    drop(buffer(24, &stream, CudaAsyncResource::new(&device).unwrap()));
    drop(managed);
    assert_peak!(device, 1524);
    assert_peak!(device, 1000..=1524);
    let again = assert_peak!(device, 1001, { buffer(1, &stream, CudaResource::new(&device)) });
    let found = said(|| assert_peak!(device, ..=1000));
    assert!(found.contains("at most 1001 bytes were allocated at once, expected ..=1000"), "{found}");
    assert!(found.ends_with("out now: 1001 bytes of device memory in 2 blocks, 1 stream"), "{found}");
    drop((kept, again));
}

#[test]
fn the_peak_of_a_stack_is_its_memory_from_the_driver() {
    let (device, stream) = rig();
    let pool = CudaResource::new(&device).pool(PoolOptions::default().initial(8 << 20)).unwrap();
    assert_peak!(device, 8 << 20, { buffer(1 << 20, &stream, &pool) });
}

#[test]
fn a_leak_is_listed() {
    let (device, stream) = rig();
    assert_no_leak!(device);
    assert_no_leak!(device, { drop(buffer(64, &stream, CudaResource::new(&device))) });
    // The library keeps the staging memory of a large copy for the next one: that is no leak.
    assert_no_leak!(device, {
        drop(Buffer::from_slice(&vec![1_u8; 8 << 20], &stream, CudaResource::new(&device)).unwrap())
    });
    let leaked = buffer(64, &stream, ManagedResource::new(&device).unwrap());
    let found = said(|| assert_no_leak!(device));
    assert!(found.contains("memory is still out: 64 bytes of unified memory in 1 block, 1 stream"), "{found}");
    drop(leaked);
    let mut kept = None;
    let found = said(|| {
        assert_no_leak!(device, {
            kept = Some(Stream::new(&device).unwrap());
        });
    });
    assert!(found.contains("something was left behind: 2 streams now, 1 stream before"), "{found}");
    drop(kept);
}

#[test]
fn migrations_are_exact() {
    let (device, stream) = rig();
    let mut pages = UnifiedBuffer::<u32, _>::zeroed(1 << 20, &stream, ManagedResource::new(&device).unwrap()).unwrap();
    assert_migrated!(device, populated = 4 << 20, migrated_to_host = 0);
    assert_migrated!(device, migrated_to_host = 4 << 20, faults = 0, { pages.host_write().unwrap()[0] = 1 });
    let found = said(|| assert_migrated!(device, migrated_to_host = 4096, migrated_to_device = 0));
    assert!(found.contains("migrated_to_host is 4194304, expected 4096; all in all:"), "{found}");
    // The assertion waits for the work that the block enqueues.
    let outcome = assert_migrated!(device, migrated_to_device = 4 << 20, { pages.prefetch(device.id()).unwrap() });
    assert_eq!(outcome, HintOutcome::Applied);
    assert_migrated!(device, migrated_to_device = 1.., prefetches = 1, peak_used = 4 << 20);
}

#[test]
#[ignore = "needs a CUDA device"]
fn exact_figures_are_refused_on_a_gpu() {
    let device = Device::open(0).expect("this test needs a CUDA device");
    assert!(said(|| assert_no_leak!(device)).contains("only a simulated device can be asked exactly"));
}
