//! Buffers, and the copies between them and the host.

#[macro_use]
#[path = "../common/mod.rs"]
mod common;

mod arrays;
mod buffer_faults;
mod buffers;
mod elements;
mod host_vec;
mod leaves;
mod other_threads;
mod pinned;
mod portable;
mod release;
mod scalar;
mod transfer;
mod views;
