//! [`Prefetch`] moves each block to a device as it is allocated.

use crate::per_thread::PerThread;
use cumem::error::record_drop_error;
use cumem::kind::Migratable;
use cumem::unified::hints::Prefetcher;
use cumem::unified::{HintOutcome, SkipReason, hints};
use cumem::{
    AllocError, Block, DeallocError, DeviceError, DriverError, LayerExt, Location, MemoryResource, Stream, Upstream,
};
use std::alloc::Layout;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// An adaptor that prefetches each block to a location as it is allocated, so that the first use there does not fault.
/// The prefetch is enqueued on the stream of the allocation. Freeing a block does not move its pages.
///
/// If the pages are already at the target according to [this library's record](hints::prefetch_if_needed), the adaptor
/// makes no driver call. A block that a pool reuses then costs one table lookup. The library does not see pages that
/// move because of raw host pointers or kernels of other libraries. Where that is common, use [`always`](Self::always),
/// which calls the driver at every allocation.
///
/// The adaptor must be outermost, so it is no [`Upstream`]. Under a pool it would prefetch each chunk once, and would
/// not prefetch a block that is reused after an eviction. Its upstream must allocate memory whose pages migrate.
///
/// `find::<PrefetchState>()` returns its [`PrefetchState`] from any stack.
///
/// # Examples
///
/// ```
/// use cumem::sim::Profile;
/// use cumem::{Buffer, Device, ManagedResource, Stream};
/// use cumem_adaptors::ResourceExt;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let device = Device::simulated(Profile::default())?;
/// let stream = Stream::new(&device)?;
/// let memory = ManagedResource::new(&device)?.prefetch(device.id())?;
/// let _buffer = Buffer::<u8, _>::zeroed(1 << 20, &stream, &memory)?;
/// assert_eq!((memory.state().calls(), memory.state().bytes()), (1, 1 << 20));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Prefetch<U> {
    target: Location,
    passes_through: bool,
    always: bool,
    prefetcher: Prefetcher,
    state: PrefetchState,
    upstream: U,
}

/// Counts of the prefetches of a [`Prefetch`].
///
/// # Examples
///
/// ```
/// use cumem::sim::Profile;
/// use cumem::{AnyResource, Device, LayerExt, ManagedResource};
/// use cumem_adaptors::{PrefetchState, ResourceExt};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let device = Device::simulated(Profile::default())?;
/// let stack = AnyResource::new(ManagedResource::new(&device)?.prefetch(device.id())?);
/// assert_eq!(stack.find::<PrefetchState>().unwrap().calls(), 0);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Default)]
pub struct PrefetchState {
    calls: AtomicU64,
    bytes: AtomicU64,
    /// Counted at each warm allocation, so threads must not share it.
    avoided: PerThread,
    skipped: AtomicU64,
}

impl PrefetchState {
    /// Returns the number of prefetches that were enqueued.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Buffer, Device, LayerExt, ManagedResource, Stream};
    /// # use cumem_adaptors::{PrefetchState, ResourceExt};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// let stack = ManagedResource::new(&device)?.prefetch(device.id())?;
    /// let _zeros = Buffer::<u8, _>::zeroed(4 << 20, &stream, &stack)?;
    /// assert_eq!(stack.find::<PrefetchState>().unwrap().calls(), 1);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn calls(&self) -> u64 {
        self.calls.load(Relaxed)
    }

    /// Returns the bytes that those prefetches covered.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Buffer, Device, LayerExt, ManagedResource, Stream};
    /// # use cumem_adaptors::{PrefetchState, ResourceExt};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// let stack = ManagedResource::new(&device)?.prefetch(device.id())?;
    /// let _zeros = Buffer::<u8, _>::zeroed(4 << 20, &stream, &stack)?;
    /// assert_eq!(stack.find::<PrefetchState>().unwrap().bytes(), 4 << 20);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Relaxed)
    }

    /// Returns the number of blocks whose pages were already at the target, so that the driver was not called.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem::sim::Profile;
    /// use cumem::{Buffer, Device, ManagedResource, Stream};
    /// use cumem_adaptors::{PoolOptions, ResourceExt};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let device = Device::simulated(Profile::default())?;
    /// let stream = Stream::new(&device)?;
    /// let memory = ManagedResource::new(&device)?.pool(PoolOptions::new())?.prefetch(device.id())?;
    /// for _ in 0..3 {
    ///     drop(Buffer::<u8, _>::zeroed(1 << 20, &stream, &memory)?);
    /// }
    /// assert_eq!((memory.state().calls(), memory.state().avoided()), (1, 2)); // the pool reuses the block
    /// # Ok(())
    /// # }
    /// ```
    pub fn avoided(&self) -> u64 {
        self.avoided.get()
    }

    /// Returns the number of blocks that were not prefetched, because they have zero bytes or because the adaptor
    /// passes blocks through.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Buffer, Device, LayerExt, ManagedResource, Stream};
    /// # use cumem_adaptors::{Prefetch, PrefetchState};
    /// # let device = Device::simulated(Profile::wsl())?; // its driver cannot prefetch
    /// # let stream = Stream::new(&device)?;
    /// let stack = Prefetch::or_pass_through(ManagedResource::new(&device)?, device.id())?;
    /// let _zeros = Buffer::<u8, _>::zeroed(4 << 20, &stream, &stack)?;
    /// assert_eq!(stack.find::<PrefetchState>().unwrap().skipped(), 1);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn skipped(&self) -> u64 {
        self.skipped.load(Relaxed)
    }
}

