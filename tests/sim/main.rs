//! The simulator: compared with recordings of real devices, and its race detector, faults and assertions.

#[path = "../common/mod.rs"]
mod common;

mod assertions;
mod faults;
mod planted;
mod races;
mod uvm_calibrate;
mod uvm_experiments;
mod uvm_trace;

// Files of the examples, at the root because they import each other with `crate::`.
#[path = "../../examples/uvm_experiments/exact.rs"]
mod exact;
#[allow(dead_code)] // the example itself uses the rest
#[path = "../../examples/uvm_calibrate/measure.rs"]
mod measure;
#[allow(dead_code)] // the example itself uses the rest
#[path = "../../examples/uvm_experiments/rig.rs"]
mod rig;
#[allow(dead_code)] // the example itself uses the rest
#[path = "../../examples/uvm_experiments/table.rs"]
mod table;
#[allow(dead_code)] // the example itself uses the rest
#[path = "../../examples/uvm_trace/trace.rs"]
mod trace;
