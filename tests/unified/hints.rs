//! Policies and combined hints, confirmed by the range attributes that the driver or the simulator reports.

use crate::common;
use cumem::device::MemoryType;
use cumem::error::CudaErrorCode;
use cumem::sim::{FaultCall, Profile};
use cumem::unified::{
    Advice, Hint, HintOutcome, ManagedMemoryHints, MigrationPolicy, RangeAttributes, SkipReason, hints,
};
use cumem::{
    CudaResource, Device, DeviceError, Location, ManagedResource, MemoryResource, Stream, UnifiedBuffer, layout,
};

on_devices!(
    each_policy_is_read_back_and_undone,
    preferring_the_host_is_not_preferring_the_device,
    a_compound_policy,
    undoing_restores_the_earlier_attributes,
    undoing_restores_the_earlier_attributes_of_each_part,
    a_policy_for_part_of_a_block,
    hints_are_undone_for_their_own_block_only,
    ranges_past_the_end,
    hints_are_about_the_length_and_a_block_has_all,
    hints_about_device_memory,
    residency_where_it_is_known,
);

// This test reads the recorded errors of drops, which the whole process shares.
on_devices!(alone: a_rejected_hint_takes_back_those_before_it);

const BYTES: usize = 4 << 20;

type Memory = UnifiedBuffer<u8, ManagedResource>;

fn buffer(device: &Device) -> Memory {
    let stream = Stream::new(device).unwrap();
    UnifiedBuffer::zeroed(BYTES, &stream, ManagedResource::new(device).unwrap()).unwrap()
}

fn attributes(buffer: &Memory) -> RangeAttributes {
    buffer.range_attributes().unwrap()
}

fn apply(policy: &MigrationPolicy, buffer: &Memory) -> Result<hints::AppliedHints, DeviceError> {
    policy.apply(buffer.block(), 0..BYTES, buffer.stream())
}

fn each_policy_is_read_back_and_undone(device: &Device) {
    let buffer = buffer(device);
    let without_advice = attributes(&buffer);
    let here = Location::Device(device.id());
    for policy in [
        MigrationPolicy::Default,
        MigrationPolicy::ReadMostly,
        MigrationPolicy::PreferDevice(device.id()),
        MigrationPolicy::PreferHost,
        MigrationPolicy::AccessedBy(here),
        MigrationPolicy::AccessedBy(Location::Host),
    ] {
        let applied = apply(&policy, &buffer).unwrap();
        assert!(applied.outcomes().iter().all(|(_, outcome)| *outcome == HintOutcome::Applied), "{policy}");
        let mut expected = without_advice.clone();
        match &policy {
            MigrationPolicy::ReadMostly => expected.read_mostly = true,
            MigrationPolicy::PreferDevice(_) => expected.preferred_location = Some(here),
            MigrationPolicy::PreferHost => expected.preferred_location = Some(Location::Host),
            MigrationPolicy::AccessedBy(by) => expected.accessed_by.push(*by),
            _ => assert!(applied.outcomes().is_empty(), "{policy}"),
        }
        assert_eq!(attributes(&buffer), expected, "{policy}");
        applied.undo(buffer.block(), buffer.stream()).unwrap();
        assert_eq!(attributes(&buffer), without_advice, "{policy} undone");
    }
}

fn preferring_the_host_is_not_preferring_the_device(device: &Device) {
    let buffer = buffer(device);
    let applied = apply(&MigrationPolicy::PreferHost, &buffer).unwrap();
    assert_eq!(
        applied.outcomes(),
        [(Hint::Advise(Advice::SetPreferredLocation(Location::Host)), HintOutcome::Applied)]
    );
    assert_eq!(attributes(&buffer).preferred_location, Some(Location::Host));
}

