//! Composable memory resources for CUDA, with unified (managed) memory and a simulated device.
//!
//! A [`MemoryResource`] allocates [`Block`]s of memory in stream order. A leaf, such as [`CudaResource`], allocates
//! from the driver. An adaptor (crate `cumem-adaptors`) allocates from its [`Upstream`]. A [`Buffer`] is an owned,
//! typed array that any of them allocated.
//!
//! | topic | where |
//! |---|---|
//! | devices, streams, events, facts about a device | [`device`]: [`Device`], [`Stream`], [`Event`] |
//! | kinds of memory and their abilities, as types | [`kind`] |
//! | the contract of memory resources, and its terms | [`resource`]: [`MemoryResource`], [`Upstream`], [`Block`] |
//! | the leaves | [`resources`]: [`CudaResource`], [`CudaAsyncResource`], [`CudaVirtualResource`], [`ManagedResource`], [`PinnedResource`], [`HostResource`], [`SystemResource`], [`CallbackResource`] and others |
//! | memory of other libraries, registered host memory | [`ForeignMemory`](resources::ForeignMemory), [`Registered`](resources::Registered) |
//! | arrays, elements, views, copies, host access | [`buffer`]: [`Buffer`], [`UnifiedBuffer`], [`Scalar`] |
//! | unified memory: prefetch, advice, residency | [`unified`], [`unified::hints`] |
//! | migration accounting, and advice that follows from it | [`unified::accounting`] |
//! | prefetch that follows from how a buffer is used | [`Buffer::auto_prefetch`], [`Buffer::device_use`] |
//! | one buffer for devices that migrate well and for devices that do not | [`portable`] |
//! | the layers of a stack: their state, and trimming them | [`layer`]: [`Layer`], [`LayerExt`] |
//! | stacks without their type | [`AnyResource`], [`AnyUpstream`] |
//! | the default resource of each device | [`current`] |
//! | sizes and alignments | [`layout`] |
//! | kernels | [`kernel`] |
//! | errors | [`error`]: [`AllocError`], [`DeallocError`], [`DeviceError`], [`DriverError`] |
//! | simulated devices, and tests on them | [`sim`] |
//!
//! ```
//! use cumem::sim::Profile;
//! use cumem::{Buffer, CudaResource, Device, Stream};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let device = Device::simulated(Profile::default())?; // `Device::open(0)?` opens a GPU
//! let stream = Stream::new(&device)?;
//! let squares = Buffer::from_slice(&[1_u32, 4, 9], &stream, CudaResource::new(&device))?;
//! assert_eq!(squares.to_vec()?, [1, 4, 9]);
//! # Ok(())
//! # }
//! ```
//!
//! The feature `cuda` adds the NVIDIA driver, which is loaded at run time. Without the feature, all devices are
//! simulated. The feature `allocator-api2` adds `HostAllocator`, with which a `Vec` is in pinned or managed memory.
#![cfg_attr(docsrs, feature(doc_cfg))]

mod adaptor_macro;
mod any;
mod block;
pub mod buffer;
pub mod current;
#[cfg(feature = "cuda")]
mod cust_bridge;
mod custom_error;
pub mod device;
pub mod error;
#[cfg(feature = "allocator-api2")]
mod host_allocator;
mod human_bytes;
pub mod kernel;
pub mod kind;
pub mod layer;
pub mod layout;
pub mod portable;
mod report;
pub mod resource;
pub mod resources;
pub mod sim;
mod sync_ext;
#[doc(hidden)]
pub mod testing;
mod transfer;
pub mod unified;
mod unreported;
mod usage;

#[cfg(feature = "allocator-api2")]
pub use allocator_api2;
pub use any::{AnyResource, AnyUpstream};
pub use block::Block;
pub use buffer::{Buffer, Scalar, UnifiedBuffer};
pub use bytemuck;
pub use cumem_driver::{DeviceId, Location};
#[cfg(feature = "cuda")]
pub use cust;
pub use device::Device;
pub use device::event::Event;
pub use device::stream::Stream;
pub use device::stream_pool::StreamPool;
pub use error::{AllocError, DeallocError, DeviceError, DriverError};
#[cfg(feature = "allocator-api2")]
pub use host_allocator::HostAllocator;
pub use kind::MemoryKind;
pub use layer::{Layer, LayerExt};
pub use resource::{MemoryResource, Upstream};
pub use resources::{
    CallbackResource, CudaAsyncResource, CudaResource, CudaVirtualResource, HostResource, ManagedResource,
    PinnedResource, SystemResource,
};
pub use sync_ext::SyncExt;

/// Compiles and runs the code of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

/// Compiles and runs the code of the guide.
#[cfg(doctest)]
#[doc = include_str!("../docs/managed-memory.md")]
struct ManagedMemory;
