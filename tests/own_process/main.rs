//! Tests that each run in a process of their own: they load a small library as the CUDA driver, fork, or measure the
//! process.

#[path = "../common/mod.rs"]
mod common;

mod fake_driver;
#[cfg(unix)]
mod fork;
mod late_threads;
mod simulator_memory;
