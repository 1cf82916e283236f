//! `Limiter`: it is exact under contention, can be adjusted, and keeps its count when the upstream fails.

use crate::common::{free, sim, sim_with};
use cumem::error::DeallocReason;
use cumem::sim::Profile;
use cumem::{AllocError, CudaResource, CudaVirtualResource, LayerExt, MemoryResource, Stream, kind, layout};
use cumem_adaptors::{Limiter, LimiterState, PressureOptions, ResourceExt, Size};

#[test]
fn refuses_past_the_limit_with_numbers_and_counts_in_256_bytes() {
    let (device, stream) = sim();
    let stack = CudaResource::new(&device).limit(1024);
    let a = stack.allocate(&stream, layout::bytes(257).unwrap()).unwrap();
    assert_eq!(stack.state().allocated(), 512);
    assert_eq!(
        stack.allocate(&stream, layout::bytes(513).unwrap()).unwrap_err(),
        AllocError::LimitExceeded { layer: "limit".into(), requested: 513, allocated: 512, limit: 1024 }
    );
    let b = stack.allocate(&stream, layout::bytes(512).unwrap()).unwrap();
    assert_eq!(stack.state().remaining(), 0);
    free(&stack, &stream, a).unwrap();
    free(&stack, &stream, b).unwrap();
    assert_eq!(stack.state().allocated(), 0);
}

#[test]
fn a_limit_with_a_rounding_counts_what_the_upstream_takes() {
    let (device, stream) = sim();
    let stack = CudaVirtualResource::new(&device).unwrap().limit_rounded(8 << 20, 2 << 20).unwrap();
    let get = |size| stack.allocate(&stream, layout::bytes(size).unwrap());
    let blocks = [get(1).unwrap(), get((2 << 20) + 1).unwrap(), get(0).unwrap()];
    assert_eq!((stack.state().allocated(), stack.state().remaining()), (6 << 20, 2 << 20));
    assert_eq!(stack.state().allocated(), device.simulator().unwrap().live_allocations().mapped.bytes as usize);
    assert!(get((2 << 20) + 1).is_err());
    let reserved = stack.reserve(1).unwrap();
    assert_eq!((reserved.remaining(), stack.state().remaining()), (2 << 20, 0));
    drop(reserved);
    blocks.into_iter().for_each(|block| free(&stack, &stream, block).unwrap());
    assert_eq!(stack.state().allocated(), 0);
    assert!(stack.to_string().starts_with("limit(8MiB, rounding=2MiB) over virtual"));
}

#[test]
fn the_largest_batch_of_a_limit_with_a_rounding_is_a_whole_number_of_roundings() {
    let (device, stream) = sim();
    let stack = CudaResource::new(&device).limit_rounded((8 << 20) - 1, 2 << 20).unwrap();
    let fit = cumem_adaptors::fit_batch(&stack, 1, 0, usize::MAX).unwrap();
    assert_eq!(fit.items, 6 << 20);
    free(&stack, &stream, stack.allocate(&stream, layout::bytes(fit.bytes).unwrap()).unwrap()).unwrap();
}

#[test]
fn a_share_is_of_the_devices_memory() {
    let (device, _) = sim_with(Profile::tiny(1 << 30));
    let stack = CudaResource::new(&device).limit(Size::Percent(80));
    assert_eq!(stack.state().bytes(), (1_u64 << 30) as usize * 80 / 100);
}

#[test]
fn changes_at_run_time_through_the_stack() {
    let (device, stream) = sim();
    let stack = CudaResource::new(&device).limit(4096).statistics();
    let block = stack.allocate(&stream, layout::bytes(4096).unwrap()).unwrap();
    let limit = stack.find::<LimiterState>().unwrap();
    limit.set_bytes(1024);
    assert_eq!((limit.remaining(), limit.allocated()), (0, 4096));
    assert!(stack.allocate(&stream, layout::bytes(1).unwrap()).is_err());
    free(&stack, &stream, block).unwrap();
    let block = stack.allocate(&stream, layout::bytes(1024).unwrap()).unwrap();
    free(&stack, &stream, block).unwrap();
}

/// No memory is allocated, so no limit is passed.
#[test]
fn zero_bytes_are_never_refused() {
    let (device, stream) = sim();
    let stack = CudaResource::new(&device).limit(4096);
    let full = stack.allocate(&stream, layout::bytes(4096).unwrap()).unwrap();
    let at_the_limit = stack.allocate(&stream, layout::bytes(0).unwrap()).unwrap();
    stack.state().set_bytes(1024);
    let above_the_limit = stack.allocate(&stream, layout::bytes(0).unwrap()).unwrap();
    assert_eq!((stack.state().allocated(), stack.state().remaining()), (4096, 0));
    [full, at_the_limit, above_the_limit].into_iter().for_each(|block| free(&stack, &stream, block).unwrap());
    assert_eq!((stack.state().allocated(), stack.state().remaining()), (0, 1024));
}

