//! [`Pool`], the adaptor: its fields, how it is created, trimmed and dropped, and its place in a stack.

use super::chunks::KEPT_RATIO;
use super::error::{PoolError, Unreturned};
use super::fence::Fences;
use super::grow_in_place::MAPPING_MAX;
use super::limits::Limits;
use super::miss::Miss;
use super::options::PoolOptions;
use super::refusal::Released;
use super::rounding::Rounding;
use super::shared::Shared;
use super::snapshot::PoolSnapshot;
use super::state::PoolState;
use super::stats::PoolStats;
use super::units::UNIT;
use crate::scrub::ScrubState;
use crate::size::Size;
use cumem::error::InvalidLayout;
use cumem::error::{DeallocReason, TrimError, catch_drop_panic, record_drop_error};
use cumem::kind::Migratable;
use cumem::layer::Beneath;
use cumem::unified::{HintOutcome, SkipReason, hints};
use cumem::{CudaVirtualResource, Layer, LayerExt, Location, ManagedResource, Upstream, layout};
use std::mem::ManuallyDrop;
use std::{iter, ptr};

/// A stream-ordered pool that allocates blocks from large chunks of its upstream.
///
/// A block that is freed on a stream can be allocated on that stream again at once, without an event. Another stream
/// gets the memory after it waits for an event, which the pool records when the memory moves between streams. The
/// pool rounds blocks up to multiples of 256 bytes, at any alignment, up to 512 GiB each.
///
/// A free on the stream of the allocation is the fastest. A free on another stream is correct too.
///
/// A hit takes constant time. A miss takes time that grows with the number of free pieces, chunks and stitches. The
/// pool calls its upstream under the pool's mutex, so the upstream must not allocate from or free to the same pool.
///
/// Dropping the pool frees every chunk, in stream order. A chunk with a live block leaks, because that block may still
/// be in use. The leak is recorded as a drop error ([`cumem::error::take_drop_errors`]).
///
/// `find::<PoolState>()` returns the [`PoolState`] in any stack.
///
/// # Examples
///
/// ```
/// use cumem::sim::Profile;
/// use cumem::{Buffer, CudaResource, Device, Stream};
/// use cumem_adaptors::{PoolOptions, ResourceExt};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let device = Device::simulated(Profile::default())?;
/// let stream = Stream::new(&device)?;
/// let pool = CudaResource::new(&device).pool(PoolOptions::new())?;
/// let first = Buffer::<f32, _>::zeroed(1000, &stream, &pool)?;
/// let address = first.as_device_pointer();
/// drop(first);
/// let second = Buffer::<f32, _>::zeroed(1000, &stream, &pool)?;
/// assert_eq!(second.as_device_pointer(), address); // the same memory, and no call of the driver
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Pool<U> {
    pub(super) state: PoolState,
    pub(super) limits: Limits,
    options: PoolOptions,
    /// Called by `Drop`. A function pointer, so that `Pool<U>` needs no `U: Upstream` bound: with a bound on the
    /// struct, rustc reports an unsuitable upstream twice.
    close: fn(&mut Self),
    /// Called by `trim_layer`. A function pointer for the same reason.
    trim: fn(&Self, usize) -> Result<usize, TrimError>,
    pub(super) upstream: U,
}

/// Reports whether all memory of a stack is managed memory, which takes device memory only once it is accessed. The
/// leaves answer, so an erased stack answers as a typed one.
fn is_managed<U: Upstream>(upstream: &U) -> bool {
    let layers = iter::once(upstream as &dyn Layer).chain(upstream.layers_beneath());
    let mut leaves = layers.filter(|layer| matches!(layer.beneath(), Beneath::Device(_)));
    leaves.all(|leaf| leaf.state().is::<ManagedResource>())
}

