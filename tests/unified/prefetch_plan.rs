//! `PrefetchPlan`: each entry is checked, ranges are merged, and all are enqueued or none. Range attributes confirm it.

use crate::common;
use cumem::device::MemoryType;
use cumem::error::CudaErrorCode;
use cumem::resource::MakerId;
use cumem::sim::{FaultCall, Profile, Simulator};
use cumem::unified::{HintOutcome, PlanError, PrefetchPlan, SkipReason, hints};
use cumem::{
    Block, CudaResource, Device, DeviceError, DriverError, Location, ManagedResource, MemoryResource, Stream,
    UnifiedBuffer, layout,
};
use std::ptr::NonNull;

on_devices!(
    entries_are_prefetched_to_their_locations,
    overlaps_are_merged_and_ordered,
    a_budget_skips_what_no_longer_fits,
    one_bad_entry_and_nothing_is_enqueued,
    empty_plans_and_entries,
    on_the_legacy_stream_one_by_one,
);

const BYTES: usize = 4 << 20;
const HALF: usize = BYTES / 2;

type Memory = UnifiedBuffer<u32, ManagedResource>;

fn buffer(device: &Device, stream: &Stream) -> Memory {
    UnifiedBuffer::zeroed(BYTES / 4, stream, ManagedResource::new(device).unwrap()).unwrap()
}

fn last(buffer: &Memory, bytes: std::ops::Range<usize>) -> Option<Location> {
    hints::range_attributes(buffer.block(), bytes, buffer.stream()).unwrap().last_prefetch_location
}

fn entries_are_prefetched_to_their_locations(device: &Device) {
    let stream = Stream::new(device).unwrap();
    let (one, two) = (buffer(device, &stream), buffer(device, &stream));
    let here = Location::Device(device.id());
    let mut plan = PrefetchPlan::new(&stream);
    plan.add_buffer(&one, 0..one.len(), here).unwrap().add(two.block(), 0..HALF, Location::Host).unwrap();
    let report = plan.execute().unwrap();
    assert_eq!(report.outcomes, [HintOutcome::Applied; 2]);
    assert_eq!((report.ranges.len(), report.bytes()), (2, BYTES + HALF));
    stream.synchronize().unwrap();
    assert_eq!(last(&one, 0..BYTES), Some(here));
    assert_eq!(last(&two, 0..HALF), Some(Location::Host));
    assert_eq!(last(&two, HALF..BYTES), None, "not in the plan");
    if let Some(there) = hints::residency(two.block(), 0..HALF, &stream).unwrap() {
        assert_eq!(there.on(Location::Host), HALF as u64);
    }
}

fn overlaps_are_merged_and_ordered(device: &Device) {
    let stream = Stream::new(device).unwrap();
    let buffer = buffer(device, &stream);
    let mut plan = PrefetchPlan::new(&stream);
    for range in [HALF..BYTES, 0..4096, 0..4096, 4096..HALF, 100..HALF + 100] {
        plan.add(buffer.block(), range, device.id()).unwrap();
    }
    let report = plan.execute().unwrap();
    assert_eq!(report.outcomes, [HintOutcome::Applied; 5]);
    assert_eq!(report.ranges.len(), 1, "{:?}", report.ranges);
    assert_eq!((report.ranges[0].addr, report.bytes()), (buffer.block().addr(), BYTES));
    assert_eq!(last(&buffer, 0..BYTES), Some(device.id().into()));
}

fn a_budget_skips_what_no_longer_fits(device: &Device) {
    let stream = Stream::new(device).unwrap();
    let buffer = buffer(device, &stream);
    let mut plan = PrefetchPlan::new(&stream).budget(HALF + 4096);
    for range in [0..HALF, HALF..BYTES, 4096..HALF + 4096] {
        plan.add(buffer.block(), range, device.id()).unwrap();
    }
    let report = plan.execute().unwrap();
    let over = HintOutcome::Skipped(SkipReason::OverBudget { bytes: HALF, left: 4096 });
    assert_eq!(report.outcomes, [HintOutcome::Applied, over, HintOutcome::Applied], "bytes that overlap count once");
    assert_eq!(report.bytes(), HALF + 4096);
    assert_eq!(last(&buffer, 0..HALF + 4096), Some(device.id().into()));
    assert_eq!(last(&buffer, HALF + 4096..BYTES), None);
}