fn a_compound_policy(device: &Device) {
    let buffer = buffer(device);
    let policy = MigrationPolicy::PreferDevice(device.id()).and(MigrationPolicy::AccessedBy(Location::Host));
    let applied = apply(&policy, &buffer).unwrap();
    assert_eq!(applied.outcomes().len(), 2);
    let now = attributes(&buffer);
    assert_eq!(now.preferred_location, Some(Location::Device(device.id())));
    assert_eq!(now.accessed_by[..], [Location::Host]);
    applied.undo(buffer.block(), buffer.stream()).unwrap();
    assert_eq!(attributes(&buffer).preferred_location, None);
    assert_eq!(attributes(&buffer).accessed_by[..], []);
}

fn undoing_restores_the_earlier_attributes(device: &Device) {
    let buffer = buffer(device);
    let here = Location::Device(device.id());
    let first = buffer.hints().read_mostly().preferred_location(Location::Host).accessed_by(here).apply().unwrap();
    let before = attributes(&buffer);
    let second = buffer
        .hints()
        .advise(Advice::UnsetReadMostly)
        .preferred_location(here)
        .accessed_by(here)
        .prefetch(Location::Host)
        .apply()
        .unwrap();
    assert_eq!(second.outcomes().len(), 4);
    assert_eq!((attributes(&buffer).read_mostly, attributes(&buffer).preferred_location), (false, Some(here)));
    assert_eq!(attributes(&buffer).last_prefetch_location, Some(Location::Host));
    second.undo(buffer.block(), buffer.stream()).unwrap();
    let after = attributes(&buffer);
    assert_eq!((after.read_mostly, after.preferred_location), (before.read_mostly, before.preferred_location));
    assert_eq!(after.accessed_by, before.accessed_by, "one of the second was there before it");
    first.undo(buffer.block(), buffer.stream()).unwrap();
    assert_eq!((attributes(&buffer).read_mostly, attributes(&buffer).preferred_location), (false, None));
}

fn undoing_restores_the_earlier_attributes_of_each_part(device: &Device) {
    let buffer = buffer(device);
    let here = Location::Device(device.id());
    const MIB: usize = 1 << 20;
    let parts = [(0, MIB), (MIB, MIB + 4096), (MIB + 4096, 2 * MIB), (2 * MIB, 3 * MIB), (3 * MIB, BYTES)];
    let of_parts =
        || parts.map(|(start, end)| hints::range_attributes(buffer.block(), start..end, buffer.stream()).unwrap());
    let nothing = of_parts();
    assert_eq!(buffer.advise_range(0..MIB + 4096, Advice::SetReadMostly).unwrap(), HintOutcome::Applied);
    assert_eq!(buffer.advise_range(MIB..2 * MIB, Advice::SetPreferredLocation(here)).unwrap(), HintOutcome::Applied);
    assert_eq!(
        buffer.advise_range(3 * MIB..BYTES, Advice::SetAccessedBy(Location::Host)).unwrap(),
        HintOutcome::Applied
    );
    let before = of_parts();
    assert_eq!(
        (attributes(&buffer).read_mostly, attributes(&buffer).preferred_location),
        (false, None),
        "not of all of it"
    );

    let policy = MigrationPolicy::ReadMostly
        .and(MigrationPolicy::PreferHost)
        .and(MigrationPolicy::AccessedBy(Location::Host))
        .and(MigrationPolicy::AccessedBy(here));
    let applied = apply(&policy, &buffer).unwrap();
    // Driver 580.159 on an H100 then reports no preferred location for the part that had no advice before.
    let obeyed = |(number, attributes): (usize, &RangeAttributes)| {
        let names_none = number == 3 && !device.is_simulated() && attributes.preferred_location.is_none();
        attributes.read_mostly && (attributes.preferred_location == Some(Location::Host) || names_none)
    };
    let after = of_parts();
    assert!(after.iter().enumerate().all(obeyed), "{after:?}");
    applied.undo(buffer.block(), buffer.stream()).unwrap();
    assert_eq!(of_parts(), before);

    // The same for a range that begins and ends inside parts.
    let cut = policy.apply(buffer.block(), MIB / 2..MIB + 8192, buffer.stream()).unwrap();
    assert_ne!(of_parts(), before);
    cut.undo(buffer.block(), buffer.stream()).unwrap();
    assert_eq!(of_parts(), before);

    // A new block at the same addresses has no advice.
    let (addr, stream) = (buffer.device_address(), buffer.stream().clone());
    drop(buffer);
    let buffer = self::buffer(device);
    if buffer.device_address() == addr {
        assert_eq!(parts.map(|(a, b)| hints::range_attributes(buffer.block(), a..b, &stream).unwrap()), nothing);
    }
    apply(&policy, &buffer).unwrap().undo(buffer.block(), &stream).unwrap();
    assert_eq!((attributes(&buffer).read_mostly, attributes(&buffer).preferred_location), (false, None));
}

