//! Adaptors are removed again: the upstream comes back, and no block is lost.

use crate::common::{free, sim};
use cumem::error::CudaErrorCode;
use cumem::sim::FaultCall;
use cumem::unified::accounting::Ledger;
use cumem::unified::{AutoPrefetchOptions, MigrationPolicy};
use cumem::{CudaResource, ManagedResource, MemoryResource, PinnedResource, layout};
use cumem_adaptors::{LogOptions, PoolOptions, PressureOptions, Reaction, ResourceExt, TrackingOptions};
use std::sync::Arc;

const MIB: usize = 1 << 20;

#[test]
fn blocks_outlive_an_adaptor_that_passes_them_on() {
    let (device, stream) = sim();
    let ledger = Arc::new(Ledger::new(&device));
    let managed = ManagedResource::new(&device).unwrap().limit(8 * MIB).statistics().tagged(&ledger, "weights");
    let stack = managed
        .tracking(TrackingOptions::new())
        .events()
        .on_failure(|_| Reaction::GiveUp)
        .pressure(PressureOptions::default())
        .unwrap()
        .logging(LogOptions::sink(std::io::sink()))
        .unwrap();
    let stack = stack.scrub().advise(MigrationPolicy::ReadMostly).unwrap();
    let stack = stack.auto_prefetch(AutoPrefetchOptions::default()).unwrap().prefetch(device.id()).unwrap();
    let block = stack.allocate(&stream, layout::bytes(MIB).unwrap()).unwrap();
    assert_eq!(ledger.report().rows[0].bytes, MIB as u64);
    let logging = stack.into_upstream().into_upstream().into_upstream().into_upstream();
    let tagged = logging.into_upstream().into_upstream().into_upstream();
    let tagged = tagged.into_upstream().into_upstream();
    let limited = tagged.into_upstream().into_upstream();
    assert_eq!(limited.state().allocated(), MIB);
    free(&limited.into_upstream(), &stream, block).unwrap();
    assert!(device.simulator().unwrap().live_allocations().no_memory());
}

#[test]
fn a_pool_is_removed_once_its_memory_is_free() {
    let (device, stream) = sim();
    let pool = CudaResource::new(&device).pool(PoolOptions::new().step(2 * MIB)).unwrap();
    let block = pool.allocate(&stream, layout::bytes(MIB).unwrap()).unwrap();
    let pool = pool.into_upstream().unwrap_err();
    assert_eq!(pool.stats().blocks, 1);
    free(&pool, &stream, block).unwrap();
    let simulator = device.simulator().unwrap();
    simulator.fail_nth(FaultCall::Free, 1, CudaErrorCode::UNKNOWN);
    let pool = pool.into_upstream().unwrap_err();
    assert_eq!(pool.stats().reserved, 2 * MIB);
    let block = pool.allocate(&stream, layout::bytes(MIB).unwrap()).unwrap();
    free(&pool, &stream, block).unwrap();
    let leaf = pool.into_upstream().unwrap();
    assert!(simulator.live_allocations().no_memory());
    let block = leaf.allocate(&stream, layout::bytes(MIB).unwrap()).unwrap();
    free(&leaf, &stream, block).unwrap();
    let destroyed = simulator.calls(FaultCall::Destroy);
    drop(stream);
    assert_eq!(simulator.calls(FaultCall::Destroy), destroyed + 1, "the pool's state was dropped too");
}

#[test]
fn a_spill_is_removed_while_nothing_is_spilled() {
    let (device, stream) = sim();
    let stack = CudaResource::new(&device).limit(MIB).spill_to(PinnedResource::new(&device)).unwrap();
    let one = || stack.allocate(&stream, layout::bytes(MIB).unwrap()).unwrap();
    let (first, spilled) = (one(), one());
    let stack = stack.into_upstreams().unwrap_err();
    free(&stack, &stream, spilled).unwrap();
    let (limited, _pinned) = stack.into_upstreams().unwrap();
    free(&limited, &stream, first).unwrap();
    assert_eq!(limited.state().allocated(), 0);
}
