//! `fit_batch`: a batch of the returned size can be allocated, and hardly more can.

use crate::common::{free, sim_with};
use cumem::error::CudaErrorCode;
use cumem::sim::Profile;
use cumem::{
    CudaAsyncResource, CudaResource, Device, DeviceError, DriverError, Layer, ManagedResource, MemoryResource,
    PinnedResource, Stream,
};
use cumem_adaptors::{FitOptions, OutOfMemory, PoolOptions, PressureOptions, ResourceExt, Size, StackSpec, fit_batch};
use proptest::prelude::*;

const MIB: usize = 1 << 20;
const GIB: usize = 1 << 30;

/// Creates a device with `gib` GiB of memory.
fn card(gib: usize) -> (Device, Stream) {
    sim_with(Profile::h100_pcie5().with_capacity((gib * GIB) as u64))
}

/// Asserts that one block of the returned size can be allocated and that a block for one more item cannot. Returns the
/// number of items.
fn is_exact(stack: &impl MemoryResource, stream: &Stream, per_item: usize, fixed: usize) -> usize {
    let fit = fit_batch(stack, per_item, fixed, usize::MAX).unwrap();
    assert_eq!(fit.bytes, fixed + fit.items * per_item);
    let block = stack.allocate(stream, cumem::layout::bytes(fit.bytes).unwrap()).unwrap();
    free(stack, stream, block).unwrap();
    let more = stack.allocate(stream, cumem::layout::bytes(fit.bytes + per_item).unwrap());
    assert!(more.as_ref().is_err_and(cumem::AllocError::is_out_of_memory), "{more:?}");
    fit.items
}

#[test]
fn cards_of_4_8_and_24_gb() {
    for gib in [4, 8, 24] {
        let (device, stream) = card(gib);
        // 768 floats in and one float out for each item, plus the query.
        let (per_item, fixed) = (768 * 4 + 4, 768 * 4);
        let all = is_exact(&CudaResource::new(&device), &stream, per_item, fixed);
        assert!(all * per_item > gib * GIB - 2 * MIB - per_item, "{all} items on {gib} GiB");

        let limited = CudaResource::new(&device).limit(Size::Percent(80));
        let most = is_exact(&limited, &stream, per_item, fixed);
        assert_eq!(most, (cumem::layout::align_down(gib * GIB / 10 * 8, 256) - fixed) / per_item);

        let wanted = fit_batch(&limited, per_item, fixed, 1000).unwrap();
        assert_eq!((wanted.items, wanted.bytes), (1000, fixed + 1000 * per_item));
    }
}

#[test]
fn a_pool_works_while_other_programs_use_nine_tenths_of_the_memory() {
    for gib in [4, 8, 24] {
        let (device, stream) = card(gib);
        let others = CudaResource::new(&device);
        let taken = others.allocate(&stream, cumem::layout::bytes(gib * GIB / 10 * 9).unwrap()).unwrap();
        let stack = CudaResource::new(&device).pool(PoolOptions::default()).unwrap().statistics();
        let before = fit_batch(&stack, MIB, 0, usize::MAX).unwrap();
        assert!(before.items * MIB <= gib * GIB / 10 + MIB && before.items > 0, "{before:?}");
        is_exact(&stack, &stream, 64 * MIB, 0);
        free(&others, &stream, taken).unwrap();
        assert!(fit_batch(&stack, MIB, 0, usize::MAX).unwrap().items > 9 * before.items);
    }
}

#[test]
fn a_batch_of_no_items_is_a_valid_result() {
    let (device, stream) = card(4);
    let stack = CudaResource::new(&device).limit(MIB);
    let fit = |per_item, fixed| fit_batch(&stack, per_item, fixed, 100).unwrap();
    assert_eq!((fit(MIB + 1, 0).items, fit(MIB + 1, 0).bytes), (0, 0));
    assert_eq!((fit(1, MIB).items, fit(1, MIB + 1).items), (0, 0));
    assert_eq!((fit(usize::MAX, 0).items, fit(1, usize::MAX).items), (0, 0));
    assert_eq!((fit(0, 0).items, fit(0, MIB).items, fit(0, MIB + 1).items), (100, 100, 0), "items of no size");
    let all = stack.allocate(&stream, cumem::layout::bytes(MIB).unwrap()).unwrap();
    assert_eq!(fit(1, 0).items, 0);
    free(&stack, &stream, all).unwrap();
    assert_eq!(fit(1, 0).items, 100);
}

#[test]
fn a_margin_is_left_free() {
    let (device, _) = card(8);
    let stack = CudaResource::new(&device);
    let without = fit_batch(&stack, 1, 0, usize::MAX).unwrap().items;
    let with = |margin| FitOptions::default().margin(margin).fit_batch(&stack, 1, 0, usize::MAX).unwrap().items;
    assert_eq!(with(Size::Percent(20)), cumem::layout::align_down(without - 8 * GIB / 5, 256));
    assert_eq!(with(Size::Bytes(GIB)), without - GIB);
    assert_eq!(with(Size::Bytes(9 * GIB)), 0);
}

