//! Words to a stack, through the same constructors as in code.

use super::{Adaptor, AnyStack, Leaf, SpecError, StackSpec, Target, Word};
use crate::{Prefetch, ResourceExt, Size};
use cumem::kind::{self, Managed};
use cumem::{
    AnyResource, AnyUpstream, AutoPrefetchOptions, CudaAsyncOptions, CudaAsyncResource, CudaResource,
    CudaVirtualResource, Device, DriverError, HostResource, LayerExt, Location, ManagedResource, MemoryKind,
    PinnedResource, PoolSource,
};
use std::error::Error;

impl StackSpec {
    /// Builds the stack on a device.
    ///
    /// # Errors
    ///
    /// [`SpecError`] points at the layer that could not be made, with the device's or the driver's reason.
    pub fn build(&self, device: &Device) -> Result<AnyStack, SpecError> {
        Ok(match self.leaf.value {
            Leaf::Device => AnyStack::OverDevice(self.wrap(AnyUpstream::new(CudaResource::new(device)))?.finish()),
            Leaf::Async { default_pool, threshold } => {
                let source = if default_pool { PoolSource::Default } else { PoolSource::Own };
                let release_threshold = threshold.map(|size| bytes(size, device) as u64);
                let options = CudaAsyncOptions { source, release_threshold };
                let leaf = CudaAsyncResource::with_options(device, options).map_err(|e| self.refused(&self.leaf, e))?;
                AnyStack::OverDevice(self.wrap(AnyUpstream::new(leaf))?.finish())
            }
            Leaf::Virtual => {
                let leaf = CudaVirtualResource::new(device).map_err(|e| self.refused(&self.leaf, e))?;
                AnyStack::OverDevice(self.wrap(AnyUpstream::new(leaf))?.finish())
            }
            Leaf::Managed => {
                let leaf = ManagedResource::new(device).map_err(|e| self.refused(&self.leaf, e))?;
                AnyStack::OverManaged(self.managed(AnyUpstream::new(leaf), device)?)
            }
            Leaf::Pinned => AnyStack::OverPinned(self.wrap(AnyUpstream::new(PinnedResource::new(device)))?.finish()),
            Leaf::Host => AnyStack::OverHost(self.wrap(AnyUpstream::new(HostResource::new(device)))?.finish()),
        })
    }

    fn managed(&self, leaf: AnyUpstream<Managed>, device: &Device) -> Result<AnyResource<Managed>, SpecError> {
        let upstream = self.wrap(leaf)?;
        let Some(word) = &self.outermost else { return Ok(upstream.finish()) };
        let target = match word.value.target {
            Target::Own => Location::Device(device.id()),
            Target::Host => Location::Host,
            Target::Device(ordinal) => Location::Device(device.id().sibling(ordinal)),
        };
        let prefetch = match word.value.pass_through {
            true => Prefetch::or_pass_through(upstream, target),
            false => Prefetch::new(upstream, target),
        };
        let prefetch = prefetch.map_err(|e| self.refused(word, e))?;
        Ok(AnyResource::new(if word.value.always { prefetch.always() } else { prefetch }))
    }

    fn wrap<K: Wrapped>(&self, leaf: AnyUpstream<K>) -> Result<AnyUpstream<K>, SpecError> {
        self.adaptors.iter().try_fold(leaf, |upstream, word| {
            Ok(match word.value {
                Adaptor::Pool(options) => AnyUpstream::new(upstream.pool(options).map_err(|e| self.refused(word, e))?),
                Adaptor::Limit(limit) => AnyUpstream::new(upstream.limit(limit)),
                Adaptor::Statistics => AnyUpstream::new(upstream.statistics()),
                Adaptor::AutoPrefetch { budget, uses_ahead } => {
                    let mut options = AutoPrefetchOptions::default();
                    if let Some(budget) = budget {
                        options = options.budget(bytes(budget, upstream.device()));
                    }
                    if let Some(uses) = uses_ahead {
                        options = options.uses_ahead(uses);
                    }
                    K::auto_prefetch(upstream, options).map_err(|e| self.refused(word, e))?
                }
            })
        })
    }

    fn refused<T>(&self, word: &Word<T>, reason: impl Error + Send + Sync + 'static) -> SpecError {
        SpecError::refused(&self.text, word.span.clone(), reason)
    }
}

/// What only some kinds of memory allow, for stacks whose kind is a parameter.
trait Wrapped: MemoryKind + Sized {
    /// The parser lets through only what migrates.
    fn auto_prefetch(
        upstream: AnyUpstream<Self>,
        _options: AutoPrefetchOptions,
    ) -> Result<AnyUpstream<Self>, DriverError> {
        Err(DriverError::NotSupported { what: "automatic prefetch", device: upstream.device().id() })
    }
}

impl Wrapped for kind::Device {}
impl Wrapped for kind::Pinned {}
impl Wrapped for kind::Host {}
impl Wrapped for Managed {
    fn auto_prefetch(
        upstream: AnyUpstream<Self>,
        options: AutoPrefetchOptions,
    ) -> Result<AnyUpstream<Self>, DriverError> {
        Ok(AnyUpstream::new(upstream.auto_prefetch(options)?))
    }
}

fn bytes(size: Size, device: &Device) -> usize {
    size.bytes_of(device.attributes().total_memory)
}
