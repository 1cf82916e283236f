//! [`Pool`] allocates blocks from large chunks of its upstream.
//!
//! # How it is built
//!
//! The pool counts addresses and sizes in units of 256 bytes. It keeps all its bookkeeping on the host, outside the
//! memory that it manages. The bookkeeping has two levels.
//!
//! - Each stream has a **heap** (`pool/heap.rs`): a TLSF allocator over the memory that the stream works with,
//!   protected by a lock per stream. A small table, which a hit only reads, maps the stream's number to its heap
//!   (`pool/streams.rs`). A hit takes one lock and constant time. Threads on different streams share no lock, and no
//!   cache line that any of them writes.
//! - Misses share the **arena** (`pool/arena.rs`): free memory that belongs to no stream, ordered by address. One
//!   mutex, *the pool's mutex*, protects the arena and the **chunks** of the upstream (`pool/chunks.rs`).
//!
//! A block's tag names its slot in that table and its node in the heap, so a free needs no search.
//!
//! A stream that misses tries these sources in order (`pool/miss.rs`):
//!
//! - a piece of the arena, or of the heap of an idle stream;
//! - a piece made by joining its own heap with the arena memory that it may use at once;
//! - a piece for which it has to wait;
//! - a piece made by joining all free memory.
//!
//! Only then does the pool grow. With [`Crossing::GrowFirst`], it grows before the stream waits.
//!
//! How the pool grows depends on its upstream:
//!
//! - If the upstream maps memory into one range of addresses, the pool maps only what is missing beside free memory
//!   (`pool/grow_in_place.rs`). If the pool would then exceed its slack or its maximum, it maps free memory from
//!   several places end to end a second time, and uses it as one piece (`pool/stitch.rs`).
//! - Unified (managed) memory occupies no pages until it is used. There, a new chunk is as large as all chunks before
//!   it, and the pool grows by using more of that chunk (`pool/untouched.rs`).
//!
//! If growth fails too, the host waits where the driver cannot make a stream wait. Whole free chunks are then returned,
//! so that the upstream can allocate differently.
//!
//! Taking memory from other streams' heaps costs time but no memory. Streams that are all a little short can take from
//! each other forever. One thread can afford that. If threads keep waiting for each other over it, the pool grows
//! instead.
//!
//! # Why it is right
//!
//! Four invariants hold whenever no lock is held:
//!
//! 1. Every unit of every chunk is in exactly one place: a live block, a heap's free memory, the arena, or the upper
//!    part of a chunk that no stream has been given yet. It is at exactly one address: its original address or one in a
//!    stitch.
//! 2. A stream may use all free memory in its heap: every earlier use was enqueued before the stream's present point.
//! 3. A piece in the arena carries *fences*: events such that every earlier use was enqueued before one of them. Every
//!    stream may use a piece without fences.
//! 4. A live block is bound to no stream, only to the heap that holds its node.
//!
//! Memory moves in five ways, and each keeps the invariants:
//!
//! - *Allocate* makes free memory of the stream's heap live. Invariant 2 is what the contract requires of a new block.
//! - *Deallocate* on a stream makes the block free in that stream's heap. Invariant 2 holds by the caller's promise. If
//!   the node is in another heap, it moves under both locks. No event is recorded in either case.
//! - *Folding* takes free memory out of a heap and, unless the stream is idle, records one event for it: 2 becomes 3.
//!   The pool folds a heap when another stream needs memory, when the pool frees chunks, when it holds the last handle
//!   of a stream, and when a slot is given to another stream. Freed memory gets an event in no other case.
//! - *Serving a miss* makes the stream wait for those fences of the piece that the driver does not report as reached.
//!   Then the piece enters the stream's heap: 3 becomes 2.
//! - *Stitching* and unstitching give memory of the arena another address. The fences stay with the memory. The old
//!   addresses stay mapped until the work that used them is done.
//!
//! Locks are taken in one order: the pool's mutex first, then slots by number. A hit takes one slot's lock only.

mod adaptor;
mod arena;
mod chunks;
mod classes;
mod cross_stream_free;
mod error;
mod fence;
mod grow_in_place;
mod heap;
mod limits;
mod miss;
mod options;
mod refusal;
mod request;
mod resource;
mod rounding;
mod shared;
mod snapshot;
mod state;
mod stats;
mod stitch;
mod streams;
mod sync;
mod tag;
mod units;
mod untouched;

#[cfg(test)]
mod contention_tests;
#[cfg(all(loom, test))]
mod interleavings;

pub use adaptor::Pool;
pub use cumem::{SizeClass, StreamStats};
pub use error::PoolError;
pub use options::{Crossing, PoolOptions};
pub use snapshot::{PoolRegion, PoolSnapshot, RegionState};
pub use state::PoolState;
pub use stats::PoolStats;

use crate::size::Size;
use cumem::error::InvalidLayout;
use cumem::kind::Migratable;
use cumem::{
    Beneath, CudaVirtualResource, DeallocReason, Layer, LayerExt, Location, ManagedResource, Outcome, SkipReason,
    TrimError, Upstream, hints, layout, record_drop_error,
};
use error::Unreturned;
use fence::Fences;
use grow_in_place::MAPPING_MAX;
use limits::Limits;
use refusal::Released;
use rounding::Rounding;
use shared::Shared;
use std::iter;
use units::UNIT;