fn one_bad_entry_and_nothing_is_enqueued(device: &Device) {
    let stream = Stream::new(device).unwrap();
    let buffer = buffer(device, &stream);
    let plain = CudaResource::new(device);
    let device_memory = plain.allocate(&stream, layout::bytes(4096).unwrap()).unwrap();
    let foreign = Block::new(MakerId::unique(), NonNull::dangling(), layout::bytes(1 << 30).unwrap(), 0);
    let elsewhere = common::simulated().id();
    {
        let mut plan = PrefetchPlan::new(&stream);
        plan.add(buffer.block(), 0..HALF, device.id()).unwrap();

        let error = plan.add(buffer.block(), 0..BYTES + 1, device.id()).unwrap_err();
        let source = DeviceError::OutOfRange { start: 0, end: BYTES + 1, size: BYTES };
        assert_eq!(error, PlanError::Entry { entry: 1, source });
        let error = plan.add(&device_memory, 0..4096, device.id()).unwrap_err();
        let addr = device_memory.addr();
        assert_eq!(error, PlanError::NotUnified { entry: 1, addr, bytes: 4096, memory_type: MemoryType::Device });
        let error = plan.add(&foreign, 0..1 << 30, device.id()).unwrap_err();
        assert!(
            matches!(&error, PlanError::Entry { source, .. } if source.code() == Some(CudaErrorCode::INVALID_VALUE)),
            "{error}"
        );
        let error = plan.add(buffer.block(), HALF..BYTES, device.id().sibling(77)).unwrap_err();
        assert!(
            matches!(
                &error,
                PlanError::Entry { source: DeviceError::Driver(DriverError::NoSuchDevice { ordinal: 77, .. }), .. }
            ),
            "{error}"
        );
        let error = plan.add(buffer.block(), HALF..BYTES, elsewhere).unwrap_err();
        assert!(
            matches!(&error, PlanError::Entry { source: DeviceError::WrongDevice { found, .. }, .. } if *found == elsewhere),
            "{error}"
        );
        let error = plan.add(buffer.block(), HALF - 1..BYTES, Location::Host).unwrap_err();
        assert!(matches!(error, PlanError::Conflict { entry: 1, to: Location::Host, .. }), "{error}");

        assert_eq!(plan.len(), 1, "refused entries leave the plan as it was");
    }
    assert_eq!(last(&buffer, 0..BYTES), None, "nothing was enqueued");
    common::free(&plain, &stream, device_memory).unwrap();
}

fn empty_plans_and_entries(device: &Device) {
    let stream = Stream::new(device).unwrap();
    let buffer = buffer(device, &stream);
    let mut plan = PrefetchPlan::new(&stream);
    assert!(plan.is_empty() && plan.execute().unwrap().outcomes.is_empty());
    plan.add_buffer(&buffer, 7..7, device.id()).unwrap();
    let report = plan.execute().unwrap();
    assert_eq!(report.outcomes, [HintOutcome::Skipped(SkipReason::EmptyRange)]);
    assert_eq!((report.bytes(), last(&buffer, 0..BYTES)), (0, None));
}

fn on_the_legacy_stream_one_by_one(device: &Device) {
    let stream = Stream::legacy_default(device);
    let (one, two) = (buffer(device, &stream), buffer(device, &stream));
    let mut plan = PrefetchPlan::new(&stream);
    plan.add(one.block(), 0..BYTES, device.id()).unwrap().add(two.block(), 0..BYTES, Location::Host).unwrap();
    let report = plan.execute().unwrap();
    assert!(!report.batched);
    assert_eq!((last(&one, 0..BYTES), last(&two, 0..BYTES)), (Some(device.id().into()), Some(Location::Host)));
    stream.synchronize().unwrap();
}

