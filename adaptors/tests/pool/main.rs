//! Tests of the pool: its contract, programs against a model, and threads.

mod capacity;
#[path = "../common/mod.rs"]
mod common;
mod contract;
mod ended;
mod figures;
mod full;
mod growth;
mod model;
mod programs;
mod record_use;
mod refusals;
mod serialising;
mod slabs;
mod source;
mod streams;
mod unified;
