//! Advice about each block, which ends with the block.

use crate::common::{free, sim, sim_with};
use cumem::error::CudaErrorCode;
use cumem::sim::{FaultCall, Profile};
use cumem::unified::{MigrationPolicy, hints};
use cumem::{
    AllocError, Block, Device, DeviceError, DeviceId, Location, ManagedResource, MemoryResource, Stream, layout,
};
use cumem_adaptors::{PoolOptions, ResourceExt};

const MIB: usize = 1 << 20;

fn is_read_mostly(block: &Block, stream: &Stream) -> bool {
    hints::range_attributes(block, 0..block.size(), stream).unwrap().read_mostly
}

#[test]
fn a_block_is_advised_until_it_is_freed() {
    let (device, stream) = sim();
    let pool = ManagedResource::new(&device).unwrap().pool(PoolOptions::new()).unwrap();
    let policy = MigrationPolicy::ReadMostly.and(MigrationPolicy::PreferDevice(device.id()));
    let stack = (&pool).advise(policy).unwrap();
    let block = stack.allocate(&stream, layout::bytes(4 * MIB).unwrap()).unwrap();
    let attributes = hints::range_attributes(&block, 0..4 * MIB, &stream).unwrap();
    assert!(attributes.read_mostly);
    assert_eq!(attributes.preferred_location, Some(Location::Device(device.id())));
    free(&stack, &stream, block).unwrap();
    let next = pool.allocate(&stream, layout::bytes(4 * MIB).unwrap()).unwrap();
    let attributes = hints::range_attributes(&next, 0..4 * MIB, &stream).unwrap();
    assert_eq!((attributes.read_mostly, attributes.preferred_location), (false, None));
    assert_eq!((stack.state().blocks(), stack.state().kept()), (1, 0));
    free(&pool, &stream, next).unwrap();
}

#[test]
fn advice_of_a_layer_beneath_holds_again_after_the_free() {
    let (device, stream) = sim();
    let beneath = ManagedResource::new(&device).unwrap().advise(MigrationPolicy::ReadMostly).unwrap();
    let pool = beneath.pool(PoolOptions::new()).unwrap();
    let stack = (&pool).advise(MigrationPolicy::ReadMostly.and(MigrationPolicy::PreferHost)).unwrap();
    let block = stack.allocate(&stream, layout::bytes(4 * MIB).unwrap()).unwrap();
    free(&stack, &stream, block).unwrap();
    let next = pool.allocate(&stream, layout::bytes(4 * MIB).unwrap()).unwrap();
    let attributes = hints::range_attributes(&next, 0..4 * MIB, &stream).unwrap();
    assert_eq!((attributes.read_mostly, attributes.preferred_location), (true, None));
    free(&pool, &stream, next).unwrap();
}

#[test]
fn small_blocks_and_empty_blocks_pass_through() {
    let (device, stream) = sim();
    let stack = ManagedResource::new(&device).unwrap().advise(MigrationPolicy::ReadMostly).unwrap().threshold(MIB);
    for (size, advised) in [(0, false), (MIB - 1, false), (MIB, true)] {
        let block = stack.allocate(&stream, layout::bytes(size).unwrap()).unwrap();
        assert!(size == 0 || is_read_mostly(&block, &stream) == advised, "{size} bytes");
        free(&stack, &stream, block).unwrap();
    }
    assert_eq!((stack.state().blocks(), stack.state().bytes(), stack.state().skipped()), (1, MIB as u64, 0));
}

#[test]
fn a_refused_advice_returns_the_block() {
    let (device, stream) = sim();
    let stack = ManagedResource::new(&device).unwrap().limit(MIB).advise(MigrationPolicy::ReadMostly).unwrap();
    device.simulator().unwrap().fail_nth(FaultCall::Advise, 1, CudaErrorCode::UNKNOWN);
    let error = stack.allocate(&stream, layout::bytes(MIB).unwrap()).unwrap_err();
    assert!(matches!(error, AllocError::NotPrepared { layer: "advise", requested: MIB, .. }), "{error}");
    assert_eq!((stack.state().blocks(), stack.upstream().state().allocated()), (0, 0));
    assert!(device.simulator().unwrap().live_allocations().no_memory());
}

#[test]
fn a_block_is_freed_although_its_advice_stays() {
    let (device, stream) = sim();
    let stack = ManagedResource::new(&device).unwrap().advise(MigrationPolicy::ReadMostly).unwrap();
    let block = stack.allocate(&stream, layout::bytes(MIB).unwrap()).unwrap();
    device.simulator().unwrap().fail_nth(FaultCall::Advise, 1, CudaErrorCode::UNKNOWN);
    free(&stack, &stream, block).unwrap();
    assert_eq!(stack.state().kept(), 1);
    assert!(device.simulator().unwrap().live_allocations().no_memory());
}

#[test]
fn a_block_that_is_not_freed_keeps_its_advice() {
    let (device, stream) = sim();
    let stack = ManagedResource::new(&device).unwrap().advise(MigrationPolicy::ReadMostly).unwrap();
    let block = stack.allocate(&stream, layout::bytes(MIB).unwrap()).unwrap();
    device.simulator().unwrap().fail_nth(FaultCall::Free, 1, CudaErrorCode::UNKNOWN);
    let error = free(&stack, &stream, block).unwrap_err();
    assert!(is_read_mostly(&error.block, &stream));
    free(&stack, &stream, error.block).unwrap();
}

#[test]
fn devices_without_migration_and_unknown_devices_are_refused() {
    let (old, stream) = sim_with(Profile::maxwell());
    let managed = || ManagedResource::new(&old).unwrap();
    assert!(matches!(managed().advise(MigrationPolicy::ReadMostly), Err(DeviceError::Driver(_))));
    let stack = cumem_adaptors::Advise::or_pass_through(managed(), MigrationPolicy::ReadMostly).unwrap();
    let block = stack.allocate(&stream, layout::bytes(1000).unwrap()).unwrap();
    assert_eq!((stack.state().blocks(), stack.state().skipped(), stack.state().passes_through()), (0, 1, true));
    free(&stack, &stream, block).unwrap();

    let (device, _) = sim();
    let elsewhere = Device::simulated(Profile::default()).unwrap();
    for (location, wrong) in [(device.id().sibling(7), false), (elsewhere.id(), true), (DeviceId::cuda(0), true)] {
        let advise = ManagedResource::new(&device).unwrap().advise(MigrationPolicy::PreferDevice(location));
        let is_wrong = matches!(advise, Err(DeviceError::WrongDevice { .. }));
        assert!(advise.is_err() && is_wrong == wrong, "{location}");
    }
}
