//! Blocks of a few sizes, which are kept for the streams that freed them.

use crate::common::{free, sim, sim_with};
use cumem::error::{CudaErrorCode, DeallocReason, take_drop_errors};
use cumem::kernel::HostKernel;
use cumem::sim::{FaultCall, Profile};
use cumem::{AllocError, Block, Buffer, CudaResource, Device, LayerExt, MemoryResource, Stream, layout};
use cumem_adaptors::{BinError, Binning, FixedSize, FixedSizeState, PoolOptions, ResourceExt};
use std::sync::mpsc::channel;
use std::thread;

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

fn get(stack: &impl MemoryResource, stream: &Stream, size: usize) -> Block {
    stack.allocate(stream, layout::bytes(size).unwrap()).unwrap()
}

#[test]
fn a_request_takes_the_smallest_bin_that_holds_it() {
    let (device, stream) = sim();
    let stack = CudaResource::new(&device).statistics().binning([MIB, 4 * KIB, 64 * KIB + 1]).unwrap();
    assert_eq!(stack.state().sizes(), [4 * KIB, 64 * KIB + 256, MIB]);
    let mut blocks = Vec::new();
    for (request, taken) in
        [(1, 4 * KIB), (4 * KIB, 4 * KIB), (4 * KIB + 1, 64 * KIB + 256), (MIB, MIB), (MIB + 1, MIB + 1)]
    {
        let before = stack.upstream().state().counts().current_bytes;
        blocks.push(get(&stack, &stream, request));
        let after = stack.upstream().state().counts().current_bytes;
        assert_eq!((after - before) as usize, taken, "{request} bytes");
        assert_eq!(blocks.last().unwrap().layout(), layout::bytes(request).unwrap());
    }
    assert_eq!(stack.state().live_blocks(), 4);
    blocks.into_iter().for_each(|block| free(&stack, &stream, block).unwrap());
    assert_eq!((stack.state().live_blocks(), stack.state().free_blocks()), (0, vec![2, 1, 1]));
    let before = stack.upstream().state().counts().total_blocks;
    let again: Vec<_> = [4000, 100, 60_000, MIB - 1].map(|size| get(&stack, &stream, size)).into_iter().collect();
    assert_eq!(stack.upstream().state().counts().total_blocks, before, "all of them were kept");
    again.into_iter().for_each(|block| free(&stack, &stream, block).unwrap());
    assert_eq!(stack.trim_stack(0).unwrap(), 2 * 4 * KIB + 64 * KIB + 256 + MIB);
    assert_eq!((stack.state().free_bytes(), stack.upstream().state().counts().current_bytes), (0, 0));
}

#[test]
fn a_larger_request_is_refused_by_fixed_size_with_numbers() {
    let (device, stream) = sim();
    let stack = CudaResource::new(&device).fixed_size(64 * KIB).unwrap();
    let error = stack.allocate(&stream, layout::bytes(64 * KIB + 1).unwrap()).unwrap_err();
    let layer = "fixed_size".into();
    assert_eq!(error, AllocError::LimitExceeded { layer, requested: 64 * KIB + 1, allocated: 0, limit: 64 * KIB });
    for (sizes, reason) in [
        (vec![], BinError::Count { count: 0 }),
        (vec![0], BinError::Size { size: 0 }),
        (vec![256, usize::MAX], BinError::Size { size: usize::MAX }),
        ((1..=65).map(|i| i * 256).collect(), BinError::Count { count: 65 }),
    ] {
        assert_eq!(CudaResource::new(&device).binning(sizes).unwrap_err(), reason);
    }
    let error = Binning::powers_of_two(CudaResource::new(&device), 4096, 256).unwrap_err();
    assert_eq!(error, BinError::Order { smallest: 4096, largest: 256 });
    assert!(Binning::powers_of_two(CudaResource::new(&device), 0, 256).is_err());
    assert!(Binning::powers_of_two(CudaResource::new(&device), 1, usize::MAX).is_err());
}

/// A stream gets no block that another stream freed: that stream may still use it.
#[test]
fn a_stream_gets_only_blocks_that_it_freed() {
    let (device, stream) = sim();
    let simulator = device.simulator().unwrap();
    simulator.detect_races(true);
    let others: Vec<_> = (0..200).map(|_| Stream::new(&device).unwrap()).collect();
    let stack = CudaResource::new(&device).pool(PoolOptions::new()).unwrap().fixed_size(64 * KIB).unwrap();
    let block = get(&stack, &stream, 1000);
    let (address, event) = (block.addr(), cumem::Event::new(&device).unwrap());
    event.record(&stream).unwrap();
    others[0].wait(&event).unwrap();
    free(&stack, &others[0], block).unwrap();
    for other in others.iter().skip(1).chain([&stream]) {
        let block = get(&stack, other, 1000);
        assert_ne!(block.addr(), address);
        free(&stack, other, block).unwrap();
    }
    let block = get(&stack, &others[0], 1000);
    assert_eq!(block.addr(), address);
    free(&stack, &others[0], block).unwrap();
    assert_eq!(simulator.take_races(), []);
}

