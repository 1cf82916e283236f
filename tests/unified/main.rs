//! Unified (managed) memory: hints, prefetch, automatic prefetch and accounting.

#[macro_use]
#[path = "../common/mod.rs"]
mod common;

mod accounting;
mod auto_observes;
mod auto_prefetch;
mod claims;
mod hints;
mod other_devices;
mod prefetch_knows;
mod prefetch_plan;
mod unified;
