//! Stacks of adaptors: the default resource, bad input, memory pressure, and a pool over mapped memory.

#[macro_use]
#[path = "../common/mod.rs"]
mod common;

mod bad_input;
mod current;
mod extremes;
mod memory_pressure;
mod staging;
mod stitching;
