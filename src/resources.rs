//! The leaves: resources that ask the driver.
//!
//! | resource | memory | driver call | stream order |
//! |---|---|---|---|
//! | [`CudaResource`] | device | `cuMemAlloc` | the free waits for the device |
//! | [`CudaAsyncResource`] | device | `cuMemAllocFromPoolAsync` | by the driver |
//! | [`CudaVirtualResource`] | device | `cuMemMap` | the free waits for the stream |
//! | [`ManagedResource`] | unified | `cuMemAllocManaged` | the free waits for the device |
//! | [`PinnedResource`] | page-locked host | `cuMemAllocHost` | the free waits for the stream |
//! | [`HostResource`] | host | the global allocator | the free waits for the stream |

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
