//! Stacks from text: the stacks that they build, and the errors of layers that cannot be built.

use crate::common::{free, sim, sim_with};
use cumem::device::MemoryType;
use cumem::sim::Profile;
use cumem::unified::accounting::Ledger;
use cumem::{Block, DeviceError, DriverError, LayerExt, MemoryResource, layout};
use cumem_adaptors::{AnyStack, Size, SpillState, StackSpec, StatisticsState, TaggedState};
use std::error::Error;
use std::sync::Arc;

const MIB: usize = 1 << 20;

#[test]
fn each_description_builds_the_stack_that_it_names() {
    let (device, stream) = sim();
    for (text, display) in [
        ("managed", "managed"),
        ("device|statistics", "statistics over device"),
        ("  pinned |limit( 1 GiB )", "limit(1GiB) over pinned"),
        ("host | statistics", "statistics over host"),
        ("async(threshold=64MiB) | limit(256MB)", "limit(250000KiB) over async"),
        ("async(default)", "async"),
        ("device | pool | on_failure(trim)", "on_failure(trim) over pool over device"),
        (
            "device | limit(1GiB, name=all) | limit(50%, name=search) | on_failure(trim, attempts=3)",
            "on_failure(trim, attempts=3) over limit(50%, name=search) over limit(1GiB, name=all) over device",
        ),
        (
            "device | tracking | pool | events | tracking(traces)",
            "tracking(traces) over events over pool over tracking over device",
        ),
        ("virtual | pool", "pool over virtual"),
        ("device | pool | pool(up_to=64KiB)", "pool(up_to=64KiB) over pool over device"),
        ("device | pool(step=4MiB, divisions=8)", "pool(step=4MiB, divisions=8) over device"),
        ("managed | statistics | prefetch(host)", "prefetch(host) over statistics over managed"),
        (
            "managed | auto_prefetch(ahead=8) | prefetch",
            "prefetch(DEVICE) over auto_prefetch(budget=256MiB, ahead=8) over managed",
        ),
        (
            "device | pool | pressure(trim=70%, refuse=85%) | spill(managed | limit(50%) | pool) | limit(4GiB)",
            "limit(4GiB) over spill(managed | limit(50%) | pool) over pressure(trim=70%, refuse=85%) over pool over device",
        ),
        (
            "device | limit(1MiB) | spill(async | limit(1MiB)|spill( pinned )) | spill(managed)",
            "spill(managed) over spill(async | limit(1MiB) | spill(pinned)) over limit(1MiB) over device",
        ),
        ("pinned | pressure | statistics", "statistics over pressure(trim=80%, refuse=95%) over pinned"),
        ("managed | limit(4GiB) | prefetch()", "prefetch(DEVICE) over limit(4GiB) over managed"),
        ("managed | prefetch(always)", "prefetch(DEVICE, always) over managed"),
        ("managed | prefetch(0, pass_through)", "prefetch(DEVICE) over managed"),
        ("device | pool | fixed_size(2MiB)", "fixed_size(2MiB) over pool over device"),
        ("device | fixed_size(2MiB, keep=9)", "fixed_size(2MiB, keep=9) over device"),
        ("pinned | binning(1MiB, 4KiB)", "binning(4KiB, 1MiB) over pinned"),
        ("device | binning(from=256KiB, to=1MiB, keep=1)", "binning(256KiB, 512KiB, 1MiB, keep=1) over device"),
        ("device | aligned(4KiB) | statistics", "statistics over aligned(4KiB) over device"),
        ("host | aligned(64KiB, threshold=1MiB)", "aligned(64KiB, threshold=1MiB) over host"),
        ("device | limit(1GiB, rounding=2MiB, name=a)", "limit(1GiB, name=a, rounding=2MiB) over device"),
        ("device | pool | scrub", "scrub over pool over device"),
        (
            "managed | scrub(at=allocate, pattern=255) | prefetch",
            "prefetch(DEVICE) over scrub(pattern=255, at=allocate) over managed",
        ),
        ("device | spill(managed) | scrub(at=both)", "scrub(at=both) over spill(managed) over device"),
        ("managed | advise(read_mostly) | pool", "pool over advise(read_mostly) over managed"),
        (
            "managed | advise(prefer=own, accessed_by=host, threshold=2MiB)",
            "advise(prefer=DEVICE, accessed_by=host, threshold=2MiB) over managed",
        ),
        ("managed | auto_prefetch(pass_through)", "auto_prefetch(budget=256MiB, ahead=4) over managed"),
    ] {
        let spec = StackSpec::parse(text).unwrap();
        let stack = spec.build(&device).unwrap();
        let id = device.id().to_string();
        assert_eq!(stack.to_string(), format!("{} on {id}", display.replace("DEVICE", &id)));
        let block = stack.allocate(&stream, layout::bytes(1 << 20).unwrap()).unwrap();
        free(&stack, &stream, block).unwrap();
    }
}

