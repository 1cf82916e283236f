//! [`Pools`]: the pool of a stack, found once.

use crate::pool::PoolState;
use cumem::{Layer, LayerExt};
use std::ptr::NonNull;

/// Pointers into a stack, which must outlive this value.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pools {
    first: Option<NonNull<PoolState>>,
    /// The first pool, if it is the outermost layer, so that no layer above the pool counts its blocks.
    outermost: Option<NonNull<PoolState>>,
}

// SAFETY: the pointer stands for a shared reference to a `PoolState`, which threads may share.
unsafe impl Send for Pools {}
// SAFETY: as for `Send`.
unsafe impl Sync for Pools {}

impl Pools {
    /// Finds the outermost pool of a stack.
    ///
    /// # Safety
    ///
    /// The caller must ensure that `stack` is neither moved, changed nor dropped while the result exists.
    pub(super) unsafe fn of(stack: &impl Layer) -> Self {
        let outermost = stack.state().downcast_ref::<PoolState>();
        let first = outermost.or_else(|| stack.find());
        Self { first: first.map(NonNull::from), outermost: outermost.map(NonNull::from) }
    }

    /// Returns the outermost pool of the stack.
    #[inline]
    pub(super) fn first(&self) -> Option<&PoolState> {
        // SAFETY: `Layer::state` returned the reference from a shared borrow of the stack. By the contract of `of`, that
        // borrow could last until now.
        self.first.map(|pool| unsafe { pool.as_ref() })
    }

    /// Returns the pool if it is the outermost layer.
    #[inline]
    pub(super) fn outermost(&self) -> Option<&PoolState> {
        // SAFETY: as in `first`.
        self.outermost.map(|pool| unsafe { pool.as_ref() })
    }
}
