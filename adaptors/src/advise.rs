//! [`Advise`] advises the driver how each block will be used.

mod state;

pub use state::AdviseState;

use crate::parts::Parts;
use cumem::error::record_drop_error;
use cumem::kind::Migratable;
use cumem::resource::MakerId;
use cumem::unified::hints::AppliedHints;
use cumem::unified::{MigrationPolicy, hints};
use cumem::{
    AllocError, Block, DeallocError, DeviceError, DeviceId, DriverError, LayerExt, Location, MemoryResource, Stream,
    Upstream,
};
use std::alloc::Layout;
use std::collections::HashMap;

/// An adaptor that gives the driver the advice of a [`MigrationPolicy`] about each block as it is allocated
/// (`cuMemAdvise`), and takes the advice back when the block is freed, so that a pool beneath hands out memory without
/// it.
///
/// Each block costs a few driver calls. Under a pool, the adaptor advises the pool's chunks, and blocks cost nothing. All
/// blocks of the pool then have one policy. Over a pool, set a [threshold](Self::threshold): advice holds for whole pages,
/// which a small block shares with other blocks.
///
/// The upstream must allocate memory whose pages migrate.
///
/// `find::<AdviseState>()` returns its [`AdviseState`] from any stack.
///
/// # Examples
///
/// ```
/// use cumem::sim::Profile;
/// use cumem::unified::MigrationPolicy;
/// use cumem::{Device, ManagedResource, Stream, UnifiedBuffer};
/// use cumem_adaptors::{PoolOptions, ResourceExt};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let device = Device::simulated(Profile::default())?;
/// let stream = Stream::new(&device)?;
/// let lookup = ManagedResource::new(&device)?.advise(MigrationPolicy::ReadMostly)?.pool(PoolOptions::new())?;
/// let table = UnifiedBuffer::<f32, _>::zeroed(1000, &stream, &lookup)?;
/// assert!(table.range_attributes()?.read_mostly);
/// # Ok(())
/// # }
/// ```
///
/// Memory whose pages do not migrate has no such advice:
///
/// ```compile_fail,E0277
/// # use cumem::unified::MigrationPolicy; use cumem::{CudaResource, Device}; use cumem_adaptors::ResourceExt;
/// # fn stack(device: &Device) {
/// let _ = CudaResource::new(device).advise(MigrationPolicy::ReadMostly);
/// # }
/// ```
#[derive(Debug)]
pub struct Advise<U> {
    state: AdviseState,
    advised: Parts<HashMap<(u64, MakerId), AppliedHints>>,
    upstream: U,
}

/// Returns the device on which advice has no effect, if there is one.
fn incapable(upstream: &impl LayerExt, policy: &MigrationPolicy) -> Result<Option<DeviceId>, DeviceError> {
    let locations = policy.advices().into_iter().filter_map(|advice| advice.location());
    for location in std::iter::once(Location::Host).chain(locations) {
        if let Some(device) = hints::device_without_migration(upstream.device(), location)? {
            return Ok(Some(device));
        }
    }
    Ok(None)
}

impl<U> Advise<U> {
    /// Creates the adaptor.
    ///
    /// # Errors
    ///
    /// - Returns [`DriverError::NotSupported`] if the upstream's device, or a device that the policy names, has no
    ///   concurrent managed access (before Pascal, Windows, WSL, Tegra). Advice has no effect there.
    /// - Returns [`DriverError::NoSuchDevice`] if the machine has no such device.
    /// - Returns [`DeviceError::WrongDevice`] if the policy names a device of another machine.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::unified::MigrationPolicy;
    /// # use cumem::{Device, ManagedResource};
    /// # use cumem_adaptors::Advise;
    /// let device = Device::simulated(Profile::wsl())?; // its pages do not migrate on demand
    /// assert!(Advise::new(ManagedResource::new(&device)?, MigrationPolicy::PreferHost).is_err());
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn new(upstream: U, policy: MigrationPolicy) -> Result<Self, DeviceError>
    where
        U: Upstream<Kind: Migratable>,
    {
        match incapable(&upstream, &policy)? {
            Some(device) => {
                let what = "advice about managed memory: it has no concurrent managed access";
                Err(DriverError::NotSupported { what, device }.into())
            }
            None => Ok(Self::build(upstream, policy, false)),
        }
    }

    /// Creates the adaptor, also for devices where advice has no effect. On such devices the adaptor returns every block
    /// unchanged. It reports this in a `tracing` warning when it is created, in [`Display`](std::fmt::Display), and in
    /// [`AdviseState::skipped`].
    ///
    /// # Errors
    ///
    /// - Returns [`DriverError::NoSuchDevice`] if the machine has no such device.
    /// - Returns [`DeviceError::WrongDevice`] if the policy names a device of another machine.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::unified::MigrationPolicy;
    /// # use cumem::{Device, ManagedResource};
    /// # use cumem_adaptors::Advise;
    /// let device = Device::simulated(Profile::wsl())?; // its pages do not migrate on demand
    /// let stack = Advise::or_pass_through(ManagedResource::new(&device)?, MigrationPolicy::PreferHost)?;
    /// assert!(stack.to_string().starts_with("advise(prefer=host, passing through)"));
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn or_pass_through(upstream: U, policy: MigrationPolicy) -> Result<Self, DeviceError>
    where
        U: Upstream<Kind: Migratable>,
    {
        let incapable = incapable(&upstream, &policy)?;
        if let Some(device) = incapable {
            tracing::warn!(%device, "no concurrent managed access: blocks pass through without advice");
        }
        Ok(Self::build(upstream, policy, incapable.is_some()))
    }