#[test]
fn the_variant_of_a_built_stack_has_the_kind_of_its_leaf() {
    let (device, _) = sim();
    let build = |text: &str| StackSpec::parse(text).unwrap().build(&device).unwrap();
    assert!(matches!(build("managed | statistics"), AnyStack::OverManaged(_)));
    assert!(matches!(build("async | limit(1MiB)"), AnyStack::OverDevice(_)));
    assert!(build("pinned").into_device_accessible().is_ok());
    let error = build("host").into_device_accessible().unwrap_err();
    assert!(error.to_string().contains("is host memory") && matches!(error.into_stack(), AnyStack::OverHost(_)));
    assert!(matches!(build("device | spill(managed)"), AnyStack::OverEither(_)));
    assert!(build("device | spill(managed)").into_device_accessible().is_ok());
}

#[test]
fn leaf_statistics_count_the_blocks_of_the_leaf() {
    let (device, stream) = sim();
    let spec = StackSpec::parse("device | pool(initial=64MiB) | statistics").unwrap().with_leaf_statistics();
    let stack = spec.build(&device).unwrap();
    let block = stack.allocate(&stream, layout::bytes(1000).unwrap()).unwrap();
    let counters = stack.find_all::<StatisticsState>();
    assert_eq!(counters[0].counts().current_bytes, 1000);
    assert_eq!(counters[1].counts().current_bytes, 64 << 20);
    free(&stack, &stream, block).unwrap();
}

/// Each leaf of a stack that spills counts, whatever statistics the text has itself.
#[test]
fn leaf_statistics_count_every_leaf() {
    for text in ["device | pool | spill(managed | statistics)", "device | limit(8MiB) | spill(managed)"] {
        for spec in [StackSpec::with_leaf_statistics, StackSpec::with_statistics_between] {
            let (device, stream) = sim();
            let stack = spec(StackSpec::parse(text).unwrap()).build(&device).unwrap();
            let block = stack.allocate(&stream, layout::bytes(8 * MIB).unwrap()).unwrap();
            let second = stack.allocate(&stream, layout::bytes(5 * MIB).unwrap()).unwrap();
            let leaves = cumem_adaptors::statistics::leaf_statistics(&stack);
            let reserved: Vec<i64> = leaves.iter().map(|leaf| leaf.counts().current_bytes).collect();
            let live = device.simulator().unwrap().live_allocations().bytes();
            assert_eq!((reserved.len(), reserved.iter().sum::<i64>()), (2, live as i64), "{text}: {reserved:?}");
            [block, second].into_iter().for_each(|block| free(&stack, &stream, block).unwrap());
        }
    }
}

#[test]
fn a_feature_that_the_device_lacks_is_an_error_at_its_layer() {
    let (wsl, _) = sim_with(Profile::wsl());
    let error = StackSpec::parse("managed | statistics | prefetch").unwrap().build(&wsl).unwrap_err();
    assert_eq!(error.message(), "`prefetch` could not be created");
    assert!(error.report().to_string().contains("no concurrent managed access"), "{error:?}");
    assert_eq!(error.span(), 23..31);
    let reason = error.source().unwrap().downcast_ref::<DeviceError>().unwrap();
    assert!(matches!(reason, DeviceError::Driver(DriverError::NotSupported { .. })), "{reason}");
    let stack = StackSpec::parse("managed | prefetch(pass_through)").unwrap().build(&wsl).unwrap();
    assert!(stack.to_string().contains("passing through"), "{stack}");
}