#[test]
fn a_late_use_of_a_kept_block_is_a_race() {
    let (device, stream) = sim();
    let simulator = device.simulator().unwrap();
    simulator.detect_races(true);
    let stack = CudaResource::new(&device).fixed_size(64 * KIB).unwrap();
    let block = get(&stack, &stream, 1000);
    let late = HostKernel::new("late", |_| ()).writes(block.addr(), 1000);
    free(&stack, &stream, block).unwrap();
    // SAFETY: the closure uses no memory.
    unsafe { stream.launch_host(late) }.unwrap();
    assert_eq!(simulator.take_races().len(), 1);
}

#[test]
fn a_stream_keeps_a_number_of_blocks_and_frees_half() {
    let (device, stream) = sim();
    let stack = CudaResource::new(&device).statistics().fixed_size(64 * KIB).unwrap().keep(10);
    let blocks: Vec<_> = (0..30).map(|_| get(&stack, &stream, 1000)).collect();
    for block in blocks {
        free(&stack, &stream, block).unwrap();
        assert!(stack.state().free_blocks() <= 10);
    }
    // After the eleventh block, five stay; then each sixth block beyond them frees six.
    assert_eq!(stack.state().free_blocks(), 6);
    assert_eq!(stack.upstream().state().counts().current_blocks, 6);
    stack.preallocate(20, &stream).unwrap();
    assert_eq!(stack.state().free_blocks(), 26);
}

#[test]
fn memory_of_other_streams_is_used_when_the_upstream_has_no_more() {
    let (device, stream) = sim();
    let pool = CudaResource::new(&device).pool(PoolOptions::new().maximum(4 * MIB)).unwrap();
    let stack = pool.fixed_size(MIB).unwrap();
    let other = Stream::new(&device).unwrap();
    let blocks: Vec<_> = (0..4).map(|_| get(&stack, &other, MIB)).collect();
    blocks.into_iter().for_each(|block| free(&stack, &other, block).unwrap());
    assert_eq!((stack.state().free_blocks(), stack.upstream().stats().blocks), (4, 4));
    let blocks: Vec<_> = (0..4).map(|_| get(&stack, &stream, MIB)).collect();
    assert!(stack.allocate(&stream, layout::bytes(1).unwrap()).unwrap_err().is_out_of_memory());
    blocks.into_iter().for_each(|block| free(&stack, &stream, block).unwrap());
}

/// Their owner is gone, or another thread, or the handle may be destroyed: the host waits for the device instead.
#[test]
fn memory_of_streams_that_cannot_be_used_is_freed() {
    let (device, stream) = sim();
    let stack = CudaResource::new(&device).statistics().fixed_size(MIB).unwrap();
    let raw = {
        // SAFETY: the handle is that of `stream`, which outlives it.
        unsafe { Stream::from_raw(&device, stream.as_raw()) }
    };
    free(&stack, &raw, get(&stack, &raw, 1)).unwrap();
    thread::scope(|scope| {
        let (device, stack) = (&device, &stack);
        scope
            .spawn(move || {
                let own = Stream::per_thread_default(device);
                free(stack, &own, get(stack, &own, 1)).unwrap();
            })
            .join()
            .unwrap();
    });
    free(&stack, &Stream::new(&device).unwrap(), get(&stack, &stream, 1)).unwrap();
    assert_eq!(stack.state().free_blocks(), 3);
    assert_eq!(stack.trim_stack(0).unwrap(), 3 * MIB);
    assert_eq!((stack.state().free_blocks(), stack.upstream().state().counts().current_bytes), (0, 0));
}

#[test]
fn threads_exchange_blocks_and_nothing_is_lost() {
    let (device, _) = sim();
    let stack =
        CudaResource::new(&device).pool(PoolOptions::new()).unwrap().binning([KIB, 16 * KIB, MIB]).unwrap().keep(4);
    thread::scope(|scope| {
        let (sender, receiver) = channel::<Block>();
        let (device, stack) = (&device, &stack);
        for thread in 0..3 {
            let sender = sender.clone();
            scope.spawn(move || {
                let stream = Stream::new(device).unwrap();
                for i in 0..400 {
                    let block = get(stack, &stream, 1 + (i * 7919 + thread) % MIB);
                    if i % 3 == 0 { sender.send(block).unwrap() } else { free(stack, &stream, block).unwrap() }
                }
            });
        }
        drop(sender);
        scope.spawn(move || {
            let stream = Stream::new(device).unwrap();
            receiver.into_iter().for_each(|block| free(stack, &stream, block).unwrap());
        });
    });
    assert_eq!(stack.state().live_blocks(), 0);
    assert_eq!(stack.upstream().stats().blocks, stack.state().free_blocks().iter().sum());
    let pool = stack.into_upstream().map_err(drop).unwrap();
    assert_eq!(pool.stats().blocks, 0);
}

