//! Buffers, and the copies between them and the host.

#[macro_use]
#[path = "../common/mod.rs"]
mod common;

mod buffers;
mod other_threads;
mod pinned;
mod portable;
mod transfer;
