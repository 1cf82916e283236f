//! `Statistics`: its counters and scopes, and that a refused call changes none of them.

use crate::common::{free, sim};
use cumem::error::DeallocReason;
use cumem::{CudaResource, LayerExt, MemoryResource, layout};
use cumem_adaptors::{ResourceExt, Statistics, StatisticsState};

#[test]
fn counts_bytes_blocks_peaks_totals_and_failures() {
    let (device, stream) = sim();
    let stack = CudaResource::new(&device).statistics();
    let a = stack.allocate(&stream, layout::bytes(1000).unwrap()).unwrap();
    let b = stack.allocate(&stream, layout::bytes(500).unwrap()).unwrap();
    free(&stack, &stream, a).unwrap();
    let empty = stack.allocate(&stream, layout::bytes(0).unwrap()).unwrap();
    assert!(stack.allocate(&stream, layout::bytes(1 << 50).unwrap()).unwrap_err().is_out_of_memory());

    let counts = stack.state().counts();
    assert_eq!((counts.current_bytes, counts.peak_bytes, counts.total_bytes), (500, 1500, 1500));
    assert_eq!((counts.current_blocks, counts.peak_blocks, counts.total_blocks), (2, 2, 3));
    assert_eq!(counts.failures, 1);

    free(&stack, &stream, b).unwrap();
    free(&stack, &stream, empty).unwrap();
    let counts = stack.state().counts();
    assert_eq!((counts.current_bytes, counts.current_blocks, counts.peak_bytes), (0, 0, 1500));
}

#[test]
fn scopes_nest_and_end_in_any_order() {
    let (device, stream) = sim();
    let stack = CudaResource::new(&device).statistics();
    let before = stack.allocate(&stream, layout::bytes(100).unwrap()).unwrap();

    let outer = stack.state().scope();
    let a = stack.allocate(&stream, layout::bytes(1000).unwrap()).unwrap();
    let inner = stack.state().scope();
    let b = stack.allocate(&stream, layout::bytes(300).unwrap()).unwrap();
    free(&stack, &stream, a).unwrap();
    free(&stack, &stream, before).unwrap();

    // In the inner scope, 300 bytes were allocated and 1100 bytes of earlier blocks were freed.
    let counts = inner.counts();
    assert_eq!((counts.current_bytes, counts.peak_bytes, counts.total_bytes), (-800, 300, 300));
    let counts = outer.end();
    assert_eq!((counts.current_bytes, counts.peak_bytes, counts.total_bytes), (200, 1300, 1300));

    free(&stack, &stream, b).unwrap();
    assert_eq!(inner.end().current_bytes, -1100);
    assert_eq!(stack.state().counts().current_bytes, 0);
}

#[test]
fn a_thread_scope_counts_its_thread_only() {
    let (device, stream) = sim();
    let stack = CudaResource::new(&device).statistics();
    let mine = stack.state().thread_scope();
    let everybody = stack.state().scope();
    std::thread::scope(|threads| {
        threads.spawn(|| {
            let block = stack.allocate(&stream, layout::bytes(4096).unwrap()).unwrap();
            free(&stack, &stream, block).unwrap();
        });
    });
    assert_eq!(mine.end().total_blocks, 0);
    assert_eq!(everybody.end().total_blocks, 1);
}

/// Each scope counts its own thread, from its beginning to its end, also where another thread ends it.
#[test]
fn threads_with_a_scope_each() {
    let (device, stream) = sim();
    let stack = CudaResource::new(&device).statistics();
    let totals: Vec<_> = std::thread::scope(|threads| {
        let work = |blocks: u64| {
            let (stack, stream) = (&stack, &stream);
            move || {
                let [ended, kept] = [(); 2].map(|()| stack.state().thread_scope());
                for step in 0..blocks {
                    let block = stack.allocate(stream, layout::bytes(256).unwrap()).unwrap();
                    assert_eq!(kept.counts().current_blocks, 1);
                    assert_eq!(ended.counts().total_blocks, step + 1);
                    free(stack, stream, block).unwrap();
                }
                drop(ended);
                kept
            }
        };
        let workers = Vec::from_iter((1..=8).map(|blocks| threads.spawn(work(blocks))));
        workers.into_iter().map(|worker| worker.join().unwrap().end().total_blocks).collect()
    });
    assert_eq!(totals, Vec::from_iter(1..=8));
    assert_eq!(stack.state().counts().total_blocks, 36);
}

#[test]
fn a_free_of_more_than_is_allocated_is_refused_and_returns_the_block() {
    let (device, stream) = sim();
    let shared = CudaResource::new(&device);
    let (one, two) = (Statistics::new(&shared), Statistics::new(&shared));
    let block = one.allocate(&stream, layout::bytes(4096).unwrap()).unwrap();

    let error = free(&two, &stream, block).unwrap_err();
    assert_eq!(error.reason, DeallocReason::NotOutstanding { layer: "statistics", outstanding: 0, returned: 4096 });
    assert_eq!(two.state().counts(), Default::default());
    free(&one, &stream, error.block).unwrap();
    assert_eq!(one.state().counts().current_bytes, 0);
}

#[test]
fn a_refused_free_restores_the_counts() {
    let (device, stream) = sim();
    let stack = CudaResource::new(&device).statistics();
    let own = stack.allocate(&stream, layout::bytes(4096).unwrap()).unwrap();
    let foreign = CudaResource::new(&device);
    let block = foreign.allocate(&stream, layout::bytes(4096).unwrap()).unwrap();

    let error = free(&stack, &stream, block).unwrap_err();
    assert_eq!(error.reason, DeallocReason::Foreign { layer: "device" });
    assert_eq!(stack.state().counts().current_bytes, 4096);
    free(&foreign, &stream, error.block).unwrap();
    free(&stack, &stream, own).unwrap();
}

#[test]
fn found_through_erasure_outermost_first() {
    let (device, stream) = sim();
    let stack = CudaResource::new(&device).statistics().limit(1 << 20).statistics();
    let stack = cumem::AnyUpstream::new(stack).finish();
    let block = stack.allocate(&stream, layout::bytes(77).unwrap()).unwrap();
    assert_eq!(stack.find::<StatisticsState>().unwrap().counts().current_bytes, 77);
    assert_eq!(stack.find_all::<StatisticsState>().len(), 2);
    assert_eq!(
        stack.to_string(),
        format!("statistics over limit(1MiB) over statistics over device on {}", device.id())
    );
    free(&stack, &stream, block).unwrap();
}
