//! Functions that are called when memory runs out, and the order of all steps.

use crate::common::{free, sim, sim_with};
use cumem::error::{CudaErrorCode, TrimError};
use cumem::sim::{FaultCall, Profile, faults};
use cumem::{
    AllocError, Block, Buffer, CudaResource, DeallocError, HostResource, LayerExt, ManagedResource, MemoryResource,
    Stream, Upstream, layout,
};
use cumem_adaptors::{
    AllocFailure, Fit, Limiter, OnFailure, OnFailureState, PoolOptions, PressureOptions, Reaction, ResourceExt,
    SpillState, StackSpec, fit_batch, fit_blocks, with_oom_recovery,
};
use cumem_conformance::FailNth;
use std::alloc::Layout;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak};

const MIB: usize = 1 << 20;

#[test]
fn the_function_learns_size_layer_and_attempt_and_is_bounded() {
    let (device, stream) = sim();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let calls = Arc::clone(&seen);
    let stack = CudaResource::new(&device).limit(1000).named("search").on_failure(move |failure: &AllocFailure<'_>| {
        assert!(failure.error.is_out_of_memory());
        calls.lock().unwrap().push((failure.requested, failure.attempt, failure.layer().into_owned()));
        Reaction::Retry
    });
    let error = stack.allocate(&stream, layout::bytes(2000).unwrap()).unwrap_err();
    assert!(matches!(error, AllocError::LimitExceeded { requested: 2000, .. }), "{error}");
    let expected: Vec<_> = (1..16).map(|attempt| (2000, attempt, "limit `search`".to_owned())).collect();
    assert_eq!(*seen.lock().unwrap(), expected);
    let few = CudaResource::new(&device).limit(0).on_failure(|_| Reaction::Retry).attempts(0);
    few.allocate(&stream, layout::bytes(1).unwrap()).unwrap_err();
    assert_eq!((few.state().calls(), few.state().gave_up()), (0, 1), "one attempt");
    let block = few.allocate(&stream, layout::bytes(0).unwrap()).unwrap();
    free(&few, &stream, block).unwrap();
}

#[test]
fn a_request_succeeds_once_the_function_has_freed_enough() {
    let (device, stream) = sim();
    let limited = Arc::new(CudaResource::new(&device).limit(4 * MIB));
    let cached: Vec<_> = (0..4).map(|_| Buffer::<u8, _>::zeroed(MIB, &stream, Arc::clone(&limited)).unwrap()).collect();
    let cache = Arc::new(Mutex::new(cached));
    let dropped = Arc::clone(&cache);
    let stack = limited.on_failure(move |_| match dropped.lock().unwrap().pop() {
        Some(buffer) => {
            drop(buffer);
            Reaction::Retry
        }
        None => Reaction::GiveUp,
    });
    let block = stack.allocate(&stream, layout::bytes(3 * MIB).unwrap()).unwrap();
    assert_eq!((stack.state().calls(), stack.state().recovered(), stack.state().gave_up()), (3, 1, 0));
    assert_eq!(cache.lock().unwrap().len(), 1);
    let error = stack.allocate(&stream, layout::bytes(2 * MIB).unwrap()).unwrap_err();
    assert!(error.is_out_of_memory());
    assert_eq!((stack.state().calls(), stack.state().gave_up()), (5, 1), "the second call gave up");
    free(&stack, &stream, block).unwrap();
}

#[test]
fn requests_of_the_function_do_not_call_it_again() {
    let (device, stream) = sim();
    let known = Arc::new(OnceLock::<Weak<OnFailure<Limiter<CudaResource>>>>::new());
    let (found, own, depth) = (Arc::clone(&known), stream.clone(), AtomicUsize::new(0));
    let stack = CudaResource::new(&device).limit(1000).on_failure(move |_| {
        assert_eq!(depth.fetch_add(1, Ordering::Relaxed), 0, "the function called itself");
        let stack = found.get().and_then(Weak::upgrade).unwrap();
        (0..2).for_each(|_| _ = stack.allocate(&own, layout::bytes(2000).unwrap()).unwrap_err());
        depth.store(0, Ordering::Relaxed);
        Reaction::Retry
    });
    let stack = Arc::new(stack.attempts(4));
    assert!(known.set(Arc::downgrade(&stack)).is_ok());
    stack.allocate(&stream, layout::bytes(2000).unwrap()).unwrap_err();
    assert_eq!((stack.state().calls(), stack.state().gave_up()), (3, 1));
}

