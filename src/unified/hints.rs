//! Hints about unified (managed) memory: prefetches and advice.
//!
//! A function that gives a hint returns [`Applied`](HintOutcome::Applied) if the driver accepted it. It returns
//! [`Skipped`](HintOutcome::Skipped) with the reason if the hint would have no effect. If the driver rejects the hint,
//! the function returns an error with the driver's code.
//!
//! | task | where |
//! |---|---|
//! | one hint about a range of a block | [`prefetch`], [`prefetch_if_needed`], [`advise`] |
//! | many prefetches of whole blocks to one location | [`Prefetcher`] |
//! | several hints about one range, all or none, which can be undone | [`ManagedMemoryHints`] |
//! | advice as a value that can be stored and applied | [`MigrationPolicy`] |
//! | prefetches of many ranges, checked and merged before the first is enqueued | [`PrefetchPlan`] |
//! | the advice for a range, and the location of its pages | [`range_attributes`], [`residency`] |

mod builder;
mod calls;
mod outcome;
mod plan;
mod policy;
mod ranges;

pub use builder::{AppliedHints, Hint, ManagedMemoryHints};
pub(crate) use calls::prefetch_span_if_needed;
pub use calls::{
    Prefetcher, advise, device_without_migration, prefetch, prefetch_if_needed, range_attributes, residency,
};
pub use cumem_driver::{Advice, MemoryType, PrefetchRange, RangeAttributes, Residency};
pub use outcome::{HintOutcome, SkipReason};
pub use plan::{PlanError, PlanReport, PrefetchPlan};
pub use policy::MigrationPolicy;
