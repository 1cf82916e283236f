//! Every adaptor, and whole stacks, pass the conformance suite.

use cumem::unified::accounting::Ledger;
use cumem::unified::{AutoPrefetchOptions, MigrationPolicy};
use cumem::{AnyUpstream, CudaResource, CudaVirtualResource, LayerExt, ManagedResource, PinnedResource};
use cumem_adaptors::{
    Limiter, LogOptions, OnFailure, Pool, PoolOptions, Prefetch, Pressure, PressureOptions, Reaction, ResourceExt,
    ScrubTime, Spill, Statistics, TrackingOptions,
};
use cumem_conformance::{Expectations, adaptor_conformance, conformance};
use std::sync::Arc;

adaptor_conformance!(statistics, |upstream| Statistics::new(upstream));
adaptor_conformance!(limiter, |upstream| Limiter::new(upstream, 1 << 40));
adaptor_conformance!(logging, |upstream| upstream.logging(LogOptions::sink(std::io::sink()))?);
adaptor_conformance!(tracking, |upstream| upstream.tracking(TrackingOptions::new().traces_from(1 << 20)));
adaptor_conformance!(events, |upstream| upstream.events());
adaptor_conformance!(graph_pools, |upstream| upstream.graph_pools());
adaptor_conformance!(on_failure, |upstream| upstream.on_failure(|_| Reaction::GiveUp));
adaptor_conformance!(on_failure_that_trims, |upstream| OnFailure::trimming(Pool::new(
    upstream,
    PoolOptions::default()
)?));
adaptor_conformance!(pool, |upstream| Pool::new(upstream, PoolOptions::default())?);

adaptor_conformance!(pool_of_small_blocks, |upstream| Pool::new(upstream, PoolOptions::default().up_to(4096))?);
conformance!(slabs_in_a_pool, |device| ManagedResource::new(device)?
    .pool(PoolOptions::default())?
    .pool(PoolOptions::default().up_to(64 << 10))?);

adaptor_conformance!(prefetch_over_faults, |upstream| {
    let device = upstream.device().id();
    Prefetch::new(upstream, device)?
});

adaptor_conformance!(auto_prefetch, |upstream| upstream.auto_prefetch(AutoPrefetchOptions::default())?);
conformance!(prefetch, |device| Prefetch::new(ManagedResource::new(device)?, device.id())?);
adaptor_conformance!(pool_with_an_initial_size, |upstream| Pool::new(
    upstream,
    PoolOptions::default().initial(1 << 20)
)?);

conformance!(
    pool_over_device,
    |device| CudaResource::new(device).pool(PoolOptions::default())?,
    Expectations::default().max_alignment(1 << 21)
);
conformance!(
    pool_over_virtual,
    |device| CudaVirtualResource::new(device)?.pool(PoolOptions::default())?,
    Expectations::default().max_alignment(1 << 21)
);
conformance!(
    pool_that_stitches,
    |device| CudaVirtualResource::new(device)?.pool(PoolOptions::default().step(2 << 20).slack(0))?,
    Expectations::default().max_alignment(1 << 21)
);
conformance!(pool_over_pinned, |device| PinnedResource::new(device).pool(PoolOptions::default())?);
conformance!(pool_with_a_maximum, |device| CudaResource::new(device)
    .pool(PoolOptions::default().initial(1 << 20).maximum(1 << 30))?);
conformance!(full_stack, |device| ManagedResource::new(device)?
    .pool(PoolOptions::default())?
    .limit(2 << 30)
    .statistics()
    .prefetch(device.id())?);
conformance!(erased_stack, |device| AnyUpstream::new(
    AnyUpstream::new(CudaResource::new(device)).pool(PoolOptions::default())?
)
.statistics());

adaptor_conformance!(pressure, |upstream| Pressure::new(upstream, PressureOptions::default())?);
adaptor_conformance!(pressure_that_trims, |upstream| {
    let pool = Pool::new(upstream, PoolOptions::default())?;
    Pressure::new(pool, PressureOptions::default().ask_after(0))?
});
conformance!(spill, |device| CudaResource::new(device)
    .pool(PoolOptions::default())?
    .limit(1 << 20)
    .spill_to(ManagedResource::new(device)?.pool(PoolOptions::default())?)?);
conformance!(always_spilled, |device| Spill::new(
    PinnedResource::new(device).limit(0),
    ManagedResource::new(device)?.limit(1 << 40).statistics()
)?);
conformance!(
    fixed_size,
    |device| CudaResource::new(device).fixed_size(32 << 20)?,
    Expectations::default().largest(32 << 20)
);
adaptor_conformance!(binning, |upstream| upstream.binning([4096, 64 << 10, 1 << 20])?);
adaptor_conformance!(binning_that_keeps_little, |upstream| upstream.binning([256, 4096])?.keep(1));
adaptor_conformance!(binning_over_a_pool, |upstream| upstream
    .pool(PoolOptions::default())?
    .binning([4096, 1 << 20])?);
conformance!(
    aligned,
    |device| CudaResource::new(device).aligned(4096)?.threshold(1000),
    Expectations::default().max_alignment(1 << 21)
);
adaptor_conformance!(aligned_over_faults, |upstream| upstream.aligned(1 << 16)?);
conformance!(aligned_over_a_pool, |device| ManagedResource::new(device)?
    .pool(PoolOptions::default())?
    .aligned(4096)?);
adaptor_conformance!(advise, |upstream| {
    let device = upstream.device().id();
    upstream.advise(MigrationPolicy::ReadMostly.and(MigrationPolicy::PreferDevice(device)))?
});
conformance!(advise_under_a_pool, |device| ManagedResource::new(device)?
    .advise(MigrationPolicy::ReadMostly)?
    .pool(PoolOptions::default())?);
// Below a limit, because the suite allocates all memory, and a fill makes a simulated device hold its bytes.
adaptor_conformance!(scrub, |upstream| upstream.limit(256 << 20).scrub(), Expectations::default().largest(128 << 20));
adaptor_conformance!(
    scrub_at_both_times,
    |upstream| upstream.limit(256 << 20).scrub().pattern(0xa5).at(ScrubTime::Both),
    Expectations::default().largest(128 << 20)
);
adaptor_conformance!(limiter_with_a_rounding, |upstream| upstream.limit_rounded(1 << 40, 2 << 20)?);
adaptor_conformance!(tagged, |upstream| {
    let ledger = Arc::new(Ledger::new(upstream.device()));
    ledger.write_down(1000);
    upstream.tagged(&ledger, "under test")
});