impl<U> Pool<U> {
    /// Creates a pool that allocates its chunks from `upstream`.
    ///
    /// # Errors
    ///
    /// Returns
    ///
    /// - [`PoolError::InitialAboveMaximum`] if the initial size is above the maximum;
    /// - [`PoolError::Slack`] if the slack is a share of the free memory;
    /// - [`PoolError::Divisions`] if the number of divisions is not a power of two;
    /// - [`PoolError::Initial`] if the upstream refuses the initial chunk;
    /// - [`PoolError::Device`] if the pool's own stream cannot be created, or if the query for free memory fails.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem::sim::Profile;
    /// use cumem::{CudaResource, Device};
    /// use cumem_adaptors::{Pool, PoolOptions};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let device = Device::simulated(Profile::default())?;
    /// let pool = Pool::new(CudaResource::new(&device), PoolOptions::new().initial(1 << 20))?;
    /// assert_eq!(pool.stats().chunks, 1);
    /// # Ok(())
    /// # }
    /// ```
    pub fn new(upstream: U, options: PoolOptions) -> Result<Self, PoolError>
    where
        U: Upstream,
    {
        if upstream.find::<ScrubState>().is_some() {
            return Err(PoolError::OverScrub);
        }
        let device = upstream.device().clone();
        let bytes = |size: Option<Size>| size.map(|size| size.bytes_on(&device)).transpose();
        let (initial, maximum) = (bytes(options.initial)?.unwrap_or(0), bytes(options.maximum)?);
        if let Some(slack @ Size::PercentOfFree(_)) = options.slack {
            return Err(PoolError::Slack { slack });
        }
        if let Some(maximum) = maximum
            && initial > maximum
        {
            return Err(PoolError::InitialAboveMaximum { initial, maximum });
        }
        let rounding = match options.divisions {
            None => Rounding::EXACT,
            Some(divisions) if divisions.is_power_of_two() => Rounding::new(divisions),
            Some(divisions) => return Err(PoolError::Divisions { divisions }),
        };
        let leaf = upstream.find::<CudaVirtualResource>();
        let granularity = leaf.map(CudaVirtualResource::granularity);
        let addresses = leaf.map(CudaVirtualResource::addresses);
        // The leaf rounds up to granules, which would exceed a maximum between two of them.
        let granule = granularity.unwrap_or(UNIT);
        let maximum = maximum.map(|bytes| layout::align_down(bytes, granule));
        let overflow = InvalidLayout { size: initial, alignment: UNIT }.into();
        let initial = layout::align_up(initial, granule).ok_or(PoolError::Initial(overflow))?;
        let initial = initial.min(maximum.unwrap_or(usize::MAX));
        let concurrent = device.attributes().concurrent_managed_access;
        let lazy = concurrent && is_managed(&upstream);
        let limits = Limits {
            maximum,
            step: bytes(options.step)?,
            release_threshold: bytes(options.release_threshold)?,
            slack: options.slack.unwrap_or(Size::Percent(if lazy { 66 } else { 33 })),
            crossing: options.crossing,
            prefetch: None,
            granularity,
            rounding: bytes(options.up_to)?.map_or(rounding, |bytes| rounding.up_to(bytes)),
            forwards_larger: options.up_to.is_some(),
            lazy,
        };
        // A pool with a maximum decides about each whole chunk, because it may replace the chunk. Adjacent mapped chunks
        // are joined, so that none has to stay whole.
        let whole_shift = match maximum {
            Some(_) => 0,
            None if granularity.is_none() && !lazy => KEPT_RATIO.ilog2(),
            None => u32::BITS - 1,
        };
        let state = PoolState::new(device, &limits, whole_shift)?;
        if !options.undeclared {
            state.declare_to_detector();
        }
        let pool = Self { state, limits, options, close: Self::close, trim: Self::trim_to, upstream };
        let mut shared = pool.state.lock()?;
        shared.chunks.set_joinable(addresses.unwrap_or_default());
        let mut left = initial;
        while left > 0 {
            let bytes = if granularity.is_some() { left.min(MAPPING_MAX) } else { left };
            let Shared { chunks, service, .. } = &mut *shared;
            let grown = chunks.grow(&pool.upstream, service, &[bytes], 0, None).map_err(PoolError::Initial)?;
            // The pool owns the chunk before any later step can fail, so that dropping the pool frees it.
            shared.add_chunk(grown, Fences::default(), pool.limits.lazy);
            left -= bytes;
        }
        if initial > 0 {
            shared.service.synchronize()?;
        }
        drop(shared);
        Ok(pool)
    }

    /// Prefetches the pool's memory to `target` now, and every new chunk from now on. The pages are then in place
    /// before the first kernel touches them. An allocation that makes the pool grow fails if the prefetch fails.
    ///
    /// # Errors
    ///
    /// Returns [`PoolError::NoPrefetch`] if the device has no concurrent managed access, or the driver's error.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem::sim::Profile;
    /// use cumem::{Device, ManagedResource};
    /// use cumem_adaptors::{PoolOptions, ResourceExt};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let device = Device::simulated(Profile::default())?;
    /// let pool = ManagedResource::new(&device)?.pool(PoolOptions::new().initial(1 << 20))?;
    /// let pool = pool.prefetch_on_growth(device.id())?;
    /// assert_eq!(pool.stats().touched, 1 << 20); // all pages are on the device
    /// # Ok(())
    /// # }
    /// ```
    pub fn prefetch_on_growth(mut self, target: impl Into<Location>) -> Result<Self, PoolError>
    where
        U: Upstream<Kind: Migratable>,
    {
        let target = target.into();
        if !self.state.device.attributes().concurrent_managed_access {
            return Err(PoolError::NoPrefetch(SkipReason::NoConcurrentManagedAccess(self.state.device.id())));
        }
        {
            let mut shared = self.state.lock()?;
            for chunk in shared.chunks.iter() {
                match hints::prefetch(chunk, 0..chunk.size(), target, &shared.service)? {
                    HintOutcome::Applied => {}
                    HintOutcome::Skipped(reason) => return Err(PoolError::NoPrefetch(reason)),
                }
            }
            let untouched: Vec<_> = shared.chunks.untouched.iter().map(|(part, _)| part).collect();
            untouched.into_iter().for_each(|part| shared.touch(part.start, part.end - part.start));
        }
        self.limits.prefetch = Some(target);
        self.limits.lazy = false;
        Ok(self)
    }

