//! [`ResourceExt`]: one method per adaptor, so that a stack reads from the leaf outwards.

use crate::{
    Advise, Aligned, AlignmentError, AllocFailure, AutoPrefetch, BinError, Binning, ByAddress, Events, FixedSize,
    GraphPools, Limiter, LogError, LogOptions, Logging, OnFailure, Pool, PoolError, PoolOptions, Prefetch, Pressure,
    PressureError, PressureOptions, Reaction, Scrub, Size, Spill, Statistics, Tagged, Tracking, TrackingOptions,
};
use cumem::kind::{DeviceAccessible, Migratable};
use cumem::unified::accounting::Ledger;
use cumem::unified::{AutoPrefetchOptions, MigrationPolicy};
use cumem::{DeviceError, DriverError, Location, MemoryResource, Upstream};
use std::sync::Arc;

/// Wraps a resource in adaptors, with one method for each adaptor. The adaptor of the last call is outermost.
pub trait ResourceExt: MemoryResource + Sized {
    /// Adds a pool, which keeps freed memory and reuses it in stream order. See [`Pool::new`].
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Pool::new`].
    fn pool(self, options: PoolOptions) -> Result<Pool<Self>, PoolError>
    where
        Self: Upstream,
    {
        Pool::new(self, options)
    }

    /// Adds a limit. Allocations that would exceed the limit fail. `limit` is a number of bytes; for a share of the
    /// device's memory write [`Size::Percent(80)`](Size::Percent). See [`Limiter::new`].
    fn limit(self, limit: impl Into<Size>) -> Limiter<Self>
    where
        Self: Upstream,
    {
        Limiter::new(self, limit)
    }

    /// Adds a limit that counts each block rounded up to a multiple of `rounding` bytes. See [`Limiter::with_rounding`].
    ///
    /// # Errors
    ///
    /// Returns [`AlignmentError`] if `rounding` is not a power of two.
    fn limit_rounded(self, limit: impl Into<Size>, rounding: usize) -> Result<Limiter<Self>, AlignmentError>
    where
        Self: Upstream,
    {
        Limiter::with_rounding(self, limit, rounding)
    }

    /// Makes all blocks take the same memory, and keeps freed blocks for the streams that freed them. See
    /// [`FixedSize::new`].
    ///
    /// # Errors
    ///
    /// Returns the errors of [`FixedSize::new`].
    fn fixed_size(self, block_size: usize) -> Result<FixedSize<Self>, BinError>
    where
        Self: Upstream,
    {
        FixedSize::new(self, block_size)
    }

    /// Makes blocks take memory of a few sizes, and keeps freed blocks for the streams that freed them. See
    /// [`Binning::new`], and [`Binning::powers_of_two`] for a range of sizes.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Binning::new`].
    fn binning(self, sizes: impl IntoIterator<Item = usize>) -> Result<Binning<Self>, BinError>
    where
        Self: Upstream,
    {
        Binning::new(self, sizes)
    }

    /// Aligns all blocks to multiples of `alignment` bytes. See [`Aligned::new`].
    ///
    /// # Errors
    ///
    /// Returns [`AlignmentError`] if `alignment` is not a power of two.
    fn aligned(self, alignment: usize) -> Result<Aligned<Self>, AlignmentError>
    where
        Self: Upstream,
    {
        Aligned::new(self, alignment)
    }

    /// Advises the driver about each block as `policy` says. See [`Advise::new`].
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Advise::new`].
    fn advise(self, policy: MigrationPolicy) -> Result<Advise<Self>, DeviceError>
    where
        Self: Upstream<Kind: Migratable>,
    {
        Advise::new(self, policy)
    }

    /// Clears each block when it is freed, so that its next owner does not read its bytes. See [`Scrub::new`].
    fn scrub(self) -> Scrub<Self>
    where
        Self: Upstream<Kind: DeviceAccessible>,
    {
        Scrub::new(self)
    }

    /// Counts the bytes, the blocks and the failures of all calls. See [`Statistics::new`].
    fn statistics(self) -> Statistics<Self>
    where
        Self: Upstream,
    {
        Statistics::new(self)
    }

    /// Writes each call as a row of RMM's log format: to a file, if `options` is a path, or to a sink. See
    /// [`Logging::new`].
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Logging::new`].
    fn logging(self, options: impl Into<LogOptions>) -> Result<Logging<Self>, LogError>
    where
        Self: Upstream,
    {
        Logging::new(self, options)
    }

    /// Records each live block, and reports leaks. See [`Tracking::new`].
    fn tracking(self, options: TrackingOptions) -> Tracking<Self>
    where
        Self: Upstream,
    {
        Tracking::new(self, options)
    }

    /// Emits each call as an event of `tracing`. See [`Events`].
    fn events(self) -> Events<Self>
    where
        Self: Upstream,
    {
        Events::new(self)
    }

    /// Trims the upstream, then refuses allocations, as the device's memory fills up. See [`Pressure::new`].
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Pressure::new`].
    fn pressure(self, options: PressureOptions) -> Result<Pressure<Self>, PressureError>
    where
        Self: Upstream,
    {
        Pressure::new(self, options)
    }

    /// Allocates from `second` when this resource is out of memory. See [`Spill::new`].
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Spill::new`].
    fn spill_to<S: Upstream>(self, second: S) -> Result<Spill<Self, S>, DeviceError>
    where
        Self: Upstream,
    {
        Spill::new(self, second)
    }

    /// Gives each graph that is captured memory of its own. See [`GraphPools`].
    fn graph_pools(self) -> GraphPools<Self>
    where
        Self: Upstream + Send + Sync + 'static,
    {
        GraphPools::new(self)
    }

    /// Calls `function` when this resource is out of memory, and tries again if the function answers
    /// [`Reaction::Retry`]. See [`OnFailure::new`].
    fn on_failure(self, function: impl Fn(&AllocFailure<'_>) -> Reaction + Send + Sync + 'static) -> OnFailure<Self>
    where
        Self: Upstream,
    {
        OnFailure::new(self, function)
    }

    /// Counts this resource's memory under `name` in `ledger`. See [`Tagged`].
    fn tagged(self, ledger: &Arc<Ledger>, name: impl Into<String>) -> Tagged<Self>
    where
        Self: Upstream,
    {
        Tagged::new(self, ledger, name)
    }

    /// Turns automatic prefetch on for all buffers made over the result. See [`AutoPrefetch`].
    ///
    /// # Errors
    ///
    /// Returns the errors of [`AutoPrefetch::new`].
    fn auto_prefetch(self, options: AutoPrefetchOptions) -> Result<AutoPrefetch<Self>, DriverError>
    where
        Self: Upstream<Kind: Migratable>,
    {
        AutoPrefetch::new(self, options)
    }

    /// Prefetches each block to `target` as it is allocated. The result is no [`Upstream`], so this adaptor is the last
    /// one of a stack.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Prefetch::new`].
    fn prefetch(self, target: impl Into<Location>) -> Result<Prefetch<Self>, DeviceError>
    where
        Self: Upstream<Kind: Migratable>,
    {
        Prefetch::new(self, target)
    }

    /// Makes blocks free by their addresses, for code that cannot keep a [`Block`](cumem::Block). Wraps any finished
    /// stack. See [`ByAddress`].
    fn by_address(self) -> ByAddress<Self> {
        ByAddress::new(self)
    }
}

impl<R: MemoryResource> ResourceExt for R {}
