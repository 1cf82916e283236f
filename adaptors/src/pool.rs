//! [`Pool`] allocates blocks from large chunks of its upstream.
//!
//! # Structure
//!
//! The pool counts addresses and sizes in units of 256 bytes. All bookkeeping is on the host, outside the memory that
//! the pool manages. The bookkeeping has two levels.
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
//! Only then does the pool grow. With [`Crossing::GrowFirst`], it grows before the stream waits. A stream that has waited
//! a few times gets the same treatment (`pool/patience.rs`): the pool grows until each stream has the memory of its own
//! working set.
//!
//! How the pool grows depends on its upstream:
//!
//! - If the upstream maps memory into one range of addresses, the pool maps only what is missing beside free memory
//!   (`pool/grow_in_place.rs`). If the pool would then exceed its slack or its maximum, it maps free memory from
//!   several places end to end a second time, and uses it as one piece (`pool/stitch.rs`).
//! - Unified (managed) memory occupies no pages until it is used. There, a new chunk is as large as all chunks before
//!   it, and the pool grows by using more of that chunk (`pool/untouched.rs`).
//!
//! A chunk has room for a whole number of blocks like the requested one (`pool/step.rs`). A wholly free chunk is kept
//! for blocks that are not much smaller than those that the chunk was allocated for (`pool/chunks.rs`), as long as the
//! pool can grow. An empty pool with a maximum replaces its chunks by one (`pool/recut.rs`).
//!
//! If growth fails too, the host waits where the driver cannot make a stream wait. Whole free chunks are then returned,
//! so that the upstream can allocate differently.
//!
//! The pool remembers a request that no memory could serve (`pool/futile.rs`). Until a block is freed, it refuses such a
//! request at once, and touches no other stream's heap. If less is free than the request needs, it does so in any case.
//!
//! A stream that takes memory from another stream's heap uses time, and no additional memory. If each stream has
//! slightly too little, the streams take memory from each other again and again. That is acceptable on one thread. If
//! several threads wait for each other because of it, the pool grows instead.
//!
//! # Invariants
//!
//! Four invariants hold whenever no lock is held:
//!
//! 1. Every unit of every chunk is in exactly one place: a live block, a heap's free memory, the arena, or the upper
//!    part of a chunk that no stream has been given yet. The unit is at exactly one address: its original address or
//!    one in a stitch.
//! 2. A stream may use all free memory in its heap: every earlier use was enqueued before the stream's present point.
//! 3. A piece in the arena carries *fences*: events such that every earlier use was enqueued before one of them. Every
//!    stream may use a piece without fences.
//! 4. A live block is bound to no stream, only to the heap that holds its node.
//!
//! Memory moves in six ways, and each keeps the invariants:
//!
//! - *Allocate* makes free memory of the stream's heap live. Invariant 2 is what the contract requires of a new block.
//! - *Deallocate* on a stream makes the block free in that stream's heap. Invariant 2 holds by the caller's promise. If
//!   the node is in another heap, it moves under both locks. No event is recorded in either case.
//! - *Deallocate* of a block with a recorded use on another stream (`pool/record_use.rs`) moves the block's memory to the
//!   arena, with one fence for the stream of the free and one for each such use: invariant 3. No stream waits then. A
//!   stream that later needs memory waits for a fence of a use only if there is no other memory and none to be had.
//! - *Folding* takes free memory out of a heap and, unless the stream is idle, records one event for it: 2 becomes 3.
//!   The pool folds a heap when another stream needs memory, when the pool frees chunks, when no code can use the stream
//!   any more, and when a slot is given to another stream. Freed memory gets an event in no other case. The pool cannot
//!   use another thread's default stream, and must not use a foreign stream, which its owner may have destroyed. For
//!   these the event is one of the whole device.
//! - *Serving a miss* makes the stream wait for those fences of the piece that the driver does not report as reached.
//!   Then the piece enters the stream's heap: 3 becomes 2.
//! - *Stitching* and unstitching give memory of the arena another address. The fences stay with the memory. The old
//!   addresses stay mapped until the work that used them is done.
//!
//! Locks are taken in one order: the pool's mutex first, then slots by number. A hit takes one slot's lock only.

mod adaptor;
mod addresses;
mod arena;
mod chunks;
mod classes;
mod cross_stream_free;
mod declared;
mod error;
mod fence;
mod futile;
mod grow_in_place;
mod growth_lock;
mod heap;
mod idle;
mod limits;
mod miss;
mod options;
mod outside;
mod patience;
mod record_use;
mod recut;
mod refusal;
mod released;
mod request;
mod resource;
mod rounding;
mod shared;
mod snapshot;
mod state;
mod stats;
mod step;
mod stitch;
mod streams;
mod sync;
mod tag;
mod units;
mod untouched;
mod uses;

#[cfg(test)]
mod contention_tests;
#[cfg(all(loom, test))]
mod interleavings;

pub use adaptor::Pool;
pub use cumem::error::{SizeClass, StreamStats};
pub use error::PoolError;
pub use options::{Crossing, PoolOptions};
pub use snapshot::{PoolRegion, PoolSnapshot, RegionState};
pub use state::PoolState;
pub use stats::PoolStats;
