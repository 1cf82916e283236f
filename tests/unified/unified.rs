//! Prefetch and the six kinds of advice, confirmed by the range attributes that the driver or the simulator reports.

use crate::common;
use cumem::device::MemoryType;
use cumem::error::CudaErrorCode;
use cumem::resource::MakerId;
use cumem::unified::{Advice, HintOutcome, RangeAttributes, SkipReason, hints};
use cumem::{
    AnyResource, Block, Buffer, CudaAsyncResource, CudaResource, CudaVirtualResource, Device, Location,
    ManagedResource, MemoryResource, PinnedResource, Stream, UnifiedBuffer, layout,
};
use cumem_adaptors::{PoolOptions, ResourceExt};
use std::ptr::NonNull;

on_devices!(
    prefetch_is_recorded_per_range,
    read_mostly_is_set_and_unset,
    preferred_location_may_be_the_host,
    accessed_by_adds_up,
    hints_on_blocks_of_a_pool,
    nothing_to_hint_is_said,
    what_the_driver_rejects_keeps_its_code,
    memory_that_does_not_migrate_is_skipped_by_its_type,
    a_buffer_of_erased_kind_is_prefetched_where_its_memory_migrates,
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
    let nobodys = Block::new(MakerId::unique(), NonNull::dangling(), layout::bytes(4096).unwrap(), 0);
    let error = hints::prefetch(&nobodys, 0..4096, device.id(), &stream).unwrap_err();
    assert_eq!(error.code(), Some(CudaErrorCode::INVALID_VALUE), "{error}");
    let error = hints::advise(&nobodys, 0..4096, Advice::SetReadMostly, &stream).unwrap_err();
    assert_eq!(error.code(), Some(CudaErrorCode::INVALID_VALUE), "{error}");

    let buffer = buffer(device);
    let nowhere = Location::Device(device.id().sibling(77));
    let error = buffer.advise(Advice::SetPreferredLocation(nowhere)).unwrap_err();
    assert_eq!(error.code(), Some(CudaErrorCode::INVALID_DEVICE), "{error}");
    assert_eq!(told(&buffer).preferred_location, None);
}

fn memory_that_does_not_migrate_is_skipped_by_its_type(device: &Device) {
    fn outcomes(resource: &impl MemoryResource, stream: &Stream) -> [HintOutcome; 4] {
        let block = resource.allocate(stream, layout::bytes(4096).unwrap()).unwrap();
        let here = stream.device_id();
        let outcomes = [
            hints::prefetch(&block, 0..4096, here, stream),
            hints::prefetch_if_needed(&block, 0..4096, Location::Host, stream),
            hints::advise(&block, 0..4096, Advice::SetReadMostly, stream),
            hints::Prefetcher::new(stream.device(), here).prefetch_if_needed(&block, stream),
        ];
        common::free(resource, stream, block).unwrap();
        outcomes.map(Result::unwrap)
    }
    let stream = Stream::new(device).unwrap();
    let skipped = |memory| [HintOutcome::Skipped(SkipReason::DoesNotMigrate(memory)); 4];
    assert_eq!(outcomes(&CudaResource::new(device), &stream), skipped(MemoryType::Device));
    assert_eq!(outcomes(&CudaAsyncResource::new(device).unwrap(), &stream), skipped(MemoryType::Device));
    assert_eq!(outcomes(&CudaVirtualResource::new(device).unwrap(), &stream), skipped(MemoryType::Device));
    assert_eq!(outcomes(&PinnedResource::new(device), &stream), skipped(MemoryType::Host));
}

/// A buffer over memory whose kind is known only at run time, as that of the default resource.
fn a_buffer_of_erased_kind_is_prefetched_where_its_memory_migrates(device: &Device) {
    let stream = Stream::new(device).unwrap();
    let buffer = |memory| Buffer::<u8, _>::zeroed(PAGES, &stream, memory).unwrap();
    let plain = buffer(AnyResource::erase_kind(CudaResource::new(device)));
    let managed = buffer(AnyResource::erase_kind(ManagedResource::new(device).unwrap()));
    let skipped = HintOutcome::Skipped(SkipReason::DoesNotMigrate(MemoryType::Device));
    for (buffer, expected) in [(&plain, skipped), (&managed, HintOutcome::Applied)] {
        assert_eq!(buffer.prefetch(device.id()).unwrap(), expected);
        assert_eq!(buffer.advise(Advice::SetReadMostly).unwrap(), expected);
        let applied = buffer.hints().read_mostly().prefetch(device.id()).apply().unwrap();
        assert!(applied.outcomes().iter().all(|(_, outcome)| *outcome == expected), "{applied:?}");
        applied.undo(buffer.block(), &stream).unwrap();
    }
    assert_eq!(managed.range_attributes().unwrap().last_prefetch_location, Some(device.id().into()));
    assert!(plain.to_vec().unwrap().iter().all(|byte| *byte == 0));
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
