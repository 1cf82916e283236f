//! Managed (unified) memory: hints, where pages are, what moved and why, and prefetch that follows from use.
//!
//! | for | use |
//! |---|---|
//! | prefetch and advice, one by one | [`hints`], [`Buffer::prefetch`](crate::Buffer::prefetch), [`Buffer::advise`](crate::Buffer::advise) |
//! | several hints about one range, given and undone together | [`ManagedMemoryHints`] |
//! | how memory shall migrate, as a value | [`MigrationPolicy`] |
//! | prefetches of many ranges in one call | [`PrefetchPlan`] |
//! | what moved, why and for whom | [`accounting`] |
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
