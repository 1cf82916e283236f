//! Allocation traces: every file is read or refused, and a trace that was read can be replayed, after which nothing is
//! left.

#![no_main]

use cumem::{CudaResource, Device, sim::Profile};
use cumem_conformance::Ledger;
use cumem_replay::{Player, Trace};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let trace = match Trace::parse(bytes, "input") {
        Ok(trace) => trace,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return;
        }
    };
    for operation in 0..trace.operations() {
        assert!(trace.line(operation) >= 2, "the header comes first");
        assert!(trace.thread(operation) < trace.threads().len());
    }
    assert!(trace.never_freed() <= trace.operations());
    let device = Device::simulated(Profile::tiny(64 << 20)).unwrap();
    let resource = Ledger::new(CudaResource::new(&device));
    let pass = Player::new(&trace, &resource).unwrap().pass(|_| ()).unwrap();
    assert!(pass.out_of_memory <= pass.operations && pass.operations <= trace.operations() as u64);
    resource.book().settle().unwrap();
});
