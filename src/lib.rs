//! Composable memory resources for CUDA.

mod any;
mod block;
mod buffer;
mod code;
pub mod current;
mod device;
mod driver;
mod drop_error;
mod error;
mod event;
pub mod hints;
mod host_gate;
mod kernel;
pub mod kind;
pub mod layer;
pub mod layout;
mod location;
pub mod resource;
mod resources;
mod stream;

pub use any::{AnyResource, AnyUpstream};
pub use block::{Block, MakerId};
pub use buffer::{Buffer, HostRead, HostWrite, UnifiedBuffer};
pub use code::CudaErrorCode;
pub use device::{Attributes, Device, MemoryInfo};
pub use driver::{DriverPoolUsage, PointerInfo, sim};
pub use drop_error::{DropError, record_drop_error, take_drop_errors};
pub use error::{AllocError, DeallocError, DeallocReason, DriverError};
pub use event::Event;
pub use hints::{Advice, Outcome, RangeAttributes, SkipReason};
pub use kernel::{Access, AccessMode, Function, HostKernel, KernelArg, KernelMemory, LaunchConfig, Module};
pub use kind::MemoryKind;
pub use layer::{Beneath, Layer, LayerExt};
pub use layout::CUDA_ALLOCATION_ALIGNMENT;
pub use location::{DeviceId, Location};
pub use resource::{MemoryResource, Upstream};
pub use resources::{
    CudaAsyncOptions, CudaAsyncResource, CudaResource, HostResource, ManagedResource, PinnedResource, PoolSource,
};
pub use stream::{Stream, StreamId};
