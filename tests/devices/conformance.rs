//! Every leaf passes the conformance suite.

use cumem::resources::{
    CudaAsyncOptions, HugePages, ManagedAsyncResource, PinnedAsyncResource, PinnedOptions, PoolReuse, PoolSource,
};
use cumem::sim::Profile;
use cumem::{
    CudaAsyncResource, CudaResource, CudaVirtualResource, HostResource, ManagedResource, PinnedResource, SystemResource,
};
use cumem_conformance::{Expectations, Place, Suite, by_kind, conformance};

conformance!(cuda, |device| CudaResource::new(device));
conformance!(cuda_async, |device| CudaAsyncResource::new(device)?);
conformance!(cuda_virtual, |device| CudaVirtualResource::new(device)?, Expectations::default().max_alignment(2 << 20));
conformance!(cuda_async_primed, |device| {
    let options = CudaAsyncOptions::default().initial_size(256 << 20).reuse(PoolReuse::InternalDependencies, false);
    CudaAsyncResource::with_options(device, options)?
});
conformance!(
    cuda_async_of_the_device,
    |device| CudaAsyncResource::with_options(device, CudaAsyncOptions::new(PoolSource::Current))?,
    Expectations::default().keeps_memory()
);
conformance!(managed_async, |device| ManagedAsyncResource::new(device)?, Expectations::default().largest(256 << 20));
conformance!(pinned_async, |device| PinnedAsyncResource::new(device)?);
conformance!(pinned_pages, |device| {
    let options = PinnedOptions::new().numa_node(0).huge_pages(HugePages::Transparent);
    PinnedResource::with_options(device, options)?
});
conformance!(managed, |device| ManagedResource::new(device)?);
conformance!(pinned, |device| PinnedResource::new(device));
conformance!(
    host,
    |device| HostResource::new(device),
    // `HostResource` zeroes its blocks, so a block of 1 GiB would use 1 GiB of this machine's memory.
    Expectations::default().max_alignment(1 << 21).largest(64 << 20)
);

/// Only a device that accesses pageable memory has this leaf.
#[test]
fn system() {
    let place = Place::Simulated(Box::new(Profile::gh200()));
    let make = by_kind::factory(|device| Ok(SystemResource::new(device)?));
    let expectations = Expectations::default().largest(64 << 20);
    Suite::new(make).through_host().expecting(expectations).run(&place).assert();
}

#[test]
fn system_with_headroom() {
    let place = Place::Simulated(Box::new(Profile::gh200()));
    let make = by_kind::factory(|device| Ok(SystemResource::with_headroom(device, 64 << 20)?));
    let expectations = Expectations::default().largest(64 << 20);
    Suite::new(make).through_host().expecting(expectations).run(&place).assert();
}