    /// Returns the upstream.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{CudaResource, Device};
    /// # use cumem_adaptors::{PoolOptions, ResourceExt};
    /// # let device = Device::simulated(Profile::default())?;
    /// let pool = CudaResource::new(&device).limit(1 << 30).pool(PoolOptions::new().initial(64 << 20))?;
    /// assert_eq!(pool.upstream().state().allocated(), 64 << 20); // the limiter counts the pool's first chunk
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn upstream(&self) -> &U {
        &self.upstream
    }

    /// Returns the state of the pool, which is all of the pool except its upstream.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem::sim::Profile;
    /// use cumem::{CudaResource, Device};
    /// use cumem_adaptors::{PoolOptions, ResourceExt};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let device = Device::simulated(Profile::default())?;
    /// let pool = CudaResource::new(&device).pool(PoolOptions::new().maximum(1 << 30))?;
    /// assert_eq!(pool.state().maximum(), Some(1 << 30));
    /// # Ok(())
    /// # }
    /// ```
    pub fn state(&self) -> &PoolState {
        &self.state
    }

    /// Returns the pool's statistics at this moment.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem::sim::Profile;
    /// use cumem::{Buffer, CudaResource, Device, Stream};
    /// use cumem_adaptors::{PoolOptions, ResourceExt};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let device = Device::simulated(Profile::default())?;
    /// let stream = Stream::new(&device)?;
    /// let pool = CudaResource::new(&device).pool(PoolOptions::new())?;
    /// let _buffer = Buffer::<u8, _>::zeroed(1000, &stream, &pool)?;
    /// let stats = pool.stats();
    /// assert_eq!((stats.requested, stats.allocated, stats.blocks), (1000, 1024, 1));
    /// # Ok(())
    /// # }
    /// ```
    pub fn stats(&self) -> PoolStats {
        self.state.stats()
    }
}

impl<U: Upstream> Pool<U> {
    /// Returns all of the pool's memory at this moment, piece by piece.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem::sim::Profile;
    /// use cumem::{CudaResource, Device};
    /// use cumem_adaptors::pool::RegionState;
    /// use cumem_adaptors::{PoolOptions, ResourceExt};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let device = Device::simulated(Profile::default())?;
    /// let pool = CudaResource::new(&device).pool(PoolOptions::new().initial(1 << 20))?;
    /// let snapshot = pool.snapshot();
    /// assert_eq!(snapshot.regions[0].state, RegionState::Free);
    /// # Ok(())
    /// # }
    /// ```
    pub fn snapshot(&self) -> PoolSnapshot {
        self.state.snapshot()
    }

    /// Frees every chunk, removes the pool, and returns the upstream.
    ///
    /// # Errors
    ///
    /// Returns the pool itself if it could not free every chunk: while a block of the pool is live, or if the upstream
    /// refuses a chunk, for which [`trim`](Self::trim) returns the reason. The pool works as before, with the chunks
    /// that are left.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem::sim::Profile;
    /// use cumem::{Buffer, CudaResource, Device, Stream};
    /// use cumem_adaptors::{PoolOptions, ResourceExt};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let device = Device::simulated(Profile::default())?;
    /// let stream = Stream::new(&device)?;
    /// let pool = CudaResource::new(&device).pool(PoolOptions::new())?;
    /// drop(Buffer::<u8, _>::zeroed(1000, &stream, &pool)?);
    /// let leaf: CudaResource = pool.into_upstream().map_err(|_| "a block is live")?;
    /// # let _ = leaf;
    /// # Ok(())
    /// # }
    /// ```
    #[expect(clippy::result_large_err, reason = "the caller owned the pool and gets it back")]
    pub fn into_upstream(self) -> Result<U, Self> {
        // `trim` returns the reason for a chunk that stays, if the caller needs the reason. The code below checks
        // whether a chunk stays.
        let _ = self.trim();
        if self.stats().reserved > 0 {
            return Err(self);
        }
        // `Drop` would only free chunks, of which there are none.
        let mut pool = ManuallyDrop::new(self);
        // SAFETY: `pool` is never dropped, and its upstream is not used again, so the value has one owner.
        let upstream = unsafe { ptr::read(&pool.upstream) };
        // SAFETY: `pool` is never dropped, and its state is not used again. The other fields need no drop.
        unsafe { ptr::drop_in_place(&mut pool.state) };
        Ok(upstream)
    }

