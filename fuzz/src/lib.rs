//! The code that all targets share: how bytes become steps, and for pools the leaf and the options.

use arbitrary::{Arbitrary, Result, Unstructured};
use cumem::{AnyUpstream, CudaResource, CudaVirtualResource, Device, ManagedResource, kind};
use cumem_adaptors::{Crossing, PoolOptions, Size};

/// Reads steps up to the end of the bytes: longer inputs are longer programs. Steps that the end cuts off are left out.
pub fn steps<S>(bytes: &mut Unstructured<'_>, step: impl Fn(&mut Unstructured<'_>) -> Result<S>) -> Vec<S> {
    let mut steps = Vec::new();
    while !bytes.is_empty()
        && let Ok(next) = step(bytes)
    {
        steps.push(next);
    }
    steps
}

/// The resource that a pool takes its chunks from.
#[derive(Debug, Clone, Copy, Arbitrary)]
pub enum Leaf {
    /// Chunks that never touch.
    Device,
    /// Chunks in one range of addresses: the pool may join them, and map them a second time.
    Virtual,
    /// Chunks that take memory only where they have been used.
    Managed,
}

impl Leaf {
    /// The resource, with its kind forgotten.
    pub fn on(self, device: &Device) -> AnyUpstream<kind::Erased> {
        match self {
            Self::Device => AnyUpstream::erase_kind(CudaResource::new(device)),
            Self::Virtual => AnyUpstream::erase_kind(CudaVirtualResource::new(device).unwrap()),
            Self::Managed => AnyUpstream::erase_kind(ManagedResource::new(device).unwrap()),
        }
    }
}

/// The options of a pool. Sizes are in units of 64 KiB, so that small numbers matter.
#[derive(Debug, Clone, Arbitrary)]
pub struct Options {
    maximum: Option<u8>,
    step: Option<u8>,
    release: Option<u8>,
    slack: Option<u8>,
    divisions: Option<u8>,
    grow_first: bool,
}

/// The unit of [`Options`].
const UNIT: usize = 64 << 10;

impl Options {
    /// As the pool takes them, always valid.
    pub fn of_pool(&self) -> PoolOptions {
        let bytes = |units: u8| Size::from(usize::from(units) * UNIT);
        let mut options = PoolOptions::new();
        if let Some(maximum) = self.maximum {
            options = options.maximum(bytes(maximum.max(32)));
        }
        if let Some(step) = self.step {
            options = options.step(bytes(step));
        }
        if let Some(release) = self.release {
            options = options.release_threshold(bytes(release));
        }
        if let Some(slack) = self.slack {
            options = options.slack(bytes(slack));
        }
        if let Some(divisions) = self.divisions {
            options = options.divisions(1 << (divisions % 6));
        }
        options.crossing(if self.grow_first { Crossing::GrowFirst } else { Crossing::WaitFirst })
    }
}