#[test]
fn fit_considers_each_layer_of_a_stack() {
    let (device, stream) = card(4);
    let available = |stack: &dyn Layer| fit_batch(stack, 1, 0, usize::MAX).unwrap().available;

    let pool = CudaResource::new(&device).pool(PoolOptions::default().initial(64 * MIB).maximum(GIB)).unwrap();
    assert_eq!(available(&pool), GIB - 64 * MIB, "by growing; its free piece is smaller");
    let kept = pool.allocate(&stream, cumem::layout::bytes(MIB).unwrap()).unwrap();
    let capped = (&pool).limit(700 * MIB);
    assert_eq!(available(&capped), 700 * MIB);
    let under = CudaResource::new(&device).limit(100 * MIB).pool(PoolOptions::default()).unwrap();
    assert_eq!(available(&under), 100 * MIB, "a limit beneath caps what the pool can grow by");
    free(&pool, &stream, kept).unwrap();

    let pressure = PressureOptions::default().trim_at(GIB).refuse_at(2 * GIB).slack(MIB);
    let watched = CudaResource::new(&device).pressure(pressure).unwrap();
    let used = {
        let info = device.memory_info().unwrap();
        info.total - info.free
    };
    assert_eq!(available(&watched), cumem::layout::align_down(2 * GIB - used, 256));
    assert_eq!(available(&CudaAsyncResource::new(&device).unwrap()), device.memory_info().unwrap().free);
}

#[test]
fn fit_counts_both_resources_of_a_spill() {
    let (device, stream) = card(8);
    let spill = |first: usize, second: usize| {
        let first = CudaResource::new(&device).limit(first * MIB);
        first.spill_to(ManagedResource::new(&device).unwrap().limit(second * MIB)).unwrap()
    };
    // One block comes from one of the two resources.
    assert_eq!(is_exact(&spill(300, 500), &stream, MIB, 0), 500);
    assert_eq!(is_exact(&spill(500, 300), &stream, MIB, 0), 500);
    assert_eq!(is_exact(&spill(300, 500).limit(200 * MIB).statistics(), &stream, MIB, 0), 200);

    // The bytes that a resource has allocated reduce the room of that resource only.
    let stack = spill(300, 500);
    let taken = stack.allocate(&stream, cumem::layout::bytes(400 * MIB).unwrap()).unwrap();
    assert_eq!(is_exact(&stack, &stream, MIB, 0), 300, "400 of the second's 500 are out");
    free(&stack, &stream, taken).unwrap();

    // A resource under pressure has no room, so the other one decides.
    let others = CudaResource::new(&device);
    let held = others.allocate(&stream, cumem::layout::bytes(7 * GIB).unwrap()).unwrap();
    let pressed =
        CudaResource::new(&device).pressure(PressureOptions::default().trim_at(GIB).refuse_at(2 * GIB)).unwrap();
    let stack = pressed.spill_to(PinnedResource::new(&device).limit(100 * MIB)).unwrap();
    assert_eq!(is_exact(&stack, &stream, MIB, 0), 100);
    free(&others, &stream, held).unwrap();

    // The same through erasure, and with a spill within a spill.
    let text =
        "device | limit(10MiB) | spill(managed | limit(20MiB) | spill(pinned | pool(maximum=32MiB))) | statistics";
    let stack = StackSpec::parse(text).unwrap().build(&device).unwrap();
    assert_eq!(is_exact(&stack, &stream, MIB, 0), 32);
    let stack = stack.into_device_accessible().unwrap();
    assert_eq!(is_exact(&&stack, &stream, MIB, 0), 32);

    // With `oversubscribe`, a batch of managed memory may be larger than the device's memory.
    let more = CudaResource::new(&device).spill_to(ManagedResource::new(&device).unwrap()).unwrap();
    let items = |options: FitOptions| options.fit_batch(&more, GIB, 0, 20).unwrap().items;
    assert_eq!(items(FitOptions::default().oversubscribe(true)), 20);
    assert_eq!(items(FitOptions::default()), 8, "what is free counts");
}

