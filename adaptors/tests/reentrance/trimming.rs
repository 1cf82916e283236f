//! A closure of `Pressure::trimming` that uses the stack.

use crate::common::{free, sim_with};
use crate::harness::{MIB, here_and_elsewhere, within_limit};
use cumem::sim::Profile;
use cumem::{CudaResource, LayerExt, MemoryResource, layout};
use cumem_adaptors::{Pool, PoolOptions, Pressure, PressureOptions, ResourceExt};
use std::sync::{Arc, OnceLock, Weak};

type Stack = Pressure<Pool<CudaResource>>;

#[test]
fn a_closure_that_trims_allocates_from_its_own_stack() {
    within_limit("a closure that trims", || {
        let (device, stream) = sim_with(Profile::tiny(64 << 20));
        let options = PressureOptions::default().trim_at(16 * MIB).refuse_at(60 * MIB).slack(MIB).ask_after(0);
        // Weak, because the stack owns the closure.
        let known = Arc::new(OnceLock::<Weak<Stack>>::new());
        let (found, own) = (Arc::clone(&known), stream.clone());
        let pool = CudaResource::new(&device).pool(PoolOptions::new()).unwrap();
        let stack = pool.pressure(options).unwrap().trimming(move |pool| {
            let stack = found.get().and_then(Weak::upgrade).expect("set before the first allocation");
            here_and_elsewhere(|| {
                let block = stack.allocate(&own, layout::bytes(MIB).unwrap()).unwrap();
                free(&*stack, &own, block).unwrap();
                assert!(stack.state().used() <= 64 * MIB && pool.stats().reserved > 0);
            });
            Ok(pool.trim_stack(0)?)
        });
        let stack = Arc::new(stack);
        known.set(Arc::downgrade(&stack)).unwrap();
        for _ in 0..3 {
            let block = stack.allocate(&stream, layout::bytes(20 * MIB).unwrap()).unwrap();
            let second = stack.allocate(&stream, layout::bytes(MIB).unwrap()).unwrap();
            [block, second].into_iter().for_each(|block| free(&*stack, &stream, block).unwrap());
        }
        assert!(stack.state().trims() > 0);
    });
}
