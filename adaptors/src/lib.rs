//! Adaptors for cumem's memory resources.
//!
//! | adaptor | effect | place in a stack | state for `find` |
//! |---|---|---|---|
//! | [`Pool`] | keeps freed memory and reuses it in stream order | over a leaf | [`PoolState`] |
//! | [`Limiter`] | refuses allocations above a limit | under a pool it limits the pool's chunks, over a pool the users' blocks | [`LimiterState`] |
//! | [`FixedSize`] | keeps freed blocks of one size | over a pool | [`FixedSizeState`] |
//! | [`Binning`] | keeps freed blocks of a few sizes | over a pool | [`BinningState`] |
//! | [`Aligned`] | aligns blocks to more than the upstream does | over a leaf or a pool | [`AlignedState`] |
//! | [`Advise`] | advises the driver about each block, by a policy | under a pool for all its memory, over a pool for large blocks | [`AdviseState`] |
//! | [`Scrub`] | clears memory between its owners | over pools | [`ScrubState`] |
//! | [`Statistics`] | counts bytes, blocks, failures; scopes | anywhere: counts the calls of the layer above | [`StatisticsState`] |
//! | [`Logging`] | writes each call as a row of RMM's log | anywhere: logs the calls of the layer above | [`LoggingState`] |
//! | [`Tracking`] | records each live block; reports leaks | anywhere: records the blocks of the layer above | [`TrackingState`] |
//! | [`Events`] | emits each call as a `tracing` event | anywhere: emits the calls of the layer above | |
//! | [`Tagged`] | names the memory in a ledger | anywhere: over a pool it names users' blocks | [`TaggedState`] |
//! | [`Pressure`] | trims, then refuses, as the device's memory fills up | over a pool | [`PressureState`] |
//! | [`Spill`] | allocates from a second resource when the first is out of memory | over two stacks | [`SpillState`] |
//! | [`OnFailure`] | calls a function when memory runs out, and tries again | over a pool, or over a spill | [`OnFailureState`] |
//! | [`AutoPrefetch`] | prefetches what buffers will use next | anywhere | [`AutoPrefetchState`](cumem::unified::AutoPrefetchState) |
//! | [`Prefetch`] | prefetches each block, unless its pages are already there | outermost | [`PrefetchState`] |
//! | [`ByAddress`] | frees blocks by their addresses, for code that cannot keep a [`Block`](cumem::Block) | over a finished stack | |
//!
//! [`fit_batch`] returns the largest batch that a stack has room for, and [`fit_blocks`] finds out whether some blocks fit
//! together. [`with_oom_recovery`] retries work with fewer items.
//!
//! # When memory runs out
//!
//! A request that finds no memory goes through these steps, from the leaf outwards. Each layer that a stack does not have
//! is left out.
//!
//! 1. The **pool** uses free memory of other streams, joins free memory of several places, and grows by less.
//! 2. The **leaf** frees the staging memory that the library keeps for copies, and calls the driver again.
//! 3. The **pool** frees chunks that are wholly unused, and calls the leaf again.
//! 4. [`Pressure`] trims all layers beneath it, and tries once more.
//! 5. [`Spill`] allocates from its second resource, which has a ladder of its own.
//! 6. [`OnFailure`] calls its function. If the function answers [`Reaction::Retry`], the request starts again at step 1,
//!    at most as often as [`OnFailure::attempts`] permits.
//! 7. The request fails. [`with_oom_recovery`] catches the error and calls the work again with half of its items.
//!
//! A limit refuses before step 1, and its refusal goes on at step 4. The usual order is therefore
//! `leaf | pool | limit | pressure | spill | on_failure`.
//!
//! # Order
//!
//! The adaptor of the last call is outermost. The example makes the same request through the same adaptors in two
//! orders:
//!
//! ```
//! use cumem::sim::Profile;
//! use cumem::{layout, CudaResource, Device, LayerExt, MemoryResource, Stream};
//! use cumem_adaptors::{PoolOptions, ResourceExt, StatisticsState};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let device = Device::simulated(Profile::default())?;
//! let stream = Stream::new(&device)?;
//! let options = PoolOptions::default().initial(64 << 20);
//!
//! let over = CudaResource::new(&device).pool(options)?.statistics();
//! let under = CudaResource::new(&device).statistics().pool(options)?;
//! let request = layout::bytes(1000)?;
//! let (a, b) = (over.allocate(&stream, request)?, under.allocate(&stream, request)?);
//! assert_eq!(over.state().counts().current_bytes, 1000); // the user's request
//! assert_eq!(under.find::<StatisticsState>().unwrap().counts().current_bytes, 64 << 20); // the pool's chunk
//! # // SAFETY: nothing uses the blocks.
//! # unsafe { over.deallocate(&stream, a) }?;
//! # // SAFETY: nothing uses the blocks.
//! # unsafe { under.deallocate(&stream, b) }?;
//! # Ok(())
//! # }
//! ```
//!
//! Some orders do not compile. Memory whose pages do not migrate cannot be prefetched:
//!
//! ```compile_fail,E0277
//! # use cumem::{Device, PinnedResource}; use cumem_adaptors::ResourceExt;
//! # fn stack(device: &Device) {
//! let _ = PinnedResource::new(device).limit(1024).prefetch(device.id());
//! # }
//! ```
//!
//! A [`Prefetch`] cannot be the upstream of another adaptor, whether its type is erased or not:
//!
//! ```compile_fail,E0277
//! # use cumem::ManagedResource; use cumem_adaptors::{Prefetch, ResourceExt};
//! # fn stack(prefetch: Prefetch<ManagedResource>) {
//! let _ = prefetch.statistics();
//! # }
//! ```
//!
//! ```compile_fail,E0277
//! # use cumem::{AnyResource, ManagedResource}; use cumem_adaptors::{Prefetch, Statistics};
//! # fn stack(prefetch: Prefetch<ManagedResource>) {
//! let _ = Statistics::new(AnyResource::new(prefetch));
//! # }
//! ```