impl<U> Prefetch<U> {
    /// Creates the adaptor. `target` is nearly always the upstream's device.
    ///
    /// # Errors
    ///
    /// - Returns [`DriverError::NotSupported`] if the upstream's device or the target has no concurrent managed access
    ///   (before Pascal, Windows, WSL, Tegra). The driver rejects every prefetch there.
    /// - Returns [`DriverError::NoSuchDevice`] if the machine has no such device.
    /// - Returns [`DeviceError::WrongDevice`] if `target` is a device of another machine.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem::sim::Profile;
    /// use cumem::{Device, ManagedResource};
    /// use cumem_adaptors::Prefetch;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let device = Device::simulated(Profile::wsl())?; // cannot prefetch
    /// assert!(Prefetch::new(ManagedResource::new(&device)?, device.id()).is_err());
    /// # Ok(())
    /// # }
    /// ```
    pub fn new(upstream: U, target: impl Into<Location>) -> Result<Self, DeviceError>
    where
        U: Upstream<Kind: Migratable>,
    {
        let target = target.into();
        if let Some(device) = hints::device_without_migration(upstream.device(), target)? {
            let what = "prefetching: it has no concurrent managed access";
            return Err(DriverError::NotSupported { what, device }.into());
        }
        Ok(Self::build(upstream, target, false))
    }

    /// Creates the adaptor, also for devices that cannot prefetch. On such devices the adaptor returns every block
    /// unchanged. The adaptor reports this in a `tracing` warning when it is created, in
    /// [`Display`](std::fmt::Display), and in [`PrefetchState::skipped`].
    ///
    /// # Errors
    ///
    /// - Returns [`DriverError::NoSuchDevice`] if the machine has no such device.
    /// - Returns [`DeviceError::WrongDevice`] if `target` is a device of another machine.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem::sim::Profile;
    /// use cumem::{Device, ManagedResource};
    /// use cumem_adaptors::Prefetch;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let device = Device::simulated(Profile::wsl())?; // cannot prefetch
    /// let memory = Prefetch::or_pass_through(ManagedResource::new(&device)?, device.id())?;
    /// assert!(memory.passes_through());
    /// # Ok(())
    /// # }
    /// ```
    pub fn or_pass_through(upstream: U, target: impl Into<Location>) -> Result<Self, DeviceError>
    where
        U: Upstream<Kind: Migratable>,
    {
        let target = target.into();
        let incapable = hints::device_without_migration(upstream.device(), target)?;
        if let Some(device) = incapable {
            tracing::warn!(%device, "no concurrent managed access: blocks pass through without prefetch");
        }
        Ok(Self::build(upstream, target, incapable.is_some()))
    }

    fn build(upstream: U, target: Location, passes_through: bool) -> Self
    where
        U: Upstream,
    {
        let prefetcher = Prefetcher::new(upstream.device(), target);
        let state = PrefetchState::default();
        Self { target, passes_through, always: false, prefetcher, state, upstream }
    }

