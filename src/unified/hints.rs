//! Hints about unified memory: prefetch and advice, and what became of them.
//!
//! A hint that was carried out answers [`Applied`](Outcome::Applied); one that would mean nothing answers
//! [`Skipped`](Outcome::Skipped) with the reason; one that the driver rejects is an error with its code.
//!
//! | for | use |
//! |---|---|
//! | one hint about a range of a block | [`prefetch`], [`prefetch_if_needed`], [`advise`] |
//! | several hints about one range, all or none, to be undone | [`ManagedMemoryHints`] |
//! | how memory shall migrate, as a value to keep and apply | [`MigrationPolicy`] |
//! | prefetches of many ranges, checked and merged before the first is enqueued | [`PrefetchPlan`] |
//! | what a range has been told, and where its pages are | [`range_attributes`], [`residency`] |

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
