//! The memory resources that call the driver, and the real driver itself.

#[macro_use]
#[path = "../common/mod.rs"]
mod common;

mod aliases;
mod conformance;
mod cuda_driver;
mod streams;
mod virtual_memory;
