//! [`AutoPrefetch`] turns automatic prefetch on for the buffers of a stack.

use cumem::kind::Migratable;
use cumem::unified::{AutoPrefetchOptions, AutoPrefetchState};
use cumem::{AllocError, Block, DeallocError, DriverError, LayerExt, MemoryResource, Stream, Upstream};
use std::alloc::Layout;

/// An adaptor that observes each [`Buffer`](cumem::Buffer) made over the stack and prefetches the part that the buffer
/// will use next. [`Buffer::auto_prefetch`](cumem::Buffer::auto_prefetch) does the same for one buffer.
/// All buffers of the stack share one stream and one budget.
///
/// The adaptor passes blocks on unchanged, so it may be at any place in the stack. The adaptor may also be the upstream
/// of a [`Prefetch`](crate::Prefetch), which moves whole blocks as they are allocated. Its own upstream must allocate
/// memory whose pages migrate.
///
/// `find::<AutoPrefetchState>()` returns its [`AutoPrefetchState`] from any stack.
///
/// # Examples
///
/// ```
/// use cumem::sim::Profile;
/// use cumem::unified::AutoPrefetchOptions;
/// use cumem::{Buffer, Device, ManagedResource, Stream};
/// use cumem_adaptors::ResourceExt;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let device = Device::simulated(Profile::default())?;
/// let stream = Stream::new(&device)?;
/// let memory = ManagedResource::new(&device)?.auto_prefetch(AutoPrefetchOptions::default())?;
/// let _buffer = Buffer::<u8, _>::zeroed(1 << 20, &stream, &memory)?;
/// assert!(!memory.state().passes_through());
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct AutoPrefetch<U> {
    state: AutoPrefetchState,
    upstream: U,
}

impl<U> AutoPrefetch<U> {
    /// Creates the adaptor. Automatic prefetch is on for all buffers made over it.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`AutoPrefetchState::new`], for example [`DriverError::NotSupported`] if the device has no
    /// concurrent managed access.
    pub fn new(upstream: U, options: AutoPrefetchOptions) -> Result<Self, DriverError>
    where
        U: Upstream<Kind: Migratable>,
    {
        Ok(Self { state: AutoPrefetchState::new(upstream.device(), options)?, upstream })
    }

    /// Creates the adaptor, also for a device without concurrent managed access. On such a device the adaptor observes
    /// no buffer. The adaptor reports this in a `tracing` warning when it is created, in
    /// [`Display`](std::fmt::Display), and in [`AutoPrefetchState::passes_through`].
    ///
    /// # Errors
    ///
    /// Returns the errors of [`AutoPrefetchState::or_pass_through`].
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::unified::AutoPrefetchOptions;
    /// # use cumem::{Device, ManagedResource};
    /// # use cumem_adaptors::AutoPrefetch;
    /// let device = Device::simulated(Profile::wsl())?; // its driver cannot prefetch
    /// let (memory, options) = (ManagedResource::new(&device)?, AutoPrefetchOptions::default());
    /// let stack = AutoPrefetch::or_pass_through(memory, options)?; // `AutoPrefetch::new` returns an error
    /// assert_eq!(stack.state().report().uses, 0);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn or_pass_through(upstream: U, options: AutoPrefetchOptions) -> Result<Self, DriverError>
    where
        U: Upstream<Kind: Migratable>,
    {
        Ok(Self { state: AutoPrefetchState::or_pass_through(upstream.device(), options)?, upstream })
    }

    /// Returns the upstream.
    pub fn upstream(&self) -> &U {
        &self.upstream
    }

    /// Removes this adaptor and returns the upstream. Live blocks stay valid, because the upstream made them:
    /// deallocate them through the upstream. No [`Buffer`](cumem::Buffer) can be left, because each holds the adaptor
    /// that it was made over.
    pub fn into_upstream(self) -> U {
        self.upstream
    }

    /// Returns the state that all buffers of the stack share, for example to read its report.
    pub fn state(&self) -> &AutoPrefetchState {
        &self.state
    }
}

cumem::adaptor_layer! {
    impl[U] Layer for AutoPrefetch<U> {
        upstream: U = upstream;
        describe = |auto, f| {
            let options = auto.state.options();
            let (budget, uses_ahead) = (options.get_budget(), options.get_uses_ahead());
            let note = if auto.state.passes_through() { ", passing through" } else { "" };
            write!(f, "auto_prefetch(budget={}, ahead={uses_ahead}{note})", crate::Size::Bytes(budget))
        };
        state = state;
    }
}

// SAFETY: every block is the upstream's and is passed on unchanged.
unsafe impl<U: Upstream<Kind: Migratable>> MemoryResource for AutoPrefetch<U> {
    type Kind = U::Kind;

    fn allocate(&self, stream: &Stream, layout: Layout) -> Result<Block, AllocError> {
        self.upstream.allocate(stream, layout)
    }

    unsafe fn deallocate(&self, stream: &Stream, block: Block) -> Result<(), DeallocError> {
        // SAFETY: the caller upholds the contract of this method, which is the upstream's.
        unsafe { self.upstream.deallocate(stream, block) }
    }
}

impl<U: Upstream<Kind: Migratable>> Upstream for AutoPrefetch<U> {}
