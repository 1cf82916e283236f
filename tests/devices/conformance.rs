//! Every leaf passes the conformance suite.

use cumem::{CudaAsyncResource, CudaResource, CudaVirtualResource, HostResource, ManagedResource, PinnedResource};
use cumem_conformance::{Expectations, conformance};

conformance!(cuda, |device| CudaResource::new(device));
conformance!(cuda_async, |device| CudaAsyncResource::new(device)?);
conformance!(cuda_virtual, |device| CudaVirtualResource::new(device)?, Expectations::default().max_alignment(2 << 20));
conformance!(managed, |device| ManagedResource::new(device)?);
conformance!(pinned, |device| PinnedResource::new(device));
conformance!(
    host,
    |device| HostResource::new(device),
    // `HostResource` zeroes its blocks, so a block of 1 GiB would use 1 GiB of this machine's memory.
    Expectations::default().max_alignment(1 << 21).largest(64 << 20)
);