mod address_error;
pub mod advise;
pub mod aligned;
mod alignment;
mod at_exit;
pub mod auto_prefetch;
pub mod binning;
mod bins;
pub mod by_address;
pub mod events;
mod ext;
pub mod fit;
pub mod fixed_size;
pub mod graph_pools;
mod headroom;
pub mod limiter;
mod lock;
pub mod logging;
pub mod on_failure;
pub mod oom;
mod parts;
mod per_thread;
pub mod pool;
pub mod prefetch;
pub mod pressure;
pub mod profile;
pub mod scrub;
mod size;
pub mod spec;
pub mod spill;
pub mod statistics;
pub mod tagged;
pub mod tags;
mod thread_id;
pub mod tracking;
mod unfreed;

pub use address_error::AddressError;
pub use advise::{Advise, AdviseState};
pub use aligned::{Aligned, AlignedState};
pub use alignment::AlignmentError;
pub use auto_prefetch::AutoPrefetch;
pub use binning::{Binning, BinningState};
pub use bins::BinError;
pub use by_address::ByAddress;
#[doc(no_inline)]
pub use cumem;
pub use events::Events;
pub use ext::ResourceExt;
pub use fit::{BlocksFit, Fit, FitOptions, fit_batch, fit_blocks};
pub use fixed_size::{FixedSize, FixedSizeState};
pub use graph_pools::{GraphPools, GraphPoolsState};
pub use limiter::{LimitReservation, Limiter, LimiterState};
pub use logging::{LogError, LogOptions, Logging, LoggingState};
pub use on_failure::{AllocFailure, OnFailure, OnFailureState, Reaction};
pub use oom::{NotRecovered, OutOfMemory, Recovered, with_oom_recovery};
pub use pool::{Crossing, Pool, PoolError, PoolOptions, PoolSnapshot, PoolState, PoolStats};
pub use prefetch::{Prefetch, PrefetchState};
pub use pressure::{Pressure, PressureError, PressureLevel, PressureOptions, PressureState};
pub use profile::{ProfileOrder, ProfileReport, ProfileRow};
pub use scrub::{Scrub, ScrubState, ScrubTime};
pub use size::{Size, SizeError};
pub use spec::{AnyStack, NotDeviceAccessible, SpecError, StackSpec};
pub use spill::{Spill, SpillState};
pub use statistics::{Counts, NamedScope, Scope, Statistics, StatisticsState};
pub use tagged::{Tagged, TaggedState};
pub use tracking::{TrackedBlock, Tracking, TrackingDiff, TrackingOptions, TrackingReport, TrackingState};

/// The README's code, compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
