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
//! use cumem::{Buffer, CudaResource, Device, Stream, sim::Profile};
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

pub mod accounting;
mod any;
mod auto;
mod block;
mod buffer;
mod caller;
mod code;
pub mod current;
mod device;
mod driver;
mod drop_error;
mod error;
mod event;
mod held;
pub mod hints;
mod host_gate;
mod kernel;
pub mod kind;
pub mod layer;
pub mod layout;
mod location;
mod per_device;
mod portable;
mod residency;
pub mod resource;
mod resources;
mod stream;
mod transfer;

pub use any::{AnyResource, AnyUpstream};
pub use auto::{AutoPrefetchOptions, AutoPrefetchReport, AutoPrefetched, DeviceUse};
pub use block::{Block, MakerId};
pub use buffer::{Buffer, HostRead, HostWrite, UnifiedBuffer};
pub use code::CudaErrorCode;
#[cfg(feature = "cuda")]
pub use cust;
pub use device::{Attributes, Device, MemoryInfo};
pub use driver::{DriverPoolUsage, MemoryType, PointerInfo, sim};
pub use drop_error::{DropError, record_drop_error, take_drop_errors};
pub use error::{AllocError, DeallocError, DeallocReason, DriverError, TrimError};
pub use event::Event;
pub use held::{Held, SizeClass, StreamStats};
pub use hints::{Advice, Outcome, RangeAttributes, SkipReason};
pub use kernel::{Access, AccessMode, Function, HostKernel, KernelArg, KernelMemory, LaunchConfig, Module, Pattern};
pub use kind::MemoryKind;
pub use layer::{Beneath, Layer, LayerExt};
pub use layout::CUDA_ALLOCATION_ALIGNMENT;
pub use location::{DeviceId, Location};
pub use portable::{Chunk, PinnedReason, PortableBuffer, UnifiedOrPinned, unified_or_pinned};
pub use resource::{MemoryResource, Upstream};
pub use resources::{
    Alias, CudaAsyncOptions, CudaAsyncResource, CudaResource, CudaVirtualResource, HostResource, ManagedResource,
    PinnedResource, PoolSource, UnmapError,
};
pub use stream::{Stream, StreamId};
pub use transfer::TransferPath;

/// The README's code, compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

/// The guide's.
#[cfg(doctest)]
#[doc = include_str!("../docs/managed-memory.md")]
struct ManagedMemory;
