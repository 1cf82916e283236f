//! The leaves: memory resources that allocate from the driver, or from the host's allocator.
//!
//! [`ForeignMemory`] makes a buffer of memory that another library has allocated, and [`Registered`] pins memory of the
//! program.
//!
//! | resource | memory | allocated by | freeing |
//! |---|---|---|---|
//! | [`CudaResource`] | device | `cuMemAlloc` | waits for the device |
//! | [`CudaAsyncResource`] | device | `cuMemAllocFromPoolAsync` | is stream-ordered |
//! | [`CudaVirtualResource`] | device | `cuMemMap` | waits for the stream |
//! | [`ManagedResource`] | unified (managed) | `cuMemAllocManaged` | waits for the device |
//! | [`PinnedResource`] | pinned host | `cuMemAllocHost` | waits for the stream |
//! | [`ManagedAsyncResource`] | unified (managed) | `cuMemAllocFromPoolAsync` (CUDA 13) | is stream-ordered |
//! | [`PinnedAsyncResource`] | pinned host | `cuMemAllocFromPoolAsync` | is stream-ordered |
//! | [`SystemResource`] | unified, of the system | `calloc`, on devices with pageable access | waits for the stream |
//! | [`CallbackResource`] | any | two closures | is the closure's |
//! | [`HostResource`] | host | the global allocator | waits for the stream |

mod async_options;
mod async_pool;
mod callback;
mod cuda;
mod cuda_async;
mod cuda_virtual;
mod foreign;
mod gaps;
mod host;
mod leaf;
mod managed;
mod managed_async;
mod pinned;
mod pinned_async;
mod pinned_options;
mod registered;
mod system;

pub use async_options::{CudaAsyncOptions, PoolSource};
pub use callback::CallbackResource;
pub use cuda::CudaResource;
pub use cuda_async::CudaAsyncResource;
pub use cuda_virtual::{Alias, AliasError, CudaVirtualResource, UnmapError};
pub use cumem_driver::{DriverPoolUsage, HugePages, PoolHandle, PoolReuse, RawPool};
pub use foreign::{ForeignError, ForeignMemory};
pub use host::HostResource;
pub use managed::ManagedResource;
pub use managed_async::ManagedAsyncResource;
pub use pinned::PinnedResource;
pub use pinned_async::PinnedAsyncResource;
pub use pinned_options::PinnedOptions;
pub use registered::Registered;
pub use system::SystemResource;