#[test]
fn only_a_lack_of_memory_calls_the_function() {
    let (device, stream) = sim();
    let stack = CudaResource::new(&device).on_failure(|_| panic!("no memory is lacking"));
    device.simulator().unwrap().fail_nth(FaultCall::AllocateDevice, 1, CudaErrorCode::UNKNOWN);
    assert!(!stack.allocate(&stream, layout::bytes(1000).unwrap()).unwrap_err().is_out_of_memory());
    let refused = stack.allocate(&stream, Layout::from_size_align(1000, 1 << 30).unwrap()).unwrap_err();
    assert!(matches!(refused, AllocError::UnsupportedAlignment { .. }), "{refused}");
    assert_eq!(stack.state().calls(), 0);
}

#[test]
fn a_panic_of_the_function_leaves_the_stack_usable() {
    let (device, stream) = sim();
    let panics = Arc::new(Mutex::new(true));
    let once = Arc::clone(&panics);
    let stack = CudaResource::new(&device).limit(1000).on_failure(move |_| {
        assert!(!std::mem::take(&mut *once.lock().unwrap_or_else(|poisoned| poisoned.into_inner())), "in the function");
        Reaction::GiveUp
    });
    let request = || stack.allocate(&stream, layout::bytes(2000).unwrap());
    assert!(catch_unwind(AssertUnwindSafe(request)).is_err());
    assert!(request().unwrap_err().is_out_of_memory());
    assert_eq!((stack.state().calls(), stack.upstream().state().allocated()), (2, 0), "it is called again");
}

#[test]
fn a_trim_makes_room_for_a_request_of_another_pool() {
    let (device, stream) = sim_with(Profile::tiny(64 << 20));
    let spec = StackSpec::parse("device | limit(32MiB) | pool(step=2MiB) | on_failure(trim)").unwrap();
    let stack = spec.build(&device).unwrap();
    let outside = OnFailure::trimming(CudaResource::new(&device).limit(10));
    assert!(outside.allocate(&stream, layout::bytes(20).unwrap()).is_err());
    assert_eq!((outside.state().calls(), outside.state().gave_up()), (1, 1), "there is nothing to trim");
    let block = stack.allocate(&stream, layout::bytes(30 * MIB).unwrap()).unwrap();
    free(&stack, &stream, block).unwrap();
    assert_eq!(stack.find::<OnFailureState>().unwrap().calls(), 0);
}

/// Notes each step of a request, and refuses all but the last.
struct Noted<U> {
    what: &'static str,
    refuses: bool,
    steps: Arc<Mutex<Vec<&'static str>>>,
    upstream: U,
}

cumem::adaptor_layer! {
    impl[U] Layer, Upstream for Noted<U> {
        upstream: U = upstream;
        describe = |this, f| f.write_str(this.what);
        trim_layer = |this, _keep| {
            this.steps.lock().unwrap().push("trim");
            Ok::<_, TrimError>(if this.refuses { 1 } else { 0 })
        };
    }
}

// SAFETY: every block is the upstream's and is passed on unchanged.
unsafe impl<U: Upstream> MemoryResource for Noted<U> {
    type Kind = U::Kind;

    fn allocate(&self, stream: &Stream, layout: Layout) -> Result<Block, AllocError> {
        self.steps.lock().unwrap().push(self.what);
        if self.refuses {
            let requested = layout.size();
            return Err(AllocError::LimitExceeded { layer: self.what.into(), requested, allocated: 0, limit: 0 });
        }
        self.upstream.allocate(stream, layout)
    }

    unsafe fn deallocate(&self, stream: &Stream, block: Block) -> Result<(), DeallocError> {
        // SAFETY: the caller upholds the contract of the upstream, which is the same.
        unsafe { self.upstream.deallocate(stream, block) }
    }
}

