//! Unified (managed) memory: prefetch and advice, the location of pages, accounting of migrations, and automatic
//! prefetch.
//!
//! | topic | where |
//! |---|---|
//! | single prefetches and advice | [`hints`], [`Buffer::prefetch`](crate::Buffer::prefetch), [`Buffer::advise`](crate::Buffer::advise) |
//! | several hints about one range, given and undone together | [`ManagedMemoryHints`] |
//! | advice as a value | [`MigrationPolicy`] |
//! | prefetches of many ranges in one call | [`PrefetchPlan`] |
//! | accounting of migrations, by cause, tag and phase | [`accounting`] |
//! | prefetch that follows from how a buffer is used | [`Buffer::auto_prefetch`](crate::Buffer::auto_prefetch), [`AutoPrefetchState`] |

pub mod accounting;
pub(crate) mod auto;
pub mod hints;
pub(crate) mod residency;

pub use auto::{AutoPrefetchOptions, AutoPrefetchReport, AutoPrefetchState, DeviceUse};
pub use hints::{
    Advice, AppliedHints, Hint, HintOutcome, ManagedMemoryHints, MigrationPolicy, PlanError, PlanReport, PrefetchPlan,
    PrefetchRange, RangeAttributes, Residency, SkipReason,
};