/// Only bytes that are freed beyond the debt fit again.
#[test]
fn a_limit_below_the_allocated_bytes_refuses_until_enough_is_freed() {
    let (device, stream) = sim();
    let stack = CudaResource::new(&device).limit(4096);
    let allocate = |bytes: usize| stack.allocate(&stream, layout::bytes(bytes).unwrap());
    let [a, b] = [(); 2].map(|()| allocate(2048).unwrap());
    stack.state().set_bytes(2304);
    free(&stack, &stream, a).unwrap();
    let refused = AllocError::LimitExceeded { layer: "limit".into(), requested: 257, allocated: 2048, limit: 2304 };
    assert_eq!(allocate(257).unwrap_err(), refused);
    let small = allocate(256).unwrap();
    stack.state().set_bytes(usize::MAX);
    let large = allocate(1 << 20).unwrap();
    [b, small, large].into_iter().for_each(|block| free(&stack, &stream, block).unwrap());
    assert_eq!((stack.state().allocated(), stack.state().remaining()), (0, usize::MAX));
}

#[test]
fn a_failing_upstream_leaves_the_count_as_it_was() {
    let (device, stream) = sim_with(Profile::tiny(64 << 20));
    let stack = CudaResource::new(&device).limit(1 << 40);
    for _ in 0..3 {
        assert!(matches!(
            stack.allocate(&stream, layout::bytes(1 << 30).unwrap()),
            Err(AllocError::OutOfMemory { layer: "device", requested, .. }) if requested == 1 << 30
        ));
        assert_eq!(stack.state().allocated(), 0);
    }
}

#[test]
fn a_free_beyond_the_count_is_refused_and_returns_the_block() {
    let (device, stream) = sim();
    let shared = CudaResource::new(&device);
    let (one, two) = (Limiter::new(&shared, 1 << 20), Limiter::new(&shared, 1 << 20));
    let block = one.allocate(&stream, layout::bytes(4096).unwrap()).unwrap();
    let error = free(&two, &stream, block).unwrap_err();
    assert_eq!(error.reason, DeallocReason::NotOutstanding { layer: "limit", outstanding: 0, returned: 4096 });
    free(&one, &stream, error.block).unwrap();
    assert_eq!((one.state().allocated(), two.state().allocated()), (0, 0));
}

#[test]
fn sixteen_threads_never_pass_the_limit_nor_block_each_other_in_vain() {
    let (device, stream) = sim();
    let limit = 16 * 4096;
    let stack = CudaResource::new(&device).limit(limit).statistics();
    std::thread::scope(|threads| {
        for _ in 0..16 {
            threads.spawn(|| {
                for _ in 0..50 {
                    // There is always room for one block per thread, although large requests fail at the same time.
                    let block = stack.allocate(&stream, layout::bytes(4096).unwrap()).unwrap();
                    assert!(stack.allocate(&stream, layout::bytes(limit + 1).unwrap()).is_err());
                    free(&stack, &stream, block).unwrap();
                }
            });
        }
    });
    let counts = stack.state().counts();
    assert!(counts.peak_bytes <= limit as i64, "{counts}");
    assert_eq!((counts.current_bytes, stack.upstream().state().allocated()), (0, 0));
}

#[test]
fn a_refusal_names_the_layer_and_the_tenant() {
    let (device, stream) = sim();
    let shared = CudaResource::new(&device).limit(2048_usize).named("all tenants");
    let search = (&shared).limit(1024_usize).named("search");
    let unnamed = (&shared).limit(4096_usize);
    let refusal = |stack: &dyn MemoryResource<Kind = kind::Device>, bytes| match bytes_of(stack, &stream, bytes) {
        Err(AllocError::LimitExceeded { layer, .. }) => layer.into_owned(),
        other => panic!("{other:?}"),
    };
    assert_eq!(refusal(&search, 1025), "limit `search`");
    assert_eq!(refusal(&unnamed, 2049), "limit `all tenants`", "the child lets it pass, the parent does not");
    assert_eq!(refusal(&unnamed, 4097), "limit");
    let kept = bytes_of(&unnamed, &stream, 1536).unwrap();
    assert_eq!(refusal(&search, 1024), "limit `all tenants` for `search`", "the parent refuses the child");
    let of_search = (&search).limit(1024_usize).named("ranking");
    assert_eq!(refusal(&of_search, 1000), "limit `all tenants` for `search` for `ranking`");
    free(&unnamed, &stream, kept).unwrap();
    assert_eq!((search.state().name(), unnamed.state().name()), (Some("search"), None));
    let options = PressureOptions::default().trim_at(0_usize).refuse_at(0_usize).slack(0_usize).ask_after(0_usize);
    assert_eq!(refusal(&CudaResource::new(&device).pressure(options).unwrap(), 1), "pressure");
}

fn bytes_of(
    stack: &dyn MemoryResource<Kind = kind::Device>,
    stream: &Stream,
    bytes: usize,
) -> Result<cumem::Block, AllocError> {
    stack.allocate(stream, layout::bytes(bytes)?)
}
