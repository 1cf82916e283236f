//! Bookkeeping of unified (managed) memory: where each page is resident, and which pages an access migrates.
//!
//! This module works on page numbers alone. It knows no addresses and no bytes, and its callers pass in the time. Every
//! operation adds its effects to a [`MigrationWork`], from which the rest of the simulator computes time and
//! statistics. The rules and terms are those of NVIDIA's open kernel module (`nvidia-uvm`, 595.45.04).
#![forbid(unsafe_code)]

mod advise;
mod batch;
mod block;
mod chunks;
mod discard;
mod evict;
mod fault;
mod ids;
mod intervals;
mod migrate;
mod pages;
mod policy;
mod rules;
mod select;
mod space;
#[cfg(test)]
mod tests;
mod thrashing;
mod tree;
mod work;

pub(super) use ids::{HOST_NUMA_NODES, ManagedMode, NoMemory, Processor, RangeId};
pub(super) use pages::{BLOCK, PAGE, pages_of};
pub use rules::FaultPrefetch;
pub(super) use rules::{Rules, ThrashingRules};
pub(super) use space::{GpuConfig, Space};
pub(super) use work::{MigrationStep, MigrationWork};
