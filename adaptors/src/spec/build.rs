//! Builds a stack from the parsed words, with the constructors that code uses too.

use super::words::{Adaptor, Advised, Layers, Leaf, Outermost, Pool, Target, Word};
use super::{AnyStack, SpecError, StackSpec};
use crate::{Advise, AutoPrefetch, LogOptions, OnFailure, Prefetch, ResourceExt, Size, TrackingOptions};
use cumem::kind;
use cumem::kind::{Erased, Managed};
use cumem::resources::{
    CudaAsyncOptions, HugePages, ManagedAsyncResource, PinnedAsyncResource, PinnedOptions, PoolSource,
};
use cumem::unified::accounting::Ledger;
use cumem::unified::{AutoPrefetchOptions, MigrationPolicy};
use cumem::{
    AnyResource, AnyUpstream, CudaAsyncResource, CudaResource, CudaVirtualResource, Device, DeviceError, DriverError,
    HostResource, Location, ManagedResource, PinnedResource, SystemResource,
};
use std::error::Error;
use std::sync::Arc;

impl StackSpec {
    /// Builds the stack on a device.
    ///
    /// # Errors
    ///
    /// Returns a [`SpecError`] that points at the layer that could not be created, whose source is the error of the device or
    /// the driver. A `tagged` layer is such a layer, because it needs [a ledger](Self::build_with_ledger).
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem::Device;
    /// use cumem::sim::Profile;
    /// use cumem_adaptors::{AnyStack, StackSpec};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let device = Device::simulated(Profile::default())?;
    /// let stack = StackSpec::parse("managed | pool | prefetch")?.build(&device)?;
    /// assert!(matches!(stack, AnyStack::OverManaged(_)));
    /// # Ok(())
    /// # }
    /// ```
    pub fn build(&self, device: &Device) -> Result<AnyStack, SpecError> {
        Site { spec: self, device, ledger: None }.build()
    }

    /// Builds the stack on a device. The names of its `tagged` layers are entered in `ledger`.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`build`](Self::build).
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem::sim::Profile;
    /// use cumem::unified::accounting::Ledger;
    /// use cumem::{Buffer, Device, Stream};
    /// use cumem_adaptors::StackSpec;
    /// use std::sync::Arc;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let device = Device::simulated(Profile::default())?;
    /// let ledger = Arc::new(Ledger::new(&device));
    /// let spec = StackSpec::parse("managed | tagged(weights) | prefetch")?;
    /// let stack = spec.build_with_ledger(&device, &ledger)?.into_device_accessible()?;
    /// let _weights = Buffer::<f32, _>::zeroed(1024, &Stream::new(&device)?, &stack)?;
    /// assert_eq!(ledger.report().rows[0].tag, "weights"); // the row of the prefetch
    /// # Ok(())
    /// # }
    /// ```
    pub fn build_with_ledger(&self, device: &Device, ledger: &Arc<Ledger>) -> Result<AnyStack, SpecError> {
        Site { spec: self, device, ledger: Some(ledger) }.build()
    }
}

/// The description that is built, with the device and the ledger to build it for.
struct Site<'a> {
    spec: &'a StackSpec,
    device: &'a Device,
    ledger: Option<&'a Arc<Ledger>>,
}

/// The stack built so far, by the kind of its memory.
enum Built {
    Device(AnyUpstream<kind::Device>),
    Managed(AnyUpstream<Managed>),
    Pinned(AnyUpstream<kind::Pinned>),
    Host(AnyUpstream<kind::Host>),
    Either(AnyUpstream<Erased>),
}

/// Adds a layer that does not change the kind.
macro_rules! over {
    ($built:expr, $upstream:ident => $layer:expr) => {
        match $built {
            Built::Device($upstream) => Built::Device(AnyUpstream::new($layer)),
            Built::Managed($upstream) => Built::Managed(AnyUpstream::new($layer)),
            Built::Pinned($upstream) => Built::Pinned(AnyUpstream::new($layer)),
            Built::Host($upstream) => Built::Host(AnyUpstream::new($layer)),
            Built::Either($upstream) => Built::Either(AnyUpstream::new($layer)),
        }
    };
}