#[test]
fn unified_and_host_memory() {
    let (device, _) = card(4);
    let items = |stack: &dyn Layer, options: FitOptions| options.fit_batch(stack, GIB, 0, 100).unwrap().items;
    let managed = ManagedResource::new(&device).unwrap().limit(50 * GIB);
    assert_eq!(items(&managed, FitOptions::default()), 4, "what fits without eviction");
    assert_eq!(items(&managed, FitOptions::default().oversubscribe(true)), 50);
    assert_eq!(items(&CudaResource::new(&device), FitOptions::default().oversubscribe(true)), 4);
    assert_eq!(items(&PinnedResource::new(&device).limit(7 * GIB), FitOptions::default()), 7);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// A batch of the returned size can be allocated, whatever blocks the pool holds and however its chunks are cut.
    #[test]
    fn a_batch_that_fits_can_be_allocated(
        sizes in prop::collection::vec(1..40 * MIB, 0..20),
        freed in prop::collection::vec(any::<bool>(), 20),
        (per_item, fixed) in (1..3 * MIB, 0..2 * MIB),
        limit in 50 * MIB..400 * MIB,
    ) {
        let (device, stream) = sim_with(Profile::tiny((256 * MIB) as u64));
        let stack = CudaResource::new(&device).pool(PoolOptions::default()).unwrap().limit(limit);
        let blocks: Vec<_> = sizes.iter().filter_map(|&bytes| {
            stack.allocate(&stream, cumem::layout::bytes(bytes).unwrap()).ok()
        }).collect();
        let (gone, kept): (Vec<_>, Vec<_>) = blocks.into_iter().zip(freed).partition(|(_, freed)| *freed);
        gone.into_iter().for_each(|(block, _)| free(&stack, &stream, block).unwrap());
        let fit = fit_batch(&stack, per_item, fixed, usize::MAX).unwrap();
        if fit.items > 0 {
            let block = stack.allocate(&stream, cumem::layout::bytes(fit.bytes).unwrap()).unwrap();
            free(&stack, &stream, block).unwrap();
        }
        kept.into_iter().for_each(|(block, _)| free(&stack, &stream, block).unwrap());
    }
}

#[test]
fn a_boxed_error_is_recognized_as_out_of_memory() {
    let (device, _) = card(4);
    let driver = |code| DriverError::Call { call: "cuMemAlloc", device: device.id(), code };
    for (code, out_of_memory) in [(CudaErrorCode::OUT_OF_MEMORY, true), (CudaErrorCode::UNKNOWN, false)] {
        let boxed: Box<dyn std::error::Error> = driver(code).into();
        assert_eq!(boxed.is_out_of_memory(), out_of_memory);
        let boxed: Box<dyn std::error::Error + Send + Sync> = DeviceError::from(driver(code)).into();
        assert_eq!(boxed.is_out_of_memory(), out_of_memory);
    }
}

/// A size that fits is served, although divisions, granules of mappings and the driver round sizes up.
#[test]
fn the_returned_block_is_served_by_every_stack() {
    let device_of = |bytes: usize| sim_with(Profile::default().with_capacity(bytes as u64));
    let stacks = [
        "device",
        "async",
        "virtual",
        "managed",
        "device | pool(divisions=1)",
        "device | pool(divisions=8)",
        "device | pool(maximum=33MiB, divisions=2)",
        "device | limit(20MB) | pool(divisions=1)",
        "virtual | limit(20MB) | pool",
        "virtual | limit(20MB)",
        "virtual | pool(maximum=21MB)",
        "device | limit(5000B) | pool",
        "device | pool | pool(up_to=64KiB)",
        "device | pool(divisions=1) | pool(up_to=64KiB)",
        "device | pool | limit(30MB) | pool(divisions=4)",
        "async | pool(step=64KiB)",
        "pinned",
        "pinned | pool",
        "pinned | limit(20MB) | pool(divisions=4)",
    ];
    for text in stacks {
        for (capacity, used) in [(48 * MIB, 0), (48 * MIB, 1000), (48 * MIB, MIB), (6 * MIB, 1000), (6 * MIB, 3 * MIB)]
        {
            let (device, stream) = device_of(capacity);
            let stack = StackSpec::parse(text).unwrap().build(&device).unwrap();
            let held = stack.allocate(&stream, cumem::layout::bytes(used).unwrap());
            let fit = fit_batch(&stack, 1, 0, usize::MAX).unwrap();
            let block = stack.allocate(&stream, cumem::layout::bytes(fit.bytes).unwrap());
            let block = block.unwrap_or_else(|error| panic!("{text}, {used} of {capacity} bytes used: {error}"));
            free(&stack, &stream, block).unwrap();
            held.into_iter().for_each(|block| free(&stack, &stream, block).unwrap());
        }
    }
}

#[test]
fn host_memory_is_bounded_by_the_host() {
    let (device, _) = card(4);
    for text in ["pinned", "pinned | pool", "host", "host | pool"] {
        let stack = StackSpec::parse(text).unwrap().build(&device).unwrap();
        let fit = fit_batch(&stack, 1 << 40, 0, 1000).unwrap();
        assert_eq!((fit.items, fit.bytes), (0, 0), "{text}: 1000 TiB on a host with {} bytes", fit.available);
        assert!(fit.available > GIB);
    }
}