    /// Makes the adaptor call the driver at every allocation, even if the pages are at the target according to this
    /// library's record.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem::sim::Profile;
    /// use cumem::{Buffer, Device, ManagedResource, Stream};
    /// use cumem_adaptors::ResourceExt;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let device = Device::simulated(Profile::default())?;
    /// let stream = Stream::new(&device)?;
    /// let memory = ManagedResource::new(&device)?.prefetch(device.id())?.always();
    /// assert!(memory.to_string().contains("always"));
    /// # let _ = Buffer::<u8, _>::zeroed(1, &stream, &memory)?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn always(self) -> Self {
        Self { always: true, ..self }
    }

    /// Returns the upstream.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Device, ManagedResource};
    /// # use cumem_adaptors::{ResourceExt};
    /// # let device = Device::simulated(Profile::default())?;
    /// let stack = ManagedResource::new(&device)?.statistics().prefetch(device.id())?;
    /// assert_eq!(stack.upstream().state().counts().total_blocks, 0);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn upstream(&self) -> &U {
        &self.upstream
    }

    /// Removes this adaptor and returns the upstream. Live blocks stay valid, because the upstream made them:
    /// deallocate them through the upstream. The counts are lost.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Device, ManagedResource};
    /// # use cumem_adaptors::{ResourceExt};
    /// # let device = Device::simulated(Profile::default())?;
    /// let prefetching = ManagedResource::new(&device)?.prefetch(device.id())?;
    /// let counted = prefetching.into_upstream().statistics(); // an adaptor can stand on the upstream
    /// assert!(counted.to_string().starts_with("statistics over managed"));
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn into_upstream(self) -> U {
        self.upstream
    }

    /// Returns the location that blocks are prefetched to.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem::sim::Profile;
    /// use cumem::{Device, Location, ManagedResource};
    /// use cumem_adaptors::ResourceExt;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let device = Device::simulated(Profile::default())?;
    /// let memory = ManagedResource::new(&device)?.prefetch(Location::Host)?;
    /// assert_eq!(memory.target(), Location::Host);
    /// # Ok(())
    /// # }
    /// ```
    pub fn target(&self) -> Location {
        self.target
    }

    /// Reports whether blocks are returned without a prefetch, because the device cannot prefetch.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Device, ManagedResource};
    /// # use cumem_adaptors::{Prefetch};
    /// let device = Device::simulated(Profile::wsl())?; // its driver cannot prefetch
    /// assert!(Prefetch::or_pass_through(ManagedResource::new(&device)?, device.id())?.passes_through());
    /// assert!(Prefetch::new(ManagedResource::new(&device)?, device.id()).is_err());
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn passes_through(&self) -> bool {
        self.passes_through
    }

    /// Returns the counts of this adaptor's prefetches.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem::sim::Profile;
    /// use cumem::{Buffer, Device, ManagedResource, Stream};
    /// use cumem_adaptors::ResourceExt;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let device = Device::simulated(Profile::default())?;
    /// let stream = Stream::new(&device)?;
    /// let memory = ManagedResource::new(&device)?.prefetch(device.id())?;
    /// let _empty = Buffer::<u8, _>::zeroed(0, &stream, &memory)?;
    /// assert_eq!((memory.state().calls(), memory.state().skipped()), (0, 1));
    /// # Ok(())
    /// # }
    /// ```
    pub fn state(&self) -> &PrefetchState {
        &self.state
    }
}

cumem::adaptor_layer! {
    impl[U] Layer for Prefetch<U> {
        upstream: U = upstream;
        describe = |prefetch, f| {
            let note = match (prefetch.passes_through, prefetch.always) {
                (true, _) => ", passing through",
                (false, true) => ", always",
                (false, false) => "",
            };
            write!(f, "prefetch({}{note})", prefetch.target)
        };
        state = state;
    }
}

// SAFETY: every block is the upstream's and is passed on unchanged.
unsafe impl<U: Upstream<Kind: Migratable>> MemoryResource for Prefetch<U> {
    type Kind = U::Kind;

    fn allocate(&self, stream: &Stream, layout: Layout) -> Result<Block, AllocError> {
        let block = self.upstream.allocate(stream, layout)?;
        let outcome = match (self.passes_through, self.always) {
            (true, _) => return Ok(self.skip(block)),
            (false, true) => hints::prefetch(&block, 0..block.size(), self.target, stream),
            (false, false) => self.prefetcher.prefetch_if_needed(&block, stream),
        };
        match outcome {
            Ok(HintOutcome::Applied) => {
                self.state.calls.fetch_add(1, Relaxed);
                self.state.bytes.fetch_add(block.size() as u64, Relaxed);
                Ok(block)
            }
            Ok(HintOutcome::Skipped(SkipReason::AlreadyThere)) => {
                self.state.avoided.add(1);
                Ok(block)
            }
            Ok(HintOutcome::Skipped(_)) => Ok(self.skip(block)),
            Err(source) => {
                let requested = block.size();
                // SAFETY: this method has not returned the block, so no other code knows it;
                // the driver refused its only work, the prefetch.
                let returned = unsafe { self.upstream.deallocate(stream, block) };
                record_drop_error("a block that could not be prefetched", returned);
                Err(AllocError::PrefetchFailed { requested, source })
            }
        }
    }

    unsafe fn deallocate(&self, stream: &Stream, block: Block) -> Result<(), DeallocError> {
        // SAFETY: the caller upholds the contract of this method, which is the upstream's.
        unsafe { self.upstream.deallocate(stream, block) }
    }
}

impl<U> Prefetch<U> {
    fn skip(&self, block: Block) -> Block {
        self.state.skipped.fetch_add(1, Relaxed);
        block
    }
}
