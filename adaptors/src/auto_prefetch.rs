//! [`AutoPrefetch`] turns automatic prefetch on for the buffers of a stack.

use cumem::kind::Migratable;
use cumem::{
    AllocError, AutoPrefetchOptions, AutoPrefetched, Beneath, Block, DeallocError, DriverError, Layer, LayerExt,
    MemoryResource, Stream, TrimError, Upstream,
};
use std::alloc::Layout;
use std::any::Any;
use std::fmt;

/// Has each [`Buffer`](cumem::Buffer) that is made over the stack observed, and what it will use next brought ahead, as
/// [`Buffer::auto_prefetch`](cumem::Buffer::auto_prefetch) does for one. The buffers share a stream and a budget.
///
/// It does nothing to blocks, so it may stand anywhere in the stack, and beneath a [`Prefetch`](crate::Prefetch), which
/// moves blocks as they are allocated. It must stand on memory that migrates.
///
/// `find::<AutoPrefetched>()` reaches its [`AutoPrefetched`] in any stack.
#[derive(Debug)]
pub struct AutoPrefetch<U> {
    state: AutoPrefetched,
    upstream: U,
}

impl<U> AutoPrefetch<U> {
    /// For all buffers over the result.
    ///
    /// # Errors
    ///
    /// Those of [`AutoPrefetched::new`], such as [`DriverError::NotSupported`] on a device without concurrent managed
    /// access.
    pub fn new(upstream: U, options: AutoPrefetchOptions) -> Result<Self, DriverError>
    where
        U: Upstream<Kind: Migratable>,
    {
        Ok(Self { state: AutoPrefetched::new(upstream.device(), options)?, upstream })
    }

    /// The same where the device can, else it observes nothing, and says so: in a warning through `tracing` now, in
    /// [`Display`](fmt::Display), and in [`AutoPrefetched::passes_through`].
    ///
    /// # Errors
    ///
    /// Those of [`AutoPrefetched::or_pass_through`].
    pub fn or_pass_through(upstream: U, options: AutoPrefetchOptions) -> Result<Self, DriverError>
    where
        U: Upstream<Kind: Migratable>,
    {
        Ok(Self { state: AutoPrefetched::or_pass_through(upstream.device(), options)?, upstream })
    }

    /// What it draws from.
    pub fn upstream(&self) -> &U {
        &self.upstream
    }

    /// What came of it, for all buffers together.
    pub fn auto_prefetched(&self) -> &AutoPrefetched {
        &self.state
    }
}

impl<U: Layer> Layer for AutoPrefetch<U> {
    fn describe(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let AutoPrefetchOptions { budget, uses_ahead, .. } = self.state.options();
        let note = if self.state.passes_through() { ", passing through" } else { "" };
        write!(f, "auto_prefetch(budget={}, ahead={uses_ahead}{note})", crate::Size::Bytes(budget))
    }
    fn beneath(&self) -> Beneath<'_> {
        Beneath::Layer(&self.upstream)
    }
    fn state(&self) -> &dyn Any {
        &self.state
    }
    fn trim_layer(&self, _keep: usize) -> Result<usize, TrimError> {
        Ok(0)
    }
}

// SAFETY: every block is the upstream's, handed on unchanged.
unsafe impl<U: Upstream<Kind: Migratable>> MemoryResource for AutoPrefetch<U> {
    type Kind = U::Kind;

    fn allocate(&self, stream: &Stream, layout: Layout) -> Result<Block, AllocError> {
        self.upstream.allocate(stream, layout)
    }

    unsafe fn deallocate(&self, stream: &Stream, block: Block) -> Result<(), DeallocError> {
        // SAFETY: this method's contract is the upstream's.
        unsafe { self.upstream.deallocate(stream, block) }
    }
}

impl<U: Upstream<Kind: Migratable>> Upstream for AutoPrefetch<U> {}

impl<U: Layer> fmt::Display for AutoPrefetch<U> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        cumem::layer::fmt_stack(self, f)
    }
}
