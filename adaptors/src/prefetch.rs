//! [`Prefetch`] moves each block to a device as it is allocated.

use cumem::kind::Migratable;
use cumem::{
    AllocError, Beneath, Block, DeallocError, DriverError, Layer, LayerExt, Location, MemoryResource, Outcome,
    SkipReason, Stream, TrimError, Upstream, hints, record_drop_error,
};
use std::alloc::Layout;
use std::any::Any;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Enqueues, on the stream of each allocation, the migration of the block to a location, so that its first use there
/// does not fault. Blocks that are freed are left where they are.
///
/// Where the pages are already at the target device, by [what the library knows](hints::prefetch_if_needed), the
/// driver is not asked: a block that a pool hands out again costs a look into a table. What moves pages unseen is raw
/// pointers of the host and kernels of other libraries; where those are the rule, [`always`](Self::always) asks at
/// every allocation.
///
/// It must be outermost, so it is no `Upstream`: under a pool it would prefetch each chunk once and no block
/// that is handed out again after an eviction. It must stand on memory that migrates.
///
/// `find::<Prefetched>()` reaches its [`Prefetched`] in any stack.
#[derive(Debug)]
pub struct Prefetch<U> {
    target: Location,
    passes_through: bool,
    always: bool,
    prefetched: Prefetched,
    upstream: U,
}

/// What a [`Prefetch`] did.
#[derive(Debug, Default)]
pub struct Prefetched {
    calls: AtomicU64,
    bytes: AtomicU64,
    avoided: AtomicU64,
    skipped: AtomicU64,
}

impl Prefetched {
    /// Prefetches that were enqueued.
    pub fn calls(&self) -> u64 {
        self.calls.load(Relaxed)
    }

    /// Bytes that they covered.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Relaxed)
    }

    /// Blocks that were there already, so that the driver was not asked.
    pub fn avoided(&self) -> u64 {
        self.avoided.load(Relaxed)
    }

    /// Blocks that were not prefetched: of zero bytes, or passed through.
    pub fn skipped(&self) -> u64 {
        self.skipped.load(Relaxed)
    }
}

impl<U> Prefetch<U> {
    /// Prefetches to `target`, nearly always the upstream's device.
    ///
    /// # Errors
    ///
    /// [`DriverError::NotSupported`] if the upstream's device or the target has no concurrent managed access (before
    /// Pascal, Windows, WSL, Tegra), where the driver rejects every prefetch; [`DriverError::NoSuchDevice`];
    /// [`DriverError::WrongDevice`] if `target` is a device of another machine.
    pub fn new(upstream: U, target: impl Into<Location>) -> Result<Self, DriverError>
    where
        U: Upstream<Kind: Migratable>,
    {
        let target = target.into();
        if let Some(device) = hints::incapable(upstream.device(), target)? {
            let what = "prefetching: it has no concurrent managed access";
            return Err(DriverError::NotSupported { what, device });
        }
        Ok(Self::build(upstream, target, false))
    }

    /// Prefetches where the device can, else lets every block pass as it is, and says so: in a warning through
    /// `tracing` now, in [`Display`](fmt::Display), and in [`Prefetched::skipped`].
    ///
    /// # Errors
    ///
    /// [`DriverError::NoSuchDevice`], or [`DriverError::WrongDevice`] if `target` is a device of another machine.
    pub fn or_pass_through(upstream: U, target: impl Into<Location>) -> Result<Self, DriverError>
    where
        U: Upstream<Kind: Migratable>,
    {
        let target = target.into();
        let incapable = hints::incapable(upstream.device(), target)?;
        if let Some(device) = incapable {
            tracing::warn!(%device, "no concurrent managed access: blocks pass through without prefetch");
        }
        Ok(Self::build(upstream, target, incapable.is_some()))
    }

    fn build(upstream: U, target: Location, passes_through: bool) -> Self {
        Self { target, passes_through, always: false, prefetched: Prefetched::default(), upstream }
    }

    /// Asks the driver at every allocation, whatever is known of the pages.
    #[must_use]
    pub fn always(self) -> Self {
        Self { always: true, ..self }
    }

    /// What it draws from.
    pub fn upstream(&self) -> &U {
        &self.upstream
    }

    /// Where it prefetches to.
    pub fn target(&self) -> Location {
        self.target
    }

    /// Whether it only lets blocks pass, because the device cannot prefetch.
    pub fn passes_through(&self) -> bool {
        self.passes_through
    }

    /// What it did.
    pub fn prefetched(&self) -> &Prefetched {
        &self.prefetched
    }
}

impl<U: Layer> Layer for Prefetch<U> {
    fn describe(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let note = match (self.passes_through, self.always) {
            (true, _) => ", passing through",
            (false, true) => ", always",
            (false, false) => "",
        };
        write!(f, "prefetch({}{note})", self.target)
    }
    fn beneath(&self) -> Beneath<'_> {
        Beneath::Layer(&self.upstream)
    }
    fn state(&self) -> &dyn Any {
        &self.prefetched
    }
    fn trim_layer(&self, _keep: usize) -> Result<usize, TrimError> {
        Ok(0)
    }
}

// SAFETY: every block is the upstream's, handed on unchanged.
unsafe impl<U: Upstream<Kind: Migratable>> MemoryResource for Prefetch<U> {
    type Kind = U::Kind;

    fn allocate(&self, stream: &Stream, layout: Layout) -> Result<Block, AllocError> {
        let block = self.upstream.allocate(stream, layout)?;
        let outcome = match (self.passes_through, self.always) {
            (true, _) => return Ok(self.skip(block)),
            (false, true) => hints::prefetch(&block, 0..block.size(), self.target, stream),
            (false, false) => hints::prefetch_if_needed(&block, 0..block.size(), self.target, stream),
        };
        match outcome {
            Ok(Outcome::Applied) => {
                self.prefetched.calls.fetch_add(1, Relaxed);
                self.prefetched.bytes.fetch_add(block.size() as u64, Relaxed);
                Ok(block)
            }
            Ok(Outcome::Skipped(SkipReason::AlreadyThere)) => {
                self.prefetched.avoided.fetch_add(1, Relaxed);
                Ok(block)
            }
            Ok(Outcome::Skipped(_)) => Ok(self.skip(block)),
            Err(source) => {
                let requested = block.size();
                // SAFETY: nobody but this method has seen the block, and its prefetch was refused.
                let returned = unsafe { self.upstream.deallocate(stream, block) };
                record_drop_error("a block that could not be prefetched", returned);
                Err(AllocError::PrefetchFailed { requested, source })
            }
        }
    }

    unsafe fn deallocate(&self, stream: &Stream, block: Block) -> Result<(), DeallocError> {
        // SAFETY: this method's contract is the upstream's.
        unsafe { self.upstream.deallocate(stream, block) }
    }
}

impl<U> Prefetch<U> {
    fn skip(&self, block: Block) -> Block {
        self.prefetched.skipped.fetch_add(1, Relaxed);
        block
    }
}

impl<U: Layer> fmt::Display for Prefetch<U> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        cumem::layer::fmt_stack(self, f)
    }
}
