//! The adaptors other than the pool, stacks from text, and the conformance of all of them.

#[path = "../common/mod.rs"]
mod common;

mod advise;
mod aligned;
mod bins;
mod bookkeeping;
mod by_address;
mod conformance;
mod counters;
mod events;
mod faults;
mod fit;
mod graph_pools;
mod identity;
mod into_upstream;
mod leaks;
mod limiter;
mod logging;
mod on_failure;
mod panics;
mod prefetch;
mod pressure;
mod profiler;
mod reservation;
mod scrub;
mod spec;
mod spec_errors;
mod spill;
mod statistics;
mod tracking;
mod trim;
