//! [`Races`]: finds conflicting uses of memory that the program does not order, by vector clocks.
//!
//! The host and each stream have a [clock] of the steps that are known to have happened before. Work that is enqueued
//! knows the steps that the host and its stream know at that moment. An event carries the clock of its stream at the
//! time of the record. An actor that waits for work, or learns from a query that the work is done, knows all its steps
//! from then on. Two uses of a byte must be ordered by these clocks, unless both are reads. All checks are made when
//! work is enqueued, so timing does not affect the result.
//!
//! A pool also declares which of its memory is in a live block. A use of other memory of the pool is a bug in any order,
//! and so is a use that leaves its block.
#![forbid(unsafe_code)]

mod blocks;
mod clock;
mod detector;
mod hooks;
mod report;
mod shadow;
mod uses;

pub(super) use detector::Races;
pub use report::{AccessKind, MemoryUse, Race, RaceKind};
pub(super) use uses::{UsedRange, used_range};
