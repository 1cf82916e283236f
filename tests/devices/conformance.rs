//! Every leaf passes what every resource must.

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
    // It zeroes what it gives, so a gigabyte is one of this machine's.
    Expectations::default().max_alignment(1 << 21).largest(64 << 20)
);
