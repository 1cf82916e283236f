//! The calls that cumem makes to a CUDA driver, as one trait, and the implementation for the NVIDIA driver.
//!
//! This crate knows no device handle, stream handle or memory resource of cumem. Its calls take ordinals, addresses and
//! plain handles. The trait has two implementations: `cuda` in this crate (feature `cuda`), and the simulated machine
//! of the crate `cumem-sim`. Applications use the crate `cumem`, which re-exports the types that they need.
//!
//! The examples here name `cumem_driver`. In a program that depends on `cumem`, write `cumem::kernel` for kernels,
//! `cumem::error` for errors, and `cumem` for `DeviceId` and `Location`.
//!
//! # Files
//!
//! | file | contents |
//! |---|---|
//! | `location`, `raw`, `facts` | devices, locations, handles and properties, as plain data |
//! | `launch`, `host_kernel` | the parameters of a kernel launch; kernels for a simulated device |
//! | `advice`, `range_attributes`, `prefetch_range` | advice and prefetches, as plain data |
//! | `pool`, `pinned`, `stream_attach`, `module_image` | the parameters of pools, of pinned memory, of attachments and of modules, as plain data |
//! | `capture` | the capture of a stream into a graph, as plain data |
//! | `error` | [`DriverError`] and the driver's codes |
//! | `model` | [`Model`]: the calls that only a simulated machine has |
//! | `driver` | [`Driver`], the trait |
//! | `extension` | a value that the library above stores with a driver |
//! | `owned` | one owner type for each driver object: stream, event, graph, module, memory, pool |
//! | `drop_error` | errors that a `drop` could not return |
//! | `deferral` | keeps user code from running while a thread holds a lock of the library |
//! | `call_site` | the line of the program that a call comes from |
//! | `cuda` | the implementation for the NVIDIA driver |
#![cfg_attr(docsrs, feature(doc_cfg))]

mod advice;
pub mod call_site;
mod capture;
#[cfg(feature = "cuda")]
pub mod cuda;
pub mod deferral;
mod driver;
pub mod drop_error;
mod error;
mod extension;
mod facts;
mod host_kernel;
mod launch;
mod location;
pub mod model;
mod module_image;
pub mod owned;
pub mod panics;
mod pinned;
mod plural;
mod pool;
mod prefetch_range;
mod range_attributes;
mod raw;
mod stream_attach;

pub use advice::Advice;
pub use capture::{CaptureMode, CaptureState};
pub use driver::Driver;
pub use error::DriverError;
pub use error::code::CudaErrorCode;
pub use extension::Extension;
pub use facts::{Attributes, DriverPoolUsage, MemoryInfo, MemoryType, PointerInfo};
pub use host_kernel::{Access, AccessMode, HostKernel, HostWork, KernelMemory, Pattern, RepeatableWork};
pub use launch::{KernelArg, LaunchConfig};
pub use location::{DeviceId, Location};
pub use model::{BlockEvent, DetectorListener, MigrationCause, Model, Movement, Residency, Watcher};
pub use module_image::ModuleImage;
pub use pinned::{HugePages, PinnedProperties};
pub use plural::Plural;
pub use pool::{PoolHandle, PoolMemory, PoolProperties, PoolReuse};
pub use prefetch_range::PrefetchRange;
pub use range_attributes::RangeAttributes;
pub use raw::{RawEvent, RawFunction, RawGraph, RawGraphExec, RawModule, RawPool, RawStream};
pub use stream_attach::StreamAttach;
