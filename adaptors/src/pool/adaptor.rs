//! [`Pool`], the adaptor: what it is made of, and what it is within a stack.

use super::limits::Limits;
use super::miss::Miss;
use super::options::PoolOptions;
use super::shared::Shared;
use super::state::PoolState;
use super::stats::PoolStats;
use cumem::{Beneath, Layer, TrimError, Upstream};
use std::any::Any;
use std::fmt;

/// Cuts blocks out of large chunks of its upstream, in stream order.
///
/// A block freed on a stream is reused on that stream at once, without an event. For another stream it is
/// reused once that stream waits for an event, recorded when the memory crosses. Blocks are cut to
/// multiples of 256 bytes, at any alignment, up to 512 GiB each.
///
/// A block is best freed on the stream that it was allocated on; any other is correct too.
///
/// A hit takes constant time; a miss takes time that grows with the number of free pieces, of chunks and of stitches. The upstream is asked under
/// the pool's central lock, so it must not allocate from or free to this same pool.
///
/// Dropping the pool gives every chunk back, in stream order. A chunk with a block that is still live stays
/// allocated for the rest of the process, since somebody may use it; the loss is recorded as drops' errors
/// are ([`cumem::take_drop_errors`]).
///
/// `find::<PoolState>()` reaches its [`PoolState`] in any stack.
#[derive(Debug)]
pub struct Pool<U> {
    pub(super) state: PoolState,
    pub(super) limits: Limits,
    pub(super) options: PoolOptions,
    /// What drop does. Kept as a value, so that the struct needs no bound: with one, a wrong upstream is told twice.
    pub(super) close: fn(&mut Self),
    /// What trimming does, as a value too.
    pub(super) trim: fn(&Self, usize) -> Result<usize, TrimError>,
    pub(super) upstream: U,
}

impl<U> Pool<U> {
    /// What it draws from.
    pub fn upstream(&self) -> &U {
        &self.upstream
    }

    /// Its memory at this moment.
    pub fn stats(&self) -> PoolStats {
        self.state.stats()
    }
}

impl<U: Upstream> Pool<U> {
    pub(super) fn miss<'a>(&'a self, shared: &'a mut Shared) -> Miss<'a, U> {
        Miss { state: &self.state, shared, upstream: &self.upstream, limits: &self.limits }
    }
}

impl<U: Layer> Layer for Pool<U> {
    fn describe(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pool{}", self.options)
    }
    fn beneath(&self) -> Beneath<'_> {
        Beneath::Layer(&self.upstream)
    }
    fn state(&self) -> &dyn Any {
        &self.state
    }
    fn trim_layer(&self, keep: usize) -> Result<usize, TrimError> {
        (self.trim)(self, keep)
    }
}

impl<U: Layer> fmt::Display for Pool<U> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        cumem::layer::fmt_stack(self, f)
    }
}
