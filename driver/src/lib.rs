//! What cumem asks of a driver, as one trait, and the NVIDIA driver behind it.
//!
//! This crate knows no device handle, stream handle or memory resource of cumem: it speaks of ordinals, addresses and
//! plain handles. Two implementations exist: `cuda` here (feature `cuda`), and the simulated machine of `cumem-sim`.
//! Applications use the crate `cumem`, which re-exports what they need.
//!
//! | file | what it holds |
//! |---|---|
//! | `location`, `raw`, `facts`, `launch`, `host_kernel`, `advice`, `range_attributes`, `prefetch_range` | the words: plain data that a call takes or returns |
//! | `error` | [`DriverError`] and the driver's codes |
//! | `model` | what only a simulated machine can answer |
//! | `driver` | [`Driver`], the trait |
//! | `extension` | where the library above keeps what it knows of a machine |
//! | `owned` | one owner type per driver object: stream, event, module, memory |
//! | `drop_error` | errors that a `drop` could not return |
//! | `call_site` | the place in the program that a call comes from |
//! | `cuda` | the NVIDIA driver |
#![cfg_attr(docsrs, feature(doc_cfg))]

mod advice;
pub mod call_site;
#[cfg(feature = "cuda")]
pub mod cuda;
mod driver;
pub mod drop_error;
mod error;
mod extension;
mod facts;
mod host_kernel;
mod launch;
mod location;
pub mod model;
pub mod owned;
mod prefetch_range;
mod range_attributes;
mod raw;

pub use advice::Advice;
pub use driver::Driver;
pub use error::DriverError;
pub use error::code::CudaErrorCode;
pub use extension::Extension;
pub use facts::{Attributes, DriverPoolUsage, MemoryInfo, MemoryType, PointerInfo};
pub use host_kernel::{Access, AccessMode, HostKernel, HostWork, KernelMemory, Pattern};
pub use launch::{KernelArg, LaunchConfig};
pub use location::{DeviceId, Location};
pub use model::{BlockEvent, MigrationCause, Model, Movement, Residency, Watcher};
pub use prefetch_range::PrefetchRange;
pub use range_attributes::RangeAttributes;
pub use raw::{RawEvent, RawFunction, RawModule, RawPool, RawStream};
