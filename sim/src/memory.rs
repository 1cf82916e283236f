//! [`SimulatedMemory`]: which addresses are allocated, and as which kind of memory.

mod aliases;
mod allocation;
mod mapped;
mod table;

pub(super) use allocation::{Allocation, AllocationKind, MemoryRef, Origin, RangeError};
pub(super) use table::SimulatedMemory;
