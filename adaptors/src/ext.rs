//! [`ResourceExt`]: one method per adaptor, so that a stack reads from the leaf outwards.

use crate::{Limiter, Pool, PoolError, PoolOptions, Prefetch, Size, Statistics};
use cumem::kind::Migratable;
use cumem::{DriverError, Location, MemoryResource, Upstream};

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
