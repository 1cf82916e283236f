//! User code never runs while a lock of the library is held. Each test calls the library again from user code: from the
//! closure of a kernel, from an upstream, from a closure that trims, from a function
//! that is called when memory runs out, from the sink of a log, from a subscriber of `tracing`, or
//! from a watcher.
//! Each does so on the same thread and on another thread, for which the user code waits. A test that hangs ends the
//! process with a message.

#[path = "../common/mod.rs"]
mod common;

mod adaptors;
mod harness;
mod kernels;
mod on_failure;
mod sink;
mod subscriber;
mod trimming;
mod upstream;
