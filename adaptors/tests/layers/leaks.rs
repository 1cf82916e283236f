//! A stack that is dropped while blocks are live reports them, and a test that finds a leak names the blocks.

use crate::common::{free, sim};
use cumem::error::take_drop_errors;
use cumem::{CudaAsyncResource, CudaResource, Device, MemoryResource, Stream, layout};
use cumem_adaptors::{PoolOptions, ResourceExt};
use cumem_test_support::own_process;
use std::panic::{AssertUnwindSafe, catch_unwind};

// These tests read the recorded errors of drops, which the whole process shares.
own_process!(each_layer_reports_its_live_blocks, a_removed_adaptor_reports_nothing, a_machine_reports_its_leaks);

fn errors_of(device: &Device, leaves: bool, drop_stack: impl FnOnce(&Device, &Stream, bool)) -> Vec<String> {
    let stream = Stream::new(device).unwrap();
    drop_stack(device, &stream, leaves);
    take_drop_errors()
}

fn each_layer_reports_its_live_blocks() {
    let run = |device: &Device, stream: &Stream, leaves: bool| {
        let stack = CudaResource::new(device).limit(1 << 20).statistics();
        let block = stack.allocate(stream, layout::bytes(1000).unwrap()).unwrap();
        if !leaves {
            free(&stack, stream, block).unwrap();
        }
    };
    let (device, _stream) = sim();
    assert_eq!(errors_of(&device, false, run), [""; 0]);
    let what = "that were allocated through it are live; free every block before its stack is dropped";
    assert_eq!(
        errors_of(&device, true, run),
        [
            format!("statistics could not be released: 1000 bytes in 1 blocks {what}"),
            format!("a limit could not be released: 1024 bytes {what}"),
        ]
    );
}

fn a_removed_adaptor_reports_nothing() {
    let (device, stream) = sim();
    let stack = CudaResource::new(&device).limit(1 << 20).statistics();
    let block = stack.allocate(&stream, layout::bytes(1000).unwrap()).unwrap();
    let leaf = stack.into_upstream().into_upstream();
    assert_eq!(take_drop_errors(), [""; 0]);
    free(&leaf, &stream, block).unwrap();
    // A pool frees its chunks before the limit beneath it is dropped.
    let pool = CudaResource::new(&device).limit(64 << 20).statistics().pool(PoolOptions::new()).unwrap();
    let block = pool.allocate(&stream, layout::bytes(1000).unwrap()).unwrap();
    free(&pool, &stream, block).unwrap();
    drop(pool);
    assert_eq!(take_drop_errors(), [""; 0]);
}

fn a_machine_reports_its_leaks() {
    let (device, stream) = sim();
    let leaf = CudaResource::new(&device);
    let leaked = leaf.allocate(&stream, layout::bytes(1000).unwrap()).unwrap();
    drop((leaked, leaf, stream, device));
    let errors = take_drop_errors();
    let [error] = &errors[..] else { panic!("{errors:?}") };
    assert!(error.contains("1000 bytes of device memory and 0 bytes of managed memory were never freed"), "{error}");
}

#[test]
fn a_leak_that_an_assertion_finds_has_address_size_and_a_hint() {
    let (device, stream) = sim();
    let (plain, pool) = (CudaResource::new(&device), CudaAsyncResource::new(&device).unwrap());
    let blocks = [
        plain.allocate(&stream, layout::bytes(1000).unwrap()).unwrap(),
        pool.allocate(&stream, layout::bytes(24).unwrap()).unwrap(),
    ];
    let asserted = catch_unwind(AssertUnwindSafe(|| cumem::assert_no_leak!(device)));
    let message = *asserted.unwrap_err().downcast::<String>().unwrap();
    let [first, second] = [&blocks[0], &blocks[1]].map(cumem::Block::addr);
    assert!(message.contains(&format!("1000 bytes of device memory at {first:#x}")), "{message}");
    assert!(message.contains(&format!("24 bytes of stream-ordered memory at {second:#x}")), "{message}");
    assert!(message.contains("hint: drop every buffer"), "{message}");
    let [first, second] = blocks;
    free(&plain, &stream, first).unwrap();
    free(&pool, &stream, second).unwrap();
}