/// The order that the documentation of the crate lists: the upstream, a trim, the upstream again, the second resource,
/// the function, all of it again, and then the smaller batch.
#[test]
fn the_steps_have_the_documented_order() {
    let (device, stream) = sim();
    let steps = Arc::new(Mutex::new(Vec::new()));
    let noted = |what, refuses, leaf| Noted { what, refuses, steps: Arc::clone(&steps), upstream: leaf };
    let first = noted("first", true, CudaResource::new(&device)).pressure(PressureOptions::default()).unwrap();
    let second = noted("second", true, CudaResource::new(&device));
    let called = Arc::clone(&steps);
    let stack = first.spill_to(second).unwrap().on_failure(move |failure| {
        called.lock().unwrap().push("function");
        assert_eq!(failure.layer(), "second");
        Reaction::Retry
    });
    let stack = stack.attempts(2);
    let batches = Mutex::new(Vec::new());
    let recovered = with_oom_recovery(2, 1, |items| {
        batches.lock().unwrap().push(items);
        stack.allocate(&stream, layout::bytes(items * 1000)?).map(drop)
    });
    assert!(recovered.is_err());
    let once = ["first", "trim", "first", "second"];
    let request: Vec<_> = once.iter().chain(&["function"]).chain(&once).copied().collect();
    assert_eq!(*steps.lock().unwrap(), [request.clone(), request].concat());
    assert_eq!(*batches.lock().unwrap(), [2, 1]);
}

#[test]
fn nothing_is_lost_when_a_driver_call_fails() {
    let report = faults::enumerate(&Profile::tiny(64 << 20), |device| {
        let stream = Stream::new(device)?;
        let pool = CudaResource::new(device).pool(PoolOptions::new().step(2 * MIB))?;
        let stack = pool.limit(40 * MIB).spill_to(ManagedResource::new(device)?)?;
        let stack = OnFailure::trimming(stack).attempts(3);
        let result: Result<(), AllocError> = (|| {
            let first = Buffer::<u8, _>::zeroed(30 * MIB, &stream, &stack)?;
            let second = Buffer::<u8, _>::zeroed(20 * MIB, &stream, &stack)?;
            assert!(stack.find::<SpillState>().unwrap().blocks() <= 2);
            drop((first, second));
            Ok(())
        })();
        // A block whose free was refused is live.
        let managed = device.simulator().unwrap().live_allocations().managed.blocks;
        assert_eq!(stack.find::<SpillState>().unwrap().blocks() as u64, managed);
        result.map_err(Box::<dyn std::error::Error>::from)
    });
    report.assert();
}

#[test]
fn blocks_that_fit_together_are_found_out_and_freed() {
    let (device, stream) = sim_with(Profile::tiny(64 << 20));
    let pool = CudaResource::new(&device).pool(PoolOptions::new()).unwrap();
    let all = fit_blocks(&pool, &stream, &[30 * MIB, 0, 20 * MIB, 1000]).unwrap();
    assert!(all.fits() && (all.blocks, all.bytes) == (4, 50 * MIB + 1000), "{all:?}");
    let part = fit_blocks(&pool, &stream, &[30 * MIB, 20 * MIB, 20 * MIB]).unwrap();
    assert_eq!((part.blocks, part.bytes, part.fits()), (2, 50 * MIB, false));
    assert!(part.error.unwrap().is_out_of_memory());
    assert_eq!(pool.stats().blocks, 0);
    let Fit { items, .. } = fit_batch(&pool, MIB, 0, 100).unwrap();
    assert!(fit_blocks(&pool, &stream, &[items * MIB]).unwrap().fits());
    let invalid = fit_blocks(&pool, &stream, &[usize::MAX]).unwrap();
    assert!(matches!(invalid.error, Some(AllocError::InvalidLayout(_))), "{invalid:?}");
    pool.trim().unwrap();
    let upstream = FailNth::new(HostResource::new(&device));
    let faults = upstream.faults();
    faults.fail_deallocation(1);
    let error = fit_blocks(&upstream, &stream, &[1000, 1000]).unwrap_err();
    assert_eq!(faults.calls(), (2, 2), "the other block was freed");
    free(&upstream, &stream, error.block).unwrap();
}
