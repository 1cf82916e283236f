//! Which resources may free which blocks: the table of `docs/identity.md`, row by row.

use crate::common::{free, sim};
use cumem::error::DeallocReason;
use cumem::resources::{CudaAsyncOptions, PoolSource};
use cumem::unified::MigrationPolicy;
use cumem::unified::accounting::Ledger;
use cumem::{
    AnyResource, Block, CudaAsyncResource, CudaResource, CudaVirtualResource, Device, HostResource, ManagedResource,
    MemoryResource, PinnedResource, Stream, layout,
};
use cumem_adaptors::{LogOptions, PoolOptions, PressureOptions, Reaction, ResourceExt, TrackingOptions};
use std::sync::Arc;

fn get(resource: &impl MemoryResource, stream: &Stream) -> Block {
    resource.allocate(stream, layout::bytes(1000).unwrap()).unwrap()
}

/// Asserts that `other` refuses a block of `own`, and that the block is live afterwards.
fn refuses(own: &impl MemoryResource, other: &impl MemoryResource, stream: &Stream) {
    let error = free(other, stream, get(own, stream)).unwrap_err();
    assert!(matches!(error.reason, DeallocReason::Foreign { .. }), "{}", error.report());
    free(own, stream, error.block).unwrap();
}

/// Asserts that `other` takes back a block of `own`.
fn accepts(own: &impl MemoryResource, other: &impl MemoryResource, stream: &Stream) {
    free(other, stream, get(own, stream)).unwrap();
}

#[test]
fn two_leaves_are_two_makers_although_the_driver_frees_both() {
    fn check<R: MemoryResource>(make: impl Fn(&Device) -> R) {
        let (device, stream) = sim();
        let (first, second) = (make(&device), make(&device));
        assert_ne!(get_and_free(&first, &stream), get_and_free(&second, &stream));
        assert_eq!(get_and_free(&first, &stream), get_and_free(&first, &stream), "one maker for all blocks of a leaf");
        refuses(&first, &second, &stream);
    }
    fn get_and_free(resource: &impl MemoryResource, stream: &Stream) -> cumem::resource::MakerId {
        let block = get(resource, stream);
        let maker = block.maker();
        free(resource, stream, block).unwrap();
        maker
    }
    check(CudaResource::new);
    check(|device| CudaVirtualResource::new(device).unwrap());
    check(|device| ManagedResource::new(device).unwrap());
    check(PinnedResource::new);
    check(HostResource::new);
    check(|device| CudaAsyncResource::new(device).unwrap());
}

/// The driver could free the block of either, and RMM does. Here the counts of a resource are those of its own blocks.
#[test]
fn two_resources_of_one_default_pool_are_two_makers() {
    let (device, stream) = sim();
    let options = CudaAsyncOptions::new(PoolSource::Default);
    let [first, second] = [(), ()].map(|()| CudaAsyncResource::with_options(&device, options).unwrap());
    refuses(&first, &second, &stream);
}

#[test]
fn pointers_and_erased_forms_are_the_resource_itself() {
    let (device, stream) = sim();
    let pool = Arc::new(CudaResource::new(&device).pool(PoolOptions::new()).unwrap());
    let erased = AnyResource::new(Arc::clone(&pool));
    let twin = erased.clone();
    accepts(&pool, &&*pool, &stream);
    accepts(&pool, &erased, &stream);
    accepts(&erased, &twin, &stream);
    accepts(&twin, &pool, &stream);
}