    /// Frees every chunk that has no live block, and returns the number of bytes freed.
    ///
    /// The pool first joins the free memory of all streams, so every stream's heap starts empty again. Through a
    /// type-erased stack, call [`LayerExt::trim_stack`] instead.
    ///
    /// # Errors
    ///
    /// Returns [`TrimError`] if the upstream refuses a chunk, or if an event cannot be recorded. The pool keeps every
    /// chunk that it could not free.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem::sim::Profile;
    /// use cumem::{Buffer, CudaResource, Device, Stream};
    /// use cumem_adaptors::{PoolOptions, ResourceExt};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let device = Device::simulated(Profile::default())?;
    /// let stream = Stream::new(&device)?;
    /// let pool = CudaResource::new(&device).pool(PoolOptions::new().step(2 << 20))?;
    /// drop(Buffer::<u8, _>::zeroed(1000, &stream, &pool)?);
    /// assert_eq!(pool.trim()?, 2 << 20);
    /// assert_eq!(pool.stats().reserved, 0);
    /// # Ok(())
    /// # }
    /// ```
    pub fn trim(&self) -> Result<usize, TrimError> {
        self.trim_to(0)
    }

    /// Frees chunks without a live block, from the highest address down, while more than `keep` bytes are reserved.
    /// Returns the number of bytes freed.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`trim`](Self::trim).
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem::sim::Profile;
    /// use cumem::{Buffer, CudaResource, Device, Stream};
    /// use cumem_adaptors::{PoolOptions, ResourceExt};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let device = Device::simulated(Profile::default())?;
    /// let stream = Stream::new(&device)?;
    /// let pool = CudaResource::new(&device).pool(PoolOptions::new().step(2 << 20))?;
    /// drop([(); 2].map(|()| Buffer::<u8, _>::zeroed(2 << 20, &stream, &pool)));
    /// assert_eq!(pool.stats().reserved, 4 << 20);
    /// assert_eq!(pool.trim_to(2 << 20)?, 2 << 20);
    /// # Ok(())
    /// # }
    /// ```
    pub fn trim_to(&self, keep: usize) -> Result<usize, TrimError> {
        let mut trimmed = 0;
        let result = self.state.attempt(|shared| (self.trim_locked(shared, keep, &mut trimmed), true));
        result
            .unwrap_or_else(|reentered| Err(reentered.into()))
            .map(|()| trimmed)
            .map_err(|reason| TrimError::new(trimmed, reason))
    }

    fn trim_locked(&self, shared: &mut Shared, keep: usize, trimmed: &mut usize) -> Result<(), DeallocReason> {
        if shared.chunks.reserved() <= keep {
            return Ok(());
        }
        self.state.fold_all(shared, None, true)?;
        let Released { bytes, refused } = self.miss(shared).release(keep, true);
        *trimmed += bytes;
        refused.map_or(Ok(()), Err)
    }

    pub(super) fn miss<'a>(&'a self, shared: &'a mut Shared) -> Miss<'a, U> {
        let Self { state, limits, upstream, .. } = self;
        Miss { state, shared, upstream, limits, crossing: limits.crossing, waited: false }
    }

    fn close(&mut self) {
        let refused = self.state.attempt(|shared| {
            let folded = self.state.fold_all(shared, None, true);
            let released = self.miss(shared).release(0, true);
            (folded.err().map(DeallocReason::from).or(released.refused), true)
        });
        // No other thread uses the pool any more. A thread that reads its state does not call its upstream.
        let refused = refused.unwrap_or(None);
        let stats = self.state.stats();
        if stats.reserved > 0 {
            let left = Unreturned { blocks: stats.blocks, bytes: stats.reserved, refused };
            record_drop_error("a pool", Err(left));
        }
    }
}

cumem::adaptor_layer! {
    impl[U] Layer, Upstream for Pool<U> {
        upstream: U = upstream;
        describe = |pool, f| write!(f, "pool{}", pool.options);
        state = state;
        trim_layer = |pool, keep| (pool.trim)(pool, keep);
    }
}

impl<U> Drop for Pool<U> {
    /// Frees all chunks. If the upstream panics at a chunk, the other chunks are freed all the same.
    fn drop(&mut self) {
        let mut left = usize::MAX;
        while !catch_drop_panic("a pool", Some(self.state.device.id()), || (self.close)(self)) {
            // A chunk whose free panics is no longer the pool's. If no chunk went, another round would not help.
            let Ok(reserved) = self.state.lock().map(|shared| shared.chunks.reserved()) else { break };
            if reserved >= left {
                break;
            }
            left = reserved;
        }
    }
}