#[test]
fn an_invalid_pool_option_is_an_error_at_the_pool() {
    let (device, _) = sim();
    let error = StackSpec::parse("device | pool(divisions=6) | statistics").unwrap().build(&device).unwrap_err();
    assert_eq!(
        format!("{error:?}"), // what `main` prints
        "\
`pool` could not be created
  device | pool(divisions=6) | statistics
           ^^^^ this layer
  cause: a pool rounds to a power of two of divisions, not to 6"
    );
    assert_eq!(error.source().unwrap().to_string(), "a pool rounds to a power of two of divisions, not to 6");
    assert_eq!(error.span(), 9..13);
}

#[test]
fn statistics_and_limits_are_added_between_layers() {
    let (device, _) = sim();
    let spec = StackSpec::parse("managed | pool | statistics | limit(1GiB) | prefetch").unwrap();
    let built = |spec: StackSpec| spec.build(&device).unwrap().to_string().replace(&device.id().to_string(), "it");
    assert_eq!(
        built(spec.clone().with_statistics_between()),
        "prefetch(it) over statistics over limit(1GiB) over statistics over pool over statistics over managed on it"
    );
    assert_eq!(
        built(StackSpec::parse("managed").unwrap().with_leaf_limit(Size::Bytes(4096)).with_statistics_between()),
        "statistics over limit(4KiB) over statistics over managed on it"
    );
    assert_eq!(spec.to_string(), "managed | pool | statistics | limit(1GiB) | prefetch");
}

#[test]
fn a_layer_that_cannot_be_built_is_marked_in_the_error() {
    let (device, _) = sim();
    let refused = |text: &str| StackSpec::parse(text).unwrap().build(&device).unwrap_err();
    let error = refused("device | pressure(trim=90%, refuse=80%)");
    assert!(error.source().unwrap().to_string().starts_with("levels must be slack"), "{error}");
    assert_eq!(error.span(), 9..17);
    let (wsl, _) = sim_with(Profile::wsl());
    let spec = StackSpec::parse("device | spill(managed | auto_prefetch)").unwrap();
    let error = spec.build(&wsl).unwrap_err();
    assert!(error.report().to_string().contains("no concurrent managed access"), "{error:?}");
    assert_eq!(error.span(), 25..38);
    assert_eq!(
        refused("managed | tagged(weights)").to_string(),
        "\
`tagged` gives a ledger a name, and there is no ledger
  managed | tagged(weights)
            ^^^^^^ needs a ledger
  note: build the stack with `StackSpec::build_with_ledger`"
    );
}

#[test]
fn a_tag_from_text_is_entered_in_the_ledger() {
    let (device, stream) = sim();
    let ledger = Arc::new(Ledger::new(&device));
    let spec = StackSpec::parse("managed | pool | tagged(weights) | prefetch").unwrap();
    let stack = spec.build_with_ledger(&device, &ledger).unwrap();
    assert_eq!(stack.find::<TaggedState>().unwrap().as_str(), "weights");
    let block = stack.allocate(&stream, layout::bytes(MIB).unwrap()).unwrap();
    let report = ledger.report();
    assert_eq!((&*report.rows[0].tag, report.rows[0].bytes), ("weights", MIB as u64), "{report}");
    free(&stack, &stream, block).unwrap();
}

#[test]
fn a_spill_from_text_spills() {
    let (device, stream) = sim();
    let spec = StackSpec::parse("device | limit(1MiB) | spill(managed | limit(1MiB)) | statistics").unwrap();
    let stack = spec.build(&device).unwrap();
    let one = || stack.allocate(&stream, layout::bytes(MIB).unwrap());
    let (first, second) = (one().unwrap(), one().unwrap());
    let kind = |block: &Block| device.pointer_info(block.as_ptr()).unwrap().memory_type;
    assert_eq!((kind(&first), kind(&second)), (MemoryType::Device, MemoryType::Unified));
    assert!(one().unwrap_err().is_out_of_memory());
    assert_eq!(stack.find::<SpillState>().unwrap().bytes(), MIB);
    for block in [second, first] {
        free(&stack, &stream, block).unwrap();
    }
    assert!(device.simulator().unwrap().live_allocations().no_memory());
}
