//! [`ResourceExt`]: one method per adaptor, so that a stack reads from the leaf outwards.

use crate::{
    AutoPrefetch, Limiter, Pool, PoolError, PoolOptions, Prefetch, Pressure, PressureError, PressureOptions, Size,
    Spill, Statistics, Tagged,
};
use cumem::accounting::Ledger;
use cumem::kind::Migratable;
use cumem::{AutoPrefetchOptions, DriverError, Location, MemoryResource, Upstream};
use std::sync::Arc;

/// Stacks an adaptor on a resource. The last call is outermost.
pub trait ResourceExt: MemoryResource + Sized {
    /// Keeps memory and hands it out again, in stream order. See [`Pool::new`].
    ///
    /// # Errors
    ///
    /// Those of [`Pool::new`].
    fn pool(self, options: PoolOptions) -> Result<Pool<Self>, PoolError>
    where
        Self: Upstream,
    {
        Pool::new(self, options)
    }

    /// Refuses past `limit`: bytes, or a share of the device's memory. See [`Limiter::new`].
    fn limit(self, limit: impl Into<Size>) -> Limiter<Self>
    where
        Self: Upstream,
    {
        Limiter::new(self, limit)
    }

    /// Counts what goes through. See [`Statistics::new`].
    fn statistics(self) -> Statistics<Self>
    where
        Self: Upstream,
    {
        Statistics::new(self)
    }

    /// Trims, then refuses, as the device fills up. See [`Pressure::new`].
    ///
    /// # Errors
    ///
    /// Those of [`Pressure::new`].
    fn pressure(self, options: PressureOptions) -> Result<Pressure<Self>, PressureError>
    where
        Self: Upstream,
    {
        Pressure::new(self, options)
    }

    /// Draws from `second` when it has no more. See [`Spill::new`].
    ///
    /// # Errors
    ///
    /// Those of [`Spill::new`].
    fn spill_to<S: Upstream>(self, second: S) -> Result<Spill<Self, S>, DriverError>
    where
        Self: Upstream,
    {
        Spill::new(self, second)
    }

    /// Calls its memory `name` in `ledger`. See [`Tagged`].
    fn tagged(self, ledger: &Arc<Ledger>, name: impl Into<String>) -> Tagged<Self>
    where
        Self: Upstream,
    {
        Tagged::new(self, ledger, name)
    }

    /// Turns automatic prefetch on for all buffers over it. See [`AutoPrefetch`].
    ///
    /// # Errors
    ///
    /// Those of [`AutoPrefetch::new`].
    fn auto_prefetch(self, options: AutoPrefetchOptions) -> Result<AutoPrefetch<Self>, DriverError>
    where
        Self: Upstream<Kind: Migratable>,
    {
        AutoPrefetch::new(self, options)
    }

    /// Prefetches each block to `target`, and finishes the stack.
    ///
    /// # Errors
    ///
    /// Those of [`Prefetch::new`].
    fn prefetch(self, target: impl Into<Location>) -> Result<Prefetch<Self>, DriverError>
    where
        Self: Upstream<Kind: Migratable>,
    {
        Prefetch::new(self, target)
    }
}

impl<R: MemoryResource> ResourceExt for R {}
