//! A function that is called when memory runs out, and that uses the stack.

use crate::common::{free, sim};
use crate::harness::{MIB, here_and_elsewhere, within_limit};
use cumem::{AnyUpstream, CudaResource, LayerExt, MemoryResource, kind, layout};
use cumem_adaptors::{OnFailureState, PoolOptions, PoolState, Reaction, ResourceExt};
use std::sync::{Arc, OnceLock};

#[test]
fn a_function_uses_the_stack_that_ran_out_of_memory() {
    within_limit("a function that is called when memory runs out", || {
        let (device, stream) = sim();
        let known = Arc::new(OnceLock::<AnyUpstream<kind::Device>>::new());
        let (found, own) = (Arc::clone(&known), stream.clone());
        let pool = CudaResource::new(&device).pool(PoolOptions::new().maximum(8 * MIB)).unwrap();
        let stack = pool.on_failure(move |failure| {
            assert_eq!(failure.layer(), "pool");
            let stack = found.get().expect("set before the first allocation");
            here_and_elsewhere(|| {
                let block = stack.allocate(&own, layout::bytes(1000).unwrap()).unwrap();
                free(stack, &own, block).unwrap();
                // On this thread the function is not called again. On the other thread it would be, without an end.
                assert!(stack.find::<PoolState>().unwrap().stats().reserved <= 8 * MIB);
            });
            let own_failure = stack.allocate(&own, layout::bytes(9 * MIB).unwrap());
            assert!(own_failure.unwrap_err().is_out_of_memory());
            Reaction::Retry
        });
        let stack = AnyUpstream::new(stack.attempts(3));
        assert!(known.set(stack.clone()).is_ok());
        assert!(stack.allocate(&stream, layout::bytes(9 * MIB).unwrap()).unwrap_err().is_out_of_memory());
        let state = stack.find::<OnFailureState>().unwrap();
        assert_eq!((state.calls(), state.gave_up(), state.recovered()), (2, 1, 0));
        // The function has the stack, and the stack has the function.
        std::mem::forget(stack);
    });
}

/// The pool calls its upstream under its mutex, which the function could need.
#[test]
fn beneath_a_pool_the_function_is_not_called() {
    within_limit("a function beneath a pool", || {
        let (device, stream) = sim();
        let upstream = CudaResource::new(&device).limit(4 * MIB).on_failure(|_| panic!("the pool holds its mutex"));
        let pool = upstream.pool(PoolOptions::new().step(2 * MIB)).unwrap();
        let error = pool.allocate(&stream, layout::bytes(9 * MIB).unwrap()).unwrap_err();
        assert!(error.is_out_of_memory());
        assert!(pool.find::<OnFailureState>().unwrap().not_called() > 0);
    });
}
