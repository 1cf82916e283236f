//! Composable memory resources for CUDA, with unified memory and a simulated device.
//!
//! A [`MemoryResource`] hands out [`Block`]s of memory in stream order. [Leaves](CudaResource) ask the driver; adaptors
//! (in `cumem-adaptors`) stand on an [`Upstream`]; a [`Buffer`] is an owned, typed array of any of them.
//!
//! | for | look at |
//! |---|---|
//! | a device and its streams | [`Device`], [`Stream`], [`Event`] |
//! | what memory is and can do, as types | [`kind`] |
//! | the contract of resources, and its terms | [`resource`] |
//! | leaves | [`CudaResource`], [`CudaAsyncResource`], [`CudaVirtualResource`], [`ManagedResource`], [`PinnedResource`], [`HostResource`] |
//! | what moved and why, and advice that follows | [`accounting`] |
//! | arrays, host access, prefetch, advice | [`Buffer`], [`UnifiedBuffer`], [`hints`] |
//! | one buffer for devices that migrate well and those that do not | [`PortableBuffer`], [`unified_or_pinned`] |
//! | prefetch that follows from how a buffer is used | [`Buffer::auto_prefetch`], [`Buffer::device_use`]; of a stack [`AutoPrefetched`] |
//! | looking into a stack | [`layer`], [`LayerExt`] |
//! | stacks whose type was forgotten | [`AnyResource`], [`AnyUpstream`] |
//! | the default resource of each device | [`current`] |
//! | kernels | [`Module`], [`HostKernel`] |
//! | a device where there is none | [`sim`] |
//! | tests on it | [`assert_peak!`], [`assert_no_leak!`], [`assert_migrated!`], [`sim::faults`], [`sim::Simulator::detect_races`] |
//!
//! ```
//! use cumem::sim::Profile;
//! use cumem::{Buffer, CudaResource, Device, Stream};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let device = Device::simulated(Profile::default())?; // or `Device::open(0)?`, a GPU
//! let stream = Stream::new(&device)?;
//! let squares = Buffer::from_slice(&[1_u32, 4, 9], &stream, CudaResource::new(&device))?;
//! assert_eq!(squares.to_vec()?, [1, 4, 9]);
//! # Ok(())
//! # }
//! ```
//!
//! The feature `cuda` adds the NVIDIA driver, which is found at run time; without it there is the simulated device
//! only.
#![cfg_attr(docsrs, feature(doc_cfg))]

mod adaptor_macro;
mod any;
mod block;
pub mod buffer;
pub mod current;
#[cfg(feature = "cuda")]
mod cust_bridge;
pub mod device;
pub mod error;
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
#[doc(hidden)]
pub mod testing;
mod transfer;
pub mod unified;
mod usage;

pub use any::{AnyResource, AnyUpstream};
pub use block::Block;
pub use buffer::{Buffer, UnifiedBuffer};
pub use cumem_driver::{DeviceId, Location};
#[cfg(feature = "cuda")]
pub use cust;
pub use device::Device;
pub use device::event::Event;
pub use device::stream::Stream;
pub use error::{AllocError, DeallocError, DeviceError, DriverError};
pub use kind::MemoryKind;
pub use layer::{Layer, LayerExt};
pub use resource::{MemoryResource, Upstream};
pub use resources::{
    CudaAsyncResource, CudaResource, CudaVirtualResource, HostResource, ManagedResource, PinnedResource,
};

/// The README's code, compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

/// The guide's.
#[cfg(doctest)]
#[doc = include_str!("../docs/managed-memory.md")]
struct ManagedMemory;