#[test]
fn a_refused_free_keeps_the_block() {
    let (device, stream) = sim();
    let simulator = device.simulator().unwrap();
    let stack = CudaResource::new(&device).fixed_size(MIB).unwrap();
    free(&stack, &stream, get(&stack, &stream, 1)).unwrap();
    simulator.fail_nth(FaultCall::Free, 1, CudaErrorCode::UNKNOWN);
    let error = stack.trim_stack(0).unwrap_err();
    assert!(matches!(error.reason, DeallocReason::Device(_)) && error.trimmed == 0);
    assert_eq!(stack.state().free_blocks(), 1);
    simulator.fail_nth(FaultCall::Free, 1, CudaErrorCode::UNKNOWN);
    let stack = stack.into_upstream().map(drop).unwrap_err();
    assert_eq!(stack.trim_stack(0).unwrap(), MIB);
    assert!(simulator.live_allocations().no_memory());
}

#[test]
fn a_block_is_freed_once_by_its_own_adaptor() {
    let (device, stream) = sim();
    let [first, second] = [(), ()].map(|()| FixedSize::new(CudaResource::new(&device), MIB).unwrap());
    let block = get(&first, &stream, 1000);
    let error = free(&second, &stream, block).unwrap_err();
    assert!(matches!(error.reason, DeallocReason::Foreign { .. }));
    let (maker, at, tag) = (error.block.maker(), error.block.as_non_null(), error.block.tag());
    // A copy, another size, an old tag: none of them is the live block.
    for (layout, tag) in
        [(layout::bytes(2 * MIB), tag), (layout::bytes(1000), tag ^ 1), (layout::bytes(1000), u64::MAX)]
    {
        let forged = Block::new(maker, at, layout.unwrap(), tag);
        let error = free(&first, &stream, forged).unwrap_err();
        assert!(matches!(error.reason, DeallocReason::Foreign { .. }));
    }
    free(&first, &stream, error.block).unwrap();
    let twice = Block::new(maker, at, layout::bytes(1000).unwrap(), tag);
    assert!(free(&first, &stream, twice).is_err());
    assert_eq!(first.state().free_blocks(), 1);
}

#[test]
fn live_blocks_are_reported_when_the_adaptor_is_dropped() {
    let (device, stream) = sim();
    let stack = CudaResource::new(&device).fixed_size(MIB).unwrap();
    let block = get(&stack, &stream, 1);
    free(&stack, &stream, get(&stack, &stream, 1)).unwrap();
    drop(stack);
    let (id, errors) = (device.id().to_string(), take_drop_errors());
    let is_mine = |error: &String| error.contains("a fixed-size adaptor") && error.contains("1048576 bytes in 1 block");
    assert!(errors.iter().any(is_mine), "{errors:?} of {id}");
    assert_eq!(device.simulator().unwrap().live_allocations().device.blocks, 1, "the free block went back");
    let _ = block;
}

#[test]
fn captured_streams_use_the_upstream() {
    let (device, stream) = sim();
    let stack =
        CudaResource::new(&device).pool(PoolOptions::new()).unwrap().graph_pools().fixed_size(64 * KIB).unwrap();
    free(&stack, &stream, get(&stack, &stream, 1)).unwrap();
    let id = cumem_adaptors::graph_pools::GraphPoolId::unique();
    let graphs = stack.upstream().state();
    // SAFETY: no work is enqueued.
    let capture = unsafe { graphs.capture(&stream, cumem::kernel::CaptureMode::Global, id) }.unwrap();
    let block = get(&stack, &stream, 1);
    assert_eq!(stack.state().free_blocks(), 1, "the kept block is not memory of the graph");
    free(&stack, &stream, block).unwrap();
    assert_eq!(stack.state().free_blocks(), 1, "memory of the graph is not kept for other work");
    drop(capture.end().unwrap());
}

#[test]
fn buffers_and_batches_know_the_block_size() {
    let (device, stream) = sim_with(Profile::tiny(64 << 20));
    let stack = CudaResource::new(&device).fixed_size(MIB).unwrap();
    assert_eq!(cumem_adaptors::fit_batch(&stack, 1, 0, usize::MAX).unwrap().items, MIB);
    let bins = CudaResource::new(&device).limit(2 * MIB).binning([MIB, 8 * MIB]).unwrap();
    assert_eq!(cumem_adaptors::fit_batch(&bins, 1, 0, usize::MAX).unwrap().items, MIB, "a bin of 8 MiB does not fit");
    let erased = cumem::AnyResource::new(stack);
    drop(Buffer::<u8, _>::zeroed(MIB, &stream, &erased).unwrap());
    assert_eq!(erased.find::<FixedSizeState>().unwrap().free_blocks(), 1);
    let _: &Device = erased.device();
}