/// A block passes through these adaptors unchanged, so their upstream frees it too.
#[test]
fn an_adaptor_that_passes_blocks_on_has_the_identity_of_its_upstream() {
    let (device, stream) = sim();
    let leaf = ManagedResource::new(&device).unwrap();
    let ledger = Arc::new(Ledger::new(&device));
    accepts(&(&leaf).limit(1 << 20), &leaf, &stream);
    accepts(&(&leaf).statistics(), &leaf, &stream);
    accepts(&(&leaf).tracking(TrackingOptions::new()), &leaf, &stream);
    accepts(&(&leaf).logging(LogOptions::sink(std::io::sink())).unwrap(), &leaf, &stream);
    accepts(&(&leaf).events(), &leaf, &stream);
    accepts(&(&leaf).tagged(&ledger, "a tag"), &leaf, &stream);
    accepts(&(&leaf).pressure(PressureOptions::default()).unwrap(), &leaf, &stream);
    accepts(&(&leaf).on_failure(|_| Reaction::GiveUp), &leaf, &stream);
    accepts(&(&leaf).advise(MigrationPolicy::ReadMostly).unwrap(), &leaf, &stream);
    accepts(&(&leaf).scrub(), &leaf, &stream);
    accepts(&(&leaf).prefetch(device.id()).unwrap(), &leaf, &stream);
    accepts(&leaf, &(&leaf).tracking(TrackingOptions::new()), &stream);
}

/// A limit, statistics and a scrub keep account of their blocks, and refuse what did not pass through them.
#[test]
fn adaptors_that_keep_accounts_refuse_blocks_of_their_upstream() {
    let (device, stream) = sim();
    let leaf = CudaResource::new(&device);
    let limit = (&leaf).limit(1 << 20);
    let error = free(&limit, &stream, get(&leaf, &stream)).unwrap_err();
    assert!(matches!(error.reason, DeallocReason::NotOutstanding { outstanding: 0, returned: 1024, .. }));
    free(&leaf, &stream, error.block).unwrap();
    let error = free(&(&leaf).statistics(), &stream, get(&leaf, &stream)).unwrap_err();
    assert!(matches!(error.reason, DeallocReason::NotOutstanding { outstanding: 0, returned: 1000, .. }));
    free(&leaf, &stream, error.block).unwrap();
    let scrub = (&leaf).scrub();
    refuses(&leaf, &scrub, &stream);
}

/// Suballocators make blocks of their own. Only they know the memory behind them.
#[test]
fn suballocators_have_an_identity_of_their_own() {
    let (device, stream) = sim();
    let leaf = CudaResource::new(&device);
    let pools = [(), ()].map(|()| (&leaf).pool(PoolOptions::new()).unwrap());
    refuses(&pools[0], &pools[1], &stream);
    refuses(&pools[0], &leaf, &stream);
    refuses(&leaf, &pools[0], &stream);
    let fixed = [(), ()].map(|()| (&pools[0]).fixed_size(4096).unwrap());
    refuses(&fixed[0], &fixed[1], &stream);
    refuses(&fixed[0], &pools[0], &stream);
    let bins = (&pools[0]).binning([4096]).unwrap();
    refuses(&bins, &pools[0], &stream);
    refuses(&fixed[0], &bins, &stream);
    let aligned = (&pools[0]).aligned(4096).unwrap();
    refuses(&aligned, &pools[0], &stream);
    // Blocks that these adaptors pass on are their upstream's.
    accepts(&pools[0], &fixed[0], &stream);
    accepts(&pools[0], &bins, &stream);
    accepts(&(&pools[0]).aligned(256).unwrap(), &pools[0], &stream);
}

#[test]
fn a_reservation_and_its_limit_free_each_others_blocks() {
    let (device, stream) = sim();
    let limit = CudaResource::new(&device).limit(1 << 20);
    let reservation = limit.reserve(1 << 19).unwrap();
    accepts(&reservation, &limit, &stream);
    accepts(&limit, &reservation, &stream);
    assert_eq!(limit.state().allocated(), (1 << 19) - 1024, "a freed block returns to the limit");
}

#[test]
fn a_spill_frees_the_blocks_of_both_its_resources() {
    let (device, stream) = sim();
    let (first, second) = (CudaResource::new(&device).limit(1024), PinnedResource::new(&device));
    let spill = (&first).spill_to(&second).unwrap();
    let (own, spilled) = (get(&spill, &stream), get(&spill, &stream));
    assert_ne!(own.maker(), spilled.maker());
    free(&second, &stream, spilled).unwrap();
    free(&spill, &stream, own).unwrap();
}