fn a_policy_for_part_of_a_block(device: &Device) {
    let buffer = buffer(device);
    let (block, stream) = (buffer.block(), buffer.stream());
    let applied = MigrationPolicy::ReadMostly.apply(block, 0..BYTES / 2, stream).unwrap();
    assert!(hints::range_attributes(block, 0..BYTES / 2, stream).unwrap().read_mostly);
    assert!(!hints::range_attributes(block, BYTES / 2..BYTES, stream).unwrap().read_mostly);
    applied.undo(block, stream).unwrap();
    assert!(!hints::range_attributes(block, 0..BYTES / 2, stream).unwrap().read_mostly);
}

fn a_rejected_hint_takes_back_those_before_it(device: &Device) {
    let buffer = buffer(device);
    let without_advice = attributes(&buffer);
    let nowhere = MigrationPolicy::AccessedBy(device.id().sibling(77).into());
    let policy = MigrationPolicy::ReadMostly.and(MigrationPolicy::PreferHost).and(nowhere);
    let error = apply(&policy, &buffer).unwrap_err();
    assert_eq!(error.code(), Some(CudaErrorCode::INVALID_DEVICE), "{error}");
    assert_eq!(attributes(&buffer), without_advice);
    assert!(cumem::error::take_drop_errors().is_empty());
}

fn hints_are_undone_for_their_own_block_only(device: &Device) {
    let (one, two) = (buffer(device), buffer(device));
    let applied = apply(&MigrationPolicy::ReadMostly, &one).unwrap();
    let error = applied.undo(two.block(), two.stream()).unwrap_err();
    let expected = DeviceError::OtherBlock { expected: one.block().addr(), found: two.block().addr() };
    assert_eq!(error, expected);
    assert!(attributes(&one).read_mostly);
    assert!(!attributes(&two).read_mostly);
}

fn ranges_past_the_end(device: &Device) {
    let buffer = buffer(device);
    let past = DeviceError::OutOfRange { start: 0, end: BYTES + 1, size: BYTES };
    assert_eq!(buffer.hints().range(0..BYTES + 1).unwrap_err(), past);
    let error = MigrationPolicy::ReadMostly.apply(buffer.block(), 0..BYTES + 1, buffer.stream()).unwrap_err();
    assert_eq!(error, past);
    assert_eq!(hints::residency(buffer.block(), 0..BYTES + 1, buffer.stream()).unwrap_err(), past);
    assert!(!attributes(&buffer).read_mostly);

    let nothing = MigrationPolicy::PreferHost.apply(buffer.block(), 8..8, buffer.stream()).unwrap();
    let skipped = HintOutcome::Skipped(SkipReason::EmptyRange);
    assert_eq!(nothing.outcomes(), [(Hint::Advise(Advice::SetPreferredLocation(Location::Host)), skipped)]);
    nothing.undo(buffer.block(), buffer.stream()).unwrap();
    assert_eq!(attributes(&buffer).preferred_location, None);
}

