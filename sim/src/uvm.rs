//! Unified memory's bookkeeping: which pages are where, and which move when somebody touches them.
//!
//! Pure arithmetic on page numbers: it knows neither addresses nor bytes, and of time what it is told. Every operation
//! adds what it did to a [`Work`], from which the rest of the simulator computes time and statistics. The rules are
//! those of NVIDIA's open kernel module (`nvidia-uvm`, 595.45.04), in its terms.
#![forbid(unsafe_code)]

mod advise;
mod batch;

mod block;
mod chunks;
mod discard;
mod evict;
mod fault;
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

pub(super) use pages::PAGE;
pub use rules::FaultPrefetch;
pub(super) use rules::{Rules, ThrashingRules};
pub(super) use space::{BLOCK, GpuConfig, Managed, NoMemory, Processor, RangeId, Space};
pub(super) use work::{Step, Work};