#[test]
fn one_call_for_all_ranges() {
    let device = common::simulated();
    let stream = Stream::new(&device).unwrap();
    let (one, two) = (buffer(&device, &stream), buffer(&device, &stream));
    let simulator = device.simulator().unwrap();
    let mut plan = PrefetchPlan::new(&stream);
    plan.add(one.block(), 0..BYTES, Location::Host).unwrap().add(two.block(), 0..BYTES, Location::Host).unwrap();
    let before = simulator.calls(FaultCall::PrefetchAsync);
    assert!(plan.execute().unwrap().batched);
    assert_eq!(simulator.calls(FaultCall::PrefetchAsync) - before, 1);

    simulator.fail_nth(FaultCall::PrefetchAsync, 1, CudaErrorCode::OUT_OF_MEMORY);
    let error = plan.execute().unwrap_err();
    assert!(matches!(&error, PlanError::Stopped { enqueued: 0, ranges, .. } if ranges.len() == 2), "{error}");
}

#[test]
fn a_refusal_half_way_reports_the_enqueued_part() {
    let device = common::simulated();
    // The legacy stream has no batch call.
    let stream = Stream::legacy_default(&device);
    let buffers = [0; 3].map(|_| buffer(&device, &stream));
    let mut plan = PrefetchPlan::new(&stream);
    for buffer in &buffers {
        plan.add(buffer.block(), 0..BYTES, device.id()).unwrap();
    }
    device.simulator().unwrap().fail_nth(FaultCall::PrefetchAsync, 2, CudaErrorCode::OUT_OF_MEMORY);
    let error = plan.execute().unwrap_err();
    let PlanError::Stopped { ranges, enqueued: 1, source } = &error else { panic!("{error}") };
    assert_eq!(source.code(), Some(CudaErrorCode::OUT_OF_MEMORY));
    assert_eq!(ranges.len(), 3);
    for buffer in &buffers {
        let there = ranges[0].addr == buffer.block().addr();
        assert_eq!(last(buffer, 0..BYTES), there.then_some(device.id().into()));
    }
}

#[test]
fn devices_without_concurrent_access_are_skipped_by_name() {
    let simulator = Simulator::new([Profile::default(), Profile::wsl()]).unwrap();
    let (able, unable) = (Device::of_simulator(&simulator, 0).unwrap(), Device::of_simulator(&simulator, 1).unwrap());
    let stream = Stream::new(&able).unwrap();
    let buffer = buffer(&able, &stream);
    let mut plan = PrefetchPlan::new(&stream);
    plan.add(buffer.block(), 0..4096, able.id()).unwrap();
    plan.add(buffer.block(), HALF..BYTES, unable.id()).unwrap();
    plan.add(buffer.block(), 8192..HALF, Location::Host).unwrap();
    let report = plan.execute().unwrap();
    let skipped = HintOutcome::Skipped(SkipReason::NoConcurrentManagedAccess(unable.id()));
    assert_eq!(report.outcomes, [HintOutcome::Applied, skipped, HintOutcome::Applied]);
    assert!(!report.batched, "the batch call needs all devices of the machine to be able");
    assert_eq!((last(&buffer, 0..4096), last(&buffer, HALF..BYTES)), (Some(able.id().into()), None));

    // On a stream of the device without concurrent access, the plan makes no driver call.
    let stream = Stream::new(&unable).unwrap();
    let mut plan = PrefetchPlan::new(&stream);
    plan.add(buffer.block(), 0..BYTES, able.id()).unwrap();
    let calls = simulator.calls(FaultCall::PrefetchAsync);
    assert_eq!(plan.execute().unwrap().outcomes, [skipped]);
    assert_eq!(simulator.calls(FaultCall::PrefetchAsync), calls);
}
