//! Tests of the pool: its contract, programs against a model, and threads.

mod capacity;
#[path = "../common/mod.rs"]
mod common;
mod contract;
mod figures;
mod growth;
mod model;
mod programs;
mod refusals;
mod slabs;
mod source;
mod streams;
mod unified;
