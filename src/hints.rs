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

mod advice;
mod attributes;
mod builder;
mod calls;
mod outcome;
mod parts;
mod plan;
mod policy;
mod ranges;

pub use advice::Advice;
pub use attributes::RangeAttributes;
pub use builder::{AppliedHints, Hint, ManagedMemoryHints};
pub use calls::{advise, incapable, prefetch, prefetch_if_needed, range_attributes, residency};
pub use outcome::{Outcome, SkipReason};
pub(crate) use parts::AdvisedParts;
pub use plan::{PlanError, PlanReport, PrefetchPlan};
pub use policy::MigrationPolicy;
pub use ranges::PlannedRange;
