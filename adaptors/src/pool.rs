//! [`Pool`] cuts blocks out of large chunks of its upstream.
//!
//! # How it is built
//!
//! Addresses and sizes are counted in units of 256 bytes, and all bookkeeping is on the host, beside the
//! memory. It has two storeys.
//!
//! - Each stream has a **heap** (`pool/heap.rs`): a TLSF over the memory that it works with, behind a lock
//!   of its own, found from the stream's number in a small table that is only read (`pool/slots.rs`). A hit
//!   is one lock and constant time; threads on different streams share no lock, and no line that any of
//!   them writes.
//! - Misses meet in the **arena** (`pool/arena.rs`): memory that is no stream's, ordered by address, behind
//!   one mutex, with the **chunks** of the upstream (`pool/chunks.rs`).
//!
//! A block's tag names its slot and its node, so freeing looks nothing up.
//!
//! A stream that misses looks, in this order (`pool/miss.rs`): in the arena, and in the heaps of streams that are idle;
//! for what it may use at once when its heap and the arena are put together; for what it has to wait for; and for all
//! that is free, put together. Only then does the pool grow, unless [`Crossing::GrowFirst`] puts growth before waiting.
//! Over memory that is mapped into one range of addresses it grows by what is missing beside what is free
//! (`pool/expand.rs`); where it would have too much then, or may have no more, free memory from several places is
//! mapped end to end a second time, and used as one (`pool/stitch.rs`). Unified memory takes nothing until it is used,
//! so there a chunk is as large as all before it, and growth is to use more of it (`pool/untouched.rs`). When that
//! fails too, the host waits where the driver cannot, and whole chunks go back, so that the upstream may cut anew.
//!
//! Taking from each other's heaps costs no memory but time, and streams that are all short of a little can go on with
//! it for ever. That is bearable while one thread does it. Where threads keep waiting for each other over it, the pool
//! grows instead.
//!
//! # Why it is right
//!
//! Four invariants hold whenever no lock is held:
//!
//! 1. Every unit of every chunk is in exactly one place: a live block, a heap's free memory, the arena, or the
//!    upper part of a chunk that nobody has been given yet; and at one address, at home or in a stitch.
//! 2. Whatever is free in a stream's heap may be used by that stream: every earlier use was enqueued before
//!    the present point of the stream.
//! 3. A piece in the arena carries *fences*, events such that every earlier use was enqueued before one of
//!    them. Without fences it may be used by every stream.
//! 4. A live block is bound to no stream, only to the heap that its node is in.
//!
//! Memory moves in five ways, and each keeps them:
//!
//! - *allocate* makes free memory of the stream's own heap live (2 is what the contract asks of it);
//! - *deallocate* on a stream makes it free in that stream's heap, which is 2 by the caller's promise. If
//!   the node is in another heap, it moves, under both locks; there is no event either way;
//! - *folding* takes free memory out of a heap and then, unless the stream is idle, records one event on
//!   it: 2 becomes 3. It happens when another stream is in need, when a stream is held by nobody but the
//!   pool any more, and when a slot changes hands, and nowhere else is an event recorded for freed memory;
//! - *serving a miss* lets the stream wait for the piece's fences that the driver does not report as
//!   reached, and gives the piece to the stream's heap: 3 becomes 2;
//! - *stitching*, and bringing home, gives memory of the arena another address. Its fences go with it, and the old
//!   addresses stay mapped until what they stand for has been reached.
//!
//! Locks are taken in one order: the central one, then slots by number. A hit takes one slot's lock alone.

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
use cumem::kind::{Managed, Migratable};
use cumem::{
    AllocError, CudaVirtualResource, DeallocReason, LayerExt, Location, Outcome, SkipReason, TrimError, Upstream,
    hints, layout, record_drop_error,
};
use error::Unreturned;
use fence::Fences;
use grow_in_place::MAPPING_MAX;
use limits::Limits;
use refusal::Released;
use rounding::Rounding;
use shared::Shared;
use std::any::TypeId;
use units::UNIT;

impl<U> Pool<U> {
    /// A pool that draws from `upstream`.
    ///
    /// # Errors
    ///
    /// [`PoolError::InitialAboveMaximum`]; [`PoolError::Divisions`] unless they are a power of two;
    /// [`PoolError::Initial`] if the upstream refuses the initial chunk; [`PoolError::Driver`] if the pool's own stream
    /// cannot be made.
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
        // What a leaf rounds up to granules would be more than the maximum.
        let granule = granularity.unwrap_or(UNIT);
        let maximum = maximum.map(|bytes| layout::align_down(bytes, granule));
        let overflow = AllocError::InvalidLayout { size: initial, alignment: UNIT };
        let initial = layout::align_up(initial, granule).ok_or(PoolError::Initial(overflow))?;
        let initial = initial.min(maximum.unwrap_or(usize::MAX));
        let concurrent = device.attributes().concurrent_managed_access;
        let lazy = concurrent && TypeId::of::<U::Kind>() == TypeId::of::<Managed>();
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
            // Before anything can fail, so that the pool can give it back.
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

    /// Prefetches what the pool has to `target`, and every chunk that it grows by from now on: pages are
    /// then where they are needed before the first kernel touches them. An allocation for which the pool
    /// must grow fails if the prefetch does.
    ///
    /// # Errors
    ///
    /// [`PoolError::NoPrefetch`] if the device has no concurrent managed access, or what the driver answers.
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

impl<U: Upstream> Pool<U> {
    /// All of its memory at this moment, piece by piece.
    pub fn snapshot(&self) -> PoolSnapshot {
        self.state.snapshot()
    }

    /// Gives back every chunk that has no live block. Bytes given back.
    ///
    /// What streams keep for themselves is put together first, so each of them starts afresh. In a stack whose type
    /// was forgotten, [`LayerExt::trim_stack`] gets here.
    ///
    /// # Errors
    ///
    /// [`TrimError`] if the upstream does not take a chunk, or an event cannot be recorded. Nothing is lost: the pool
    /// keeps what it could not give.
    pub fn trim(&self) -> Result<usize, TrimError> {
        self.trim_to(0)
    }

    /// The same, from the highest chunk down, for as long as more than `keep` bytes are reserved.
    ///
    /// # Errors
    ///
    /// Those of [`trim`](Self::trim).
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
