//! The leaves: memory resources that allocate from the driver, or from the host's allocator.
//!
//! | resource | memory | allocated by | freeing |
//! |---|---|---|---|
//! | [`CudaResource`] | device | `cuMemAlloc` | waits for the device |
//! | [`CudaAsyncResource`] | device | `cuMemAllocFromPoolAsync` | is stream-ordered |
//! | [`CudaVirtualResource`] | device | `cuMemMap` | waits for the stream |
//! | [`ManagedResource`] | unified (managed) | `cuMemAllocManaged` | waits for the device |
//! | [`PinnedResource`] | pinned host | `cuMemAllocHost` | waits for the stream |
//! | [`HostResource`] | host | the global allocator | waits for the stream |

mod cuda;
mod cuda_async;
mod cuda_virtual;
mod gaps;
mod host;
mod leaf;
mod managed;
mod pinned;

pub use cuda::CudaResource;
pub use cuda_async::{CudaAsyncOptions, CudaAsyncResource, PoolSource};
pub use cuda_virtual::{Alias, AliasError, CudaVirtualResource, UnmapError};
pub use cumem_driver::DriverPoolUsage;
pub use host::HostResource;
pub use managed::ManagedResource;
pub use pinned::PinnedResource;
