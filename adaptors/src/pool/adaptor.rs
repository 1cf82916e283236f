//! [`Pool`], the adaptor: its fields, and its place in a stack.

use super::limits::Limits;
use super::miss::Miss;
use super::options::PoolOptions;
use super::shared::Shared;
use super::state::PoolState;
use super::stats::PoolStats;
use cumem::{Beneath, Layer, TrimError, Upstream};
use std::any::Any;
use std::fmt;

/// A stream-ordered pool that allocates blocks from large chunks of its upstream.
///
/// A block that is freed on a stream can be allocated on that stream again at once, without an event. Another stream
/// gets the memory after it waits for an event, which the pool records when the memory moves between streams. The
/// pool rounds blocks up to multiples of 256 bytes, at any alignment, up to 512 GiB each.
///
/// A block is best freed on the stream that it was allocated on. Any other stream is correct too.
///
/// A hit takes constant time. A miss takes time that grows with the number of free pieces, chunks and stitches. The
/// pool calls its upstream under the pool's mutex, so the upstream must not allocate from or free to the same pool.
///
/// Dropping the pool frees every chunk, in stream order. A chunk with a live block leaks, because that block may still
/// be in use. The leak is recorded as a drop error ([`cumem::take_drop_errors`]).
///
/// `find::<PoolState>()` returns the [`PoolState`] in any stack.
#[derive(Debug)]
pub struct Pool<U> {
    pub(super) state: PoolState,
    pub(super) limits: Limits,
    pub(super) options: PoolOptions,
    /// Called by `Drop`. A function pointer, so that `Pool<U>` needs no `U: Upstream` bound: with a bound on the
    /// struct, rustc reports an unsuitable upstream twice.
    pub(super) close: fn(&mut Self),
    /// Called by `trim_layer`. A function pointer for the same reason.
    pub(super) trim: fn(&Self, usize) -> Result<usize, TrimError>,
    pub(super) upstream: U,
}

impl<U> Pool<U> {
    /// Returns the upstream.
    pub fn upstream(&self) -> &U {
        &self.upstream
    }

    /// Returns the pool's statistics at this moment.
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
