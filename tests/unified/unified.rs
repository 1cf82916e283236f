//! Prefetch and the six kinds of advice, confirmed by the range attributes that the driver or the simulator reports.

use crate::common;
use cumem::error::CudaErrorCode;
use cumem::unified::{Advice, HintOutcome, RangeAttributes, SkipReason, hints};
use cumem::{CudaResource, Device, Location, ManagedResource, MemoryResource, Stream, UnifiedBuffer, layout};
use cumem_adaptors::{PoolOptions, ResourceExt};

on_devices!(
    prefetch_is_recorded_per_range,
    read_mostly_is_set_and_unset,
    preferred_location_may_be_the_host,
    accessed_by_adds_up,
    hints_on_blocks_of_a_pool,
    nothing_to_hint_is_said,
    what_the_driver_rejects_keeps_its_code,
    contents_survive_migration,
);

const PAGES: usize = 4 << 20;

fn buffer(device: &Device) -> UnifiedBuffer<u8, ManagedResource> {
    let stream = Stream::new(device).unwrap();
    UnifiedBuffer::zeroed(PAGES, &stream, ManagedResource::new(device).unwrap()).unwrap()
}

fn told(buffer: &UnifiedBuffer<u8, ManagedResource>) -> RangeAttributes {
    buffer.range_attributes().unwrap()
}

fn prefetch_is_recorded_per_range(device: &Device) {
    let buffer = buffer(device);
    let here = Location::Device(device.id());
    assert_eq!(told(&buffer).last_prefetch_location, None, "nothing was prefetched yet");
    assert_eq!(buffer.prefetch(here).unwrap(), HintOutcome::Applied);
    assert_eq!(told(&buffer).last_prefetch_location, Some(here));

    assert_eq!(buffer.prefetch_range(0..PAGES / 2, Location::Host).unwrap(), HintOutcome::Applied);
    assert_eq!(told(&buffer).last_prefetch_location, None, "the halves differ");
    let half = hints::range_attributes(buffer.block(), 0..PAGES / 2, buffer.stream()).unwrap();
    assert_eq!(half.last_prefetch_location, Some(Location::Host));
    let half = hints::range_attributes(buffer.block(), PAGES / 2..PAGES, buffer.stream()).unwrap();
    assert_eq!(half.last_prefetch_location, Some(here));
}

fn read_mostly_is_set_and_unset(device: &Device) {
    let buffer = buffer(device);
    assert!(!told(&buffer).read_mostly);
    assert_eq!(buffer.advise(Advice::SetReadMostly).unwrap(), HintOutcome::Applied);
    assert!(told(&buffer).read_mostly);
    assert_eq!(buffer.advise_range(0..4096, Advice::UnsetReadMostly).unwrap(), HintOutcome::Applied);
    assert!(!told(&buffer).read_mostly, "it is only true if it is true of every page");
}

fn preferred_location_may_be_the_host(device: &Device) {
    let buffer = buffer(device);
    for location in [Location::Host, Location::Device(device.id())] {
        assert_eq!(buffer.advise(Advice::SetPreferredLocation(location)).unwrap(), HintOutcome::Applied);
        assert_eq!(told(&buffer).preferred_location, Some(location));
    }
    assert_eq!(buffer.advise(Advice::UnsetPreferredLocation).unwrap(), HintOutcome::Applied);
    assert_eq!(told(&buffer).preferred_location, None);
}

fn accessed_by_adds_up(device: &Device) {
    let buffer = buffer(device);
    let here = Location::Device(device.id());
    assert_eq!(buffer.advise(Advice::SetAccessedBy(Location::Host)).unwrap(), HintOutcome::Applied);
    assert_eq!(buffer.advise(Advice::SetAccessedBy(here)).unwrap(), HintOutcome::Applied);
    let mut both = told(&buffer).accessed_by.to_vec();
    both.sort();
    assert_eq!(both, [here, Location::Host]);
    assert_eq!(buffer.advise(Advice::UnsetAccessedBy(Location::Host)).unwrap(), HintOutcome::Applied);
    assert_eq!(told(&buffer).accessed_by[..], [here]);
}

fn hints_on_blocks_of_a_pool(device: &Device) {
    let stream = Stream::new(device).unwrap();
    let stack = ManagedResource::new(device).unwrap().pool(PoolOptions::default()).unwrap();
    let _before = UnifiedBuffer::<u8, _>::zeroed(PAGES, &stream, &stack).unwrap();
    let buffer = UnifiedBuffer::<u8, _>::zeroed(PAGES, &stream, &stack).unwrap();
    assert_eq!(buffer.prefetch(device.id()).unwrap(), HintOutcome::Applied);
    assert_eq!(buffer.range_attributes().unwrap().last_prefetch_location, Some(Location::Device(device.id())));
}

fn nothing_to_hint_is_said(device: &Device) {
    let buffer = buffer(device);
    let empty = HintOutcome::Skipped(SkipReason::EmptyRange);
    assert_eq!(buffer.prefetch_range(7..7, device.id()).unwrap(), empty);
    assert_eq!(buffer.advise_range(0..0, Advice::SetReadMostly).unwrap(), empty);
    assert!(!told(&buffer).read_mostly);
}

fn what_the_driver_rejects_keeps_its_code(device: &Device) {
    let stream = Stream::new(device).unwrap();
    let plain = CudaResource::new(device);
    let block = plain.allocate(&stream, layout::bytes(4096).unwrap()).unwrap();
    let error = hints::prefetch(&block, 0..4096, device.id(), &stream).unwrap_err();
    assert_eq!(error.code(), Some(CudaErrorCode::INVALID_VALUE), "{error}");
    let error = hints::advise(&block, 0..4096, Advice::SetReadMostly, &stream).unwrap_err();
    assert_eq!(error.code(), Some(CudaErrorCode::INVALID_VALUE), "{error}");
    common::free(&plain, &stream, block).unwrap();

    let buffer = buffer(device);
    let nowhere = Location::Device(device.id().sibling(77));
    let error = buffer.advise(Advice::SetPreferredLocation(nowhere)).unwrap_err();
    assert_eq!(error.code(), Some(CudaErrorCode::INVALID_DEVICE), "{error}");
    assert_eq!(told(&buffer).preferred_location, None);
}

fn contents_survive_migration(device: &Device) {
    let mut buffer = buffer(device);
    for (i, byte) in buffer.host_write().unwrap().iter_mut().enumerate() {
        *byte = (i * 31 % 251) as u8;
    }
    let expected = buffer.to_vec().unwrap();
    for location in [Location::Device(device.id()), Location::Host, Location::Device(device.id())] {
        assert_eq!(buffer.prefetch(location).unwrap(), HintOutcome::Applied);
    }
    assert_eq!(buffer.host_read().unwrap()[..], expected[..]);
}