impl<U> Pool<U> {
    /// Creates a pool that allocates its chunks from `upstream`.
    ///
    /// # Errors
    ///
    /// Returns
    ///
    /// - [`PoolError::InitialAboveMaximum`] if the initial size is above the maximum;
    /// - [`PoolError::Divisions`] if the number of divisions is not a power of two;
    /// - [`PoolError::Initial`] if the upstream refuses the initial chunk;
    /// - [`PoolError::Driver`] if the pool's own stream cannot be created.
    pub fn new(upstream: U, options: PoolOptions) -> Result<Self, PoolError>
    where
        U: Upstream,
    {
        let device = upstream.device().clone();
        let total = device.attributes().total_memory;
        let bytes = |size: Option<Size>| size.map(|size| size.bytes_of(total));
        let (initial, maximum) = (bytes(options.initial).unwrap_or(0), bytes(options.maximum));
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
            step: bytes(options.step),
            release_threshold: bytes(options.release_threshold),
            slack: options.slack.unwrap_or(Size::Percent(if lazy { 66 } else { 33 })),
            crossing: options.crossing,
            prefetch: None,
            granularity,
            rounding: bytes(options.up_to).map_or(rounding, |bytes| rounding.up_to(bytes)),
            forwards_larger: options.up_to.is_some(),
            lazy,
        };
        let state = PoolState::new(device, maximum)?;
        let pool = Self { state, limits, options, close: Self::close, trim: Self::trim_to, upstream };
        let mut shared = pool.state.lock();
        let Shared { arena, chunks, service, .. } = &mut *shared;
        chunks.set_joinable(addresses.unwrap_or_default());
        let mut left = initial;
        while left > 0 {
            let bytes = if granularity.is_some() { left.min(MAPPING_MAX) } else { left };
            let grown = chunks.grow(&pool.upstream, service, bytes, bytes, None).map_err(PoolError::Initial)?;
            // The pool owns the chunk before any later step can fail, so that dropping the pool frees it.
            if pool.limits.lazy {
                chunks.untouched.insert(grown.addr..grown.addr + grown.units, Fences::default());
            } else {
                arena.insert(grown.addr, grown.units, chunks.is_boundary(grown.addr), Fences::default());
            }
            left -= bytes;
        }
        if initial > 0 {
            service.synchronize()?;
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
    pub fn prefetch_on_growth(mut self, target: impl Into<Location>) -> Result<Self, PoolError>
    where
        U: Upstream<Kind: Migratable>,
    {
        let target = target.into();
        if !self.state.device.attributes().concurrent_managed_access {
            return Err(PoolError::NoPrefetch(SkipReason::NoConcurrentManagedAccess(self.state.device.id())));
        }
        {
            let mut shared = self.state.lock();
            for chunk in shared.chunks.iter() {
                match hints::prefetch(chunk, 0..chunk.size(), target, &shared.service)? {
                    Outcome::Applied => {}
                    Outcome::Skipped(reason) => return Err(PoolError::NoPrefetch(reason)),
                }
            }
            let untouched: Vec<_> = shared.chunks.untouched.iter().map(|(part, _)| part).collect();
            untouched.into_iter().for_each(|part| shared.touch(part.start, part.end - part.start));
        }
        self.limits.prefetch = Some(target);
        self.limits.lazy = false;
        Ok(self)
    }
}

/// Reports whether all memory of a stack is managed memory, which takes device memory only once it is accessed. The
/// leaves answer, so an erased stack answers as a typed one.
fn is_managed<U: Upstream>(upstream: &U) -> bool {
    let layers = iter::once(upstream as &dyn Layer).chain(upstream.layers_beneath());
    let mut leaves = layers.filter(|layer| matches!(layer.beneath(), Beneath::Device(_)));
    leaves.all(|leaf| leaf.state().is::<ManagedResource>())
}

impl<U: Upstream> Pool<U> {
    /// Returns all of the pool's memory at this moment, piece by piece.
    pub fn snapshot(&self) -> PoolSnapshot {
        self.state.snapshot()
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
    pub fn trim(&self) -> Result<usize, TrimError> {
        self.trim_to(0)
    }

    /// Frees chunks without a live block, from the highest address down, while more than `keep` bytes are reserved.
    /// Returns the number of bytes freed.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`trim`](Self::trim).
    pub fn trim_to(&self, keep: usize) -> Result<usize, TrimError> {
        let mut shared = self.state.lock();
        if shared.chunks.reserved() <= keep {
            return Ok(0);
        }
        self.state.fold_all(&mut shared, None, true).map_err(|error| TrimError::new(0, error))?;
        let Released { bytes, refused } = self.miss(&mut shared).release(keep, true);
        refused.map_or(Ok(bytes), |reason| Err(TrimError::new(bytes, reason)))
    }
}

impl<U> Drop for Pool<U> {
    fn drop(&mut self) {
        (self.close)(self);
    }
}

impl<U: Upstream> Pool<U> {
    fn close(&mut self) {
        let mut shared = self.state.lock();
        let folded = self.state.fold_all(&mut shared, None, true);
        let released = self.miss(&mut shared).release(0, true);
        let stats = self.state.stats_with(&shared);
        if stats.reserved > 0 {
            let refused = folded.err().map(DeallocReason::from).or(released.refused);
            let left = Unreturned { blocks: stats.blocks, bytes: stats.reserved, refused };
            record_drop_error("a pool", Err(left));
        }
    }
}