    fn build(upstream: U, policy: MigrationPolicy, passes_through: bool) -> Self {
        Self { state: AdviseState::new(policy, passes_through), advised: Parts::default(), upstream }
    }

    /// Sets the bytes from which blocks are advised. Smaller blocks pass through. The default is 0.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::unified::MigrationPolicy;
    /// # use cumem::{Device, ManagedResource, Stream, UnifiedBuffer};
    /// # use cumem_adaptors::ResourceExt;
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// let stack = ManagedResource::new(&device)?.advise(MigrationPolicy::PreferHost)?.threshold(2 << 20);
    /// let small = UnifiedBuffer::<u8, _>::zeroed(1000, &stream, &stack)?;
    /// assert_eq!(small.range_attributes()?.preferred_location, None);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn threshold(mut self, bytes: usize) -> Self {
        self.state.threshold = bytes;
        self
    }

    /// Returns the upstream.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::unified::MigrationPolicy;
    /// # use cumem::{Device, ManagedResource};
    /// # use cumem_adaptors::ResourceExt;
    /// # let device = Device::simulated(Profile::default())?;
    /// let stack = ManagedResource::new(&device)?.statistics().advise(MigrationPolicy::ReadMostly)?;
    /// assert_eq!(stack.upstream().state().counts().total_blocks, 0); // the statistics
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn upstream(&self) -> &U {
        &self.upstream
    }

    /// Removes this adaptor and returns the upstream. Live blocks stay valid, because the upstream made them:
    /// deallocate them through the upstream. They keep their advice.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::unified::MigrationPolicy;
    /// # use cumem::{Device, ManagedResource};
    /// # use cumem_adaptors::ResourceExt;
    /// # let device = Device::simulated(Profile::default())?;
    /// let leaf = ManagedResource::new(&device)?.advise(MigrationPolicy::ReadMostly)?.into_upstream();
    /// assert!(leaf.to_string().starts_with("managed"));
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn into_upstream(self) -> U {
        self.upstream
    }

    /// Returns the policy and the counts.
    pub fn state(&self) -> &AdviseState {
        &self.state
    }

    /// Advises the driver about a block. Returns the error of the driver, which has none of the advice then.
    fn advise(&self, block: &Block, stream: &Stream) -> Result<(), DeviceError> {
        let applied = self.state.policy().apply(block, 0..block.size(), stream)?;
        if applied.outcomes().iter().any(|(_, outcome)| outcome.is_applied()) {
            self.state.count_advised(block.size());
            self.advised.of(block.addr()).insert((block.addr(), block.maker()), applied);
        } else {
            self.state.count_skipped();
        }
        Ok(())
    }

    /// Takes the advice about a block back. The advice only affects speed, so a failure is counted, and the block is
    /// freed.
    fn withdraw(&self, block: &Block, stream: &Stream) -> bool {
        let Some(applied) = self.advised.of(block.addr()).remove(&(block.addr(), block.maker())) else { return false };
        if applied.undo(block, stream).is_err() {
            self.state.count_kept();
        }
        true
    }
}

cumem::adaptor_layer! {
    impl[U] Layer for Advise<U> {
        upstream: U = upstream;
        describe = |advise, f| advise.state.describe(f);
        state = state;
    }
}

impl<U: Upstream<Kind: Migratable>> Upstream for Advise<U> {}

// SAFETY: every block is the upstream's and is passed on unchanged.
unsafe impl<U: Upstream<Kind: Migratable>> MemoryResource for Advise<U> {
    type Kind = U::Kind;

    fn allocate(&self, stream: &Stream, layout: Layout) -> Result<Block, AllocError> {
        let block = self.upstream.allocate(stream, layout)?;
        if !self.state.applies_to(block.size()) {
            return Ok(block);
        }
        match self.advise(&block, stream) {
            Ok(()) => Ok(block),
            Err(source) => {
                let requested = block.size();
                // SAFETY: this method has not returned the block, so no other code knows it, and no work uses it.
                let returned = unsafe { self.upstream.deallocate(stream, block) };
                record_drop_error("a block about which the driver refused advice", returned);
                Err(AllocError::NotPrepared { layer: "advise", requested, source: Box::new(source) })
            }
        }
    }

    unsafe fn deallocate(&self, stream: &Stream, block: Block) -> Result<(), DeallocError> {
        let was_advised = self.withdraw(&block, stream);
        // SAFETY: the caller upholds the contract of this method, which is the upstream's.
        let freed = unsafe { self.upstream.deallocate(stream, block) };
        freed.inspect_err(|error| {
            if was_advised && self.advise(&error.block, stream).is_err() {
                self.state.count_skipped();
            }
        })
    }
}