impl Site<'_> {
    fn build(&self) -> Result<AnyStack, SpecError> {
        Ok(match (self.layers(&self.spec.layers)?, &self.spec.outermost) {
            (Built::Managed(stack), Some(word)) => AnyStack::OverManaged(self.prefetch(stack, word)?),
            // The parser accepts `prefetch` only over `managed`.
            (Built::Managed(stack), None) => AnyStack::OverManaged(stack.finish()),
            (Built::Device(stack), _) => AnyStack::OverDevice(stack.finish()),
            (Built::Pinned(stack), _) => AnyStack::OverPinned(stack.finish()),
            (Built::Host(stack), _) => AnyStack::OverHost(stack.finish()),
            (Built::Either(stack), _) => AnyStack::OverEither(stack.finish()),
        })
    }

    fn layers(&self, layers: &Layers) -> Result<Built, SpecError> {
        layers.adaptors.iter().try_fold(self.leaf(&layers.leaf)?, |built, word| self.adaptor(built, word))
    }

    fn leaf(&self, word: &Word<Leaf>) -> Result<Built, SpecError> {
        let device = self.device;
        Ok(match word.value {
            Leaf::Device => Built::Device(AnyUpstream::new(CudaResource::new(device))),
            Leaf::Async(pool) => {
                let leaf = CudaAsyncResource::with_options(device, self.driver_pool(pool));
                Built::Device(AnyUpstream::new(leaf.map_err(|e| self.refused(word, e))?))
            }
            Leaf::ManagedAsync(pool) => {
                let leaf = ManagedAsyncResource::with_options(device, self.driver_pool(pool));
                Built::Managed(AnyUpstream::new(leaf.map_err(|e| self.refused(word, e))?))
            }
            Leaf::PinnedAsync(pool) => {
                let leaf = PinnedAsyncResource::with_options(device, self.driver_pool(pool));
                Built::Pinned(AnyUpstream::new(leaf.map_err(|e| self.refused(word, e))?))
            }
            Leaf::System { headroom } => {
                let leaf = match headroom {
                    Some(size) => SystemResource::with_headroom(device, self.bytes(size)),
                    None => SystemResource::new(device),
                };
                Built::Managed(AnyUpstream::new(leaf.map_err(|e| self.refused(word, e))?))
            }
            Leaf::Virtual => {
                let leaf = CudaVirtualResource::new(device).map_err(|e| self.refused(word, e))?;
                Built::Device(AnyUpstream::new(leaf))
            }
            Leaf::Managed => {
                let leaf = ManagedResource::new(device).map_err(|e| self.refused(word, e))?;
                Built::Managed(AnyUpstream::new(leaf))
            }
            Leaf::Pinned { node, huge } => {
                let mut options = PinnedOptions::new();
                if huge {
                    options = options.huge_pages(HugePages::Transparent);
                }
                if let Some(node) = node {
                    options = options.numa_node(node);
                }
                let leaf = PinnedResource::with_options(device, options).map_err(|e| self.refused(word, e))?;
                Built::Pinned(AnyUpstream::new(leaf))
            }
            Leaf::Host => Built::Host(AnyUpstream::new(HostResource::new(device))),
        })
    }

    fn driver_pool(&self, pool: Pool) -> CudaAsyncOptions {
        let bytes = |size: Option<Size>| size.map_or(0, |size| self.bytes(size));
        let options = CudaAsyncOptions::new(if pool.of_device { PoolSource::Default } else { PoolSource::Own });
        let options = options.initial_size(bytes(pool.initial)).maximum_size(bytes(pool.maximum));
        match pool.threshold {
            Some(size) => options.release_threshold(self.bytes(size) as u64),
            None => options,
        }
    }

    fn adaptor(&self, built: Built, word: &Word<Adaptor>) -> Result<Built, SpecError> {
        Ok(match &word.value {
            Adaptor::Pool(options) => {
                over!(built, upstream => upstream.pool(*options).map_err(|e| self.refused(word, e))?)
            }
            Adaptor::FixedSize { size, keep } => over!(built, upstream => {
                let fixed = upstream.fixed_size(*size).map_err(|e| self.refused(word, e))?;
                match keep {
                    Some(blocks) => fixed.keep(*blocks),
                    None => fixed,
                }
            }),
            Adaptor::Binning { sizes, keep } => over!(built, upstream => {
                let binning = upstream.binning(sizes.iter().copied()).map_err(|e| self.refused(word, e))?;
                match keep {
                    Some(blocks) => binning.keep(*blocks),
                    None => binning,
                }
            }),
            Adaptor::Aligned { alignment, threshold } => over!(built, upstream => {
                upstream.aligned(*alignment).map_err(|e| self.refused(word, e))?.threshold(*threshold)
            }),
            Adaptor::Advise(advised) => {
                let Built::Managed(upstream) = built else {
                    return Err(self.refused(word, self.unsupported("advice")));
                };
                let policy = self.policy(advised);
                let advise = match advised.pass_through {
                    true => Advise::or_pass_through(upstream, policy),
                    false => Advise::new(upstream, policy),
                };
                let advise = advise.map_err(|e| self.refused(word, e))?;
                Built::Managed(AnyUpstream::new(advise.threshold(advised.threshold)))
            }
            Adaptor::Scrub { pattern, time } => match built {
                Built::Device(upstream) => {
                    Built::Device(AnyUpstream::new(upstream.scrub().pattern(*pattern).at(*time)))
                }
                Built::Managed(upstream) => {
                    Built::Managed(AnyUpstream::new(upstream.scrub().pattern(*pattern).at(*time)))
                }
                Built::Pinned(upstream) => {
                    Built::Pinned(AnyUpstream::new(upstream.scrub().pattern(*pattern).at(*time)))
                }
                Built::Either(upstream) => {
                    Built::Either(AnyUpstream::new(upstream.scrub().pattern(*pattern).at(*time)))
                }
                Built::Host(_) => return Err(self.refused(word, self.unsupported("use of `host` memory"))),
            },
            Adaptor::Limit { size, name, rounding } => over!(built, upstream => {
                let limit = match rounding {
                    Some(rounding) => upstream.limit_rounded(*size, *rounding).map_err(|e| self.refused(word, e))?,
                    None => upstream.limit(*size),
                };
                match name {
                    Some(name) => limit.named(name),
                    None => limit,
                }
            }),
            Adaptor::OnFailure { attempts: None } => over!(built, upstream => OnFailure::trimming(upstream)),
            Adaptor::OnFailure { attempts: Some(attempts) } => {
                over!(built, upstream => OnFailure::trimming(upstream).attempts(*attempts))
            }
            Adaptor::Statistics => over!(built, upstream => upstream.statistics()),
            Adaptor::Log { path, flush } => {
                let options = || {
                    let options = path.as_deref().map_or_else(LogOptions::env, LogOptions::from);
                    if *flush { options.flush_each_row() } else { options }
                };
                over!(built, upstream => upstream.logging(options()).map_err(|e| self.refused(word, e))?)
            }
            Adaptor::Tracking { traces } => {
                let options = || {
                    let options = TrackingOptions::new();
                    if *traces { options.traces_from(0) } else { options }
                };
                over!(built, upstream => upstream.tracking(options()))
            }
            Adaptor::GraphPools { detect: false } => over!(built, upstream => upstream.graph_pools()),
            Adaptor::GraphPools { detect: true } => over!(built, upstream => upstream.graph_pools().detecting()),
            Adaptor::Events => over!(built, upstream => upstream.events()),
            Adaptor::Tagged(name) => {
                let ledger = self.ledger.ok_or_else(|| self.without_ledger(word))?;
                over!(built, upstream => upstream.tagged(ledger, name))
            }
            Adaptor::Pressure(options) => {
                over!(built, upstream => upstream.pressure(*options).map_err(|e| self.refused(word, e))?)
            }
            Adaptor::Spill(second) => {
                let (first, second) = (self.accessible(built, word)?, self.accessible(self.layers(second)?, word)?);
                let spill = first.spill_to(second).map_err(|e| self.refused(word, e))?;
                Built::Either(AnyUpstream::erase_kind(spill))
            }
            Adaptor::AutoPrefetch { budget, uses_ahead, pass_through } => {
                let Built::Managed(upstream) = built else {
                    return Err(self.refused(word, self.unsupported("prefetch")));
                };
                let mut options = AutoPrefetchOptions::default();
                if let Some(budget) = budget {
                    options = options.budget(self.bytes(*budget));
                }
                if let Some(uses) = uses_ahead {
                    options = options.uses_ahead(*uses);
                }
                let auto = match pass_through {
                    true => AutoPrefetch::or_pass_through(upstream, options),
                    false => AutoPrefetch::new(upstream, options),
                };
                Built::Managed(AnyUpstream::new(auto.map_err(|e| self.refused(word, e))?))
            }
        })
    }

    fn prefetch(&self, over: AnyUpstream<Managed>, word: &Word<Outermost>) -> Result<AnyResource<Managed>, SpecError> {
        let target = self.location(word.value.target);
        let prefetch = match word.value.pass_through {
            true => Prefetch::or_pass_through(over, target),
            false => Prefetch::new(over, target),
        };
        let prefetch = prefetch.map_err(|e| self.refused(word, e))?;
        Ok(AnyResource::new(if word.value.always { prefetch.always() } else { prefetch }))
    }

    fn location(&self, target: Target) -> Location {
        match target {
            Target::Own => Location::Device(self.device.id()),
            Target::Host => Location::Host,
            Target::Device(ordinal) => Location::Device(self.device.id().sibling(ordinal)),
        }
    }

    fn policy(&self, advised: &Advised) -> MigrationPolicy {
        let mut policy = MigrationPolicy::Default;
        if advised.read_mostly {
            policy = policy.and(MigrationPolicy::ReadMostly);
        }
        if let Some(target) = advised.prefer {
            policy = policy.and(match self.location(target) {
                Location::Device(id) => MigrationPolicy::PreferDevice(id),
                _ => MigrationPolicy::PreferHost,
            });
        }
        if let Some(target) = advised.accessed_by {
            policy = policy.and(MigrationPolicy::AccessedBy(self.location(target)));
        }
        policy
    }

    /// Returns the stack with its kind erased. The parser has already refused `host` memory, which devices cannot
    /// access.
    fn accessible(&self, built: Built, word: &Word<Adaptor>) -> Result<AnyUpstream<Erased>, SpecError> {
        match built {
            Built::Device(stack) => Ok(AnyUpstream::erase_kind(stack)),
            Built::Managed(stack) => Ok(AnyUpstream::erase_kind(stack)),
            Built::Pinned(stack) => Ok(AnyUpstream::erase_kind(stack)),
            Built::Either(stack) => Ok(stack),
            Built::Host(_) => Err(self.refused(word, self.unsupported("use of `host` memory"))),
        }
    }

    fn unsupported(&self, what: &'static str) -> DeviceError {
        DriverError::NotSupported { what, device: self.device.id() }.into()
    }

    fn without_ledger(&self, word: &Word<Adaptor>) -> SpecError {
        let message = "`tagged` gives a ledger a name, and there is no ledger";
        SpecError::new(&self.spec.text, word.span.clone(), message, "needs a ledger")
            .note("build the stack with `StackSpec::build_with_ledger`")
    }

    fn refused<T>(&self, word: &Word<T>, reason: impl Error + Send + Sync + 'static) -> SpecError {
        SpecError::refused(&self.spec.text, word.span.clone(), reason)
    }

    fn bytes(&self, size: Size) -> usize {
        size.bytes_on(self.device).unwrap_or(0)
    }
}