fn hints_are_about_the_length_and_a_block_has_all(device: &Device) {
    let stream = Stream::new(device).unwrap();
    let empty = UnifiedBuffer::<u8, _>::with_capacity(BYTES, &stream, ManagedResource::new(device).unwrap()).unwrap();
    assert_eq!(empty.prefetch(device.id()).unwrap(), HintOutcome::Skipped(SkipReason::EmptyRange));
    let all = ManagedMemoryHints::new(empty.block(), &stream).read_mostly().prefetch(device.id()).apply().unwrap();
    assert!(all.outcomes().iter().all(|(_, outcome)| *outcome == HintOutcome::Applied));
    let attributes = hints::range_attributes(empty.block(), 0..BYTES, &stream).unwrap();
    assert_eq!((attributes.read_mostly, attributes.last_prefetch_location), (true, Some(device.id().into())));
}

fn hints_about_device_memory(device: &Device) {
    let stream = Stream::new(device).unwrap();
    let plain = CudaResource::new(device);
    let block = plain.allocate(&stream, layout::bytes(4096).unwrap()).unwrap();
    let applied = ManagedMemoryHints::new(&block, &stream).read_mostly().prefetch(device.id()).apply().unwrap();
    let skipped = HintOutcome::Skipped(SkipReason::DoesNotMigrate(MemoryType::Device));
    assert!(applied.outcomes().iter().all(|(_, outcome)| *outcome == skipped), "{applied:?}");
    common::free(&plain, &stream, block).unwrap();
}

fn residency_where_it_is_known(device: &Device) {
    let buffer = buffer(device);
    assert_eq!(buffer.prefetch_range(0..BYTES / 2, Location::Host).unwrap(), HintOutcome::Applied);
    buffer.stream().synchronize().unwrap();
    let residency = hints::residency(buffer.block(), 0..BYTES, buffer.stream()).unwrap();
    match (device.is_simulated(), residency) {
        (true, Some(residency)) => {
            assert_eq!(residency.on(Location::Host), BYTES as u64 / 2);
            assert_eq!(residency.on(device.id()), BYTES as u64 / 2, "the fill brought the pages there");
            let none = hints::residency(buffer.block(), 5..5, buffer.stream()).unwrap().unwrap();
            assert!(none.locations().is_empty());
        }
        (simulated, residency) => assert!(!simulated && residency.is_none(), "{residency:?}"),
    }
}

#[test]
fn a_policy_may_prefer_a_numa_node_of_the_host() {
    let device = common::simulated();
    let buffer = buffer(&device);
    let applied = apply(&MigrationPolicy::PreferHostNuma(0), &buffer).unwrap();
    assert_eq!(attributes(&buffer).preferred_location, Some(Location::HostNuma(0)));
    applied.undo(buffer.block(), buffer.stream()).unwrap();
    assert_eq!(attributes(&buffer).preferred_location, None);
    let error = apply(&MigrationPolicy::PreferHostNuma(99), &buffer).unwrap_err();
    assert_eq!(error.code(), Some(CudaErrorCode::INVALID_VALUE), "{error}");
}

#[test]
fn without_concurrent_access_each_hint_is_reported_as_skipped() {
    let device = Device::simulated(Profile::wsl()).unwrap();
    let buffer = buffer(&device);
    let before = device.simulator().unwrap().calls(FaultCall::Any);
    let applied = buffer.hints().policy(&MigrationPolicy::PreferHost).prefetch(device.id()).apply().unwrap();
    let skipped = HintOutcome::Skipped(SkipReason::NoConcurrentManagedAccess(device.id()));
    assert!(applied.outcomes().iter().all(|(_, outcome)| *outcome == skipped), "{applied:?}");
    applied.undo(buffer.block(), buffer.stream()).unwrap();
    assert_eq!(device.simulator().unwrap().calls(FaultCall::Any), before);
}
