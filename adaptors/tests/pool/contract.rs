//! The contract, as one thread sees it.

use crate::common::{free, sim, sim_with};
use crate::source::Source;
use cumem::error::{CudaErrorCode, DeallocReason, SizeClass, StreamStats, TrimError, Usage, take_drop_errors};
use cumem::sim::Profile;
use cumem::{
    AllocError, AnyResource, Block, CudaResource, DeviceError, DriverError, LayerExt, ManagedResource, MemoryResource,
    PinnedResource, Stream, layout,
};
use cumem_adaptors::{Pool, PoolError, PoolOptions, PoolState, PoolStats, Size};
use std::error::Error;

const MIB: usize = 1 << 20;

fn pool(options: PoolOptions) -> (Pool<Source<CudaResource>>, Stream) {
    let (device, stream) = sim();
    (Pool::new(Source::new(CudaResource::new(&device)), options).unwrap(), stream)
}

fn take<R: MemoryResource>(resource: &R, stream: &Stream, bytes: usize) -> Block {
    resource.allocate(stream, layout::bytes(bytes).unwrap()).unwrap()
}

#[test]
fn blocks_are_aligned_apart_and_counted_to_the_byte() {
    let (pool, stream) = pool(PoolOptions::new());
    let mut blocks = Vec::new();
    for (bytes, align) in [(1, 1), (256, 256), (257, 512), (100, 4096), (3 * MIB, 1 << 16), (8, 1 << 22)] {
        let block = pool.allocate(&stream, layout::aligned(bytes, align).unwrap()).unwrap();
        assert_eq!(block.addr() % align.max(256) as u64, 0);
        assert_eq!((block.size(), block.layout().align()), (bytes, align));
        blocks.push(block);
    }
    let stats = pool.stats();
    assert_eq!(stats.requested, 1 + 256 + 257 + 100 + 3 * MIB + 8);
    assert_eq!(stats.allocated, 256 + 256 + 512 + 256 + 3 * MIB + 256);
    assert_eq!((stats.blocks, stats.allocated + stats.free), (6, stats.reserved));
    blocks.sort_by_key(Block::addr);
    assert!(blocks.windows(2).all(|pair| pair[0].addr() + pair[0].size() as u64 <= pair[1].addr()));
    for block in blocks {
        free(&pool, &stream, block).unwrap();
    }
    assert_eq!((pool.stats().allocated, pool.stats().requested, pool.stats().blocks), (0, 0, 0));
}

#[test]
fn freed_memory_is_reused_on_its_stream_at_once() {
    let (pool, stream) = pool(PoolOptions::new());
    let block = take(&pool, &stream, 4096);
    let addr = block.addr();
    free(&pool, &stream, block).unwrap();
    let again = take(&pool, &stream, 4096);
    assert_eq!(again.addr(), addr);
    free(&pool, &stream, again).unwrap();
    assert_eq!(pool.upstream().ledger.lock().unwrap().requests.len(), 1);
}

#[test]
fn zero_bytes_never_reach_the_upstream() {
    let (pool, stream) = pool(PoolOptions::new());
    let block = pool.allocate(&stream, layout::aligned(0, 1024).unwrap()).unwrap();
    assert_eq!((block.size(), block.addr() % 1024), (0, 0));
    free(&pool, &stream, block).unwrap();
    assert_eq!(pool.stats(), PoolStats::default());
    assert!(pool.upstream().ledger.lock().unwrap().requests.is_empty());
}

#[test]
fn growth_backs_off_to_what_is_needed_and_stops_at_the_maximum() {
    let (pool, stream) = pool(PoolOptions::new().step(64 * MIB).maximum(80 * MIB));
    pool.upstream().ledger.lock().unwrap().largest = Some(10 * MIB);
    let a = take(&pool, &stream, 9 * MIB);
    assert_eq!(pool.upstream().ledger.lock().unwrap().requests, [64 * MIB, 32 * MIB, 16 * MIB, 9 * MIB]);
    pool.upstream().ledger.lock().unwrap().largest = None;
    let b = take(&pool, &stream, 9 * MIB);
    assert_eq!(pool.stats().reserved, 73 * MIB);
    let c = take(&pool, &stream, 55 * MIB - 100);
    let before = pool.stats();
    let error = pool.allocate(&stream, layout::bytes(8 * MIB).unwrap()).unwrap_err();
    let (allocated, requested, blocks) = (73 * MIB, 73 * MIB - 100, 3);
    let mut own = StreamStats::default();
    (own.stream, own.allocated, own.requested, own.blocks) = (Some(stream.id()), allocated, requested, blocks);
    let mut held = Usage::default();
    (held.reserved, held.allocated, held.requested, held.blocks) = (73 * MIB, allocated, requested, blocks);
    held.maximum = Some(80 * MIB);
    held.classes = vec![SizeClass::new(16 * MIB, 2, 18 * MIB), SizeClass::new(64 * MIB, 1, 55 * MIB)];
    held.streams = vec![own];
    let held = Box::new(held);
    assert_eq!(error, AllocError::Exhausted { layer: "pool", requested: 8 * MIB, held, upstream: None });
    assert_eq!(pool.stats(), before);
    let d = take(&pool, &stream, 7 * MIB);
    assert_eq!(pool.stats().reserved, 80 * MIB);
    for block in [a, b, c, d] {
        free(&pool, &stream, block).unwrap();
    }
}

#[test]
fn out_of_memory_carries_the_upstreams_reason_and_other_errors_keep_their_kind() {
    let (device, stream) = sim_with(Profile::tiny(64 * MIB as u64));
    let pool = Pool::new(Source::new(CudaResource::new(&device)), PoolOptions::new()).unwrap();
    let error = pool.allocate(&stream, layout::bytes(1 << 30).unwrap()).unwrap_err();
    assert!(
        matches!(&error, AllocError::Exhausted { upstream: Some(cause), .. } if matches!(**cause, AllocError::OutOfMemory { requested, .. } if requested == 1 << 30)),
        "{error}"
    );
    let again = pool.allocate(&stream, layout::bytes(1 << 30).unwrap()).unwrap_err();
    for error in [&error, &again] {
        let source = error.source().and_then(|source| source.downcast_ref::<AllocError>());
        assert!(
            matches!(source, Some(AllocError::OutOfMemory { requested, .. }) if *requested == 1 << 30),
            "{error:?}"
        );
    }
    let refusal = DriverError::Call { call: "cuMemAlloc", device: device.id(), code: CudaErrorCode::ILLEGAL_ADDRESS };
    pool.upstream().ledger.lock().unwrap().fail_after = Some((0, refusal.clone().into()));
    let error = pool.allocate(&stream, layout::bytes(1024).unwrap()).unwrap_err();
    assert_eq!(error, AllocError::from(refusal));
    assert_eq!((pool.stats().reserved, pool.stats().blocks, pool.stats().free), (0, 0, 0));
    let block = take(&pool, &stream, 1024);
    free(&pool, &stream, block).unwrap();
}

#[test]
fn memory_that_has_run_out_is_cut_anew_before_an_allocation_fails() {
    let (pool, stream) = pool(PoolOptions::new().maximum(64 * MIB));
    let small: Vec<_> = (0..8).map(|_| take(&pool, &stream, 8 * MIB)).collect();
    assert_eq!(pool.stats().chunks, 8);
    for block in small {
        free(&pool, &stream, block).unwrap();
    }
    let large = take(&pool, &stream, 64 * MIB);
    assert_eq!((pool.stats().chunks, pool.stats().reserved), (1, 64 * MIB));
    free(&pool, &stream, large).unwrap();
}

#[test]
fn blocks_of_others_and_corrupted_ones_are_refused_and_returned() {
    let (pool, stream) = pool(PoolOptions::new());
    let other = Pool::new(CudaResource::new(stream.device()), PoolOptions::new()).unwrap();
    let foreign = take(&other, &stream, 512);
    let error = free(&pool, &stream, foreign).unwrap_err();
    assert_eq!(error.reason, DeallocReason::Foreign { layer: "pool" });
    free(&other, &stream, error.block).unwrap();

    let block = take(&pool, &stream, 512);
    let (maker, tag) = (block.maker(), block.tag());
    let moved = std::ptr::NonNull::new(block.as_ptr().wrapping_add(256)).unwrap();
    let before = pool.stats();
    for forged in [
        Block::new(maker, block.as_non_null(), block.layout(), tag ^ 1 << 56),
        Block::new(maker, block.as_non_null(), block.layout(), tag ^ 1 << 48),
        Block::new(maker, block.as_non_null(), block.layout(), tag ^ 1 << 32),
        Block::new(maker, block.as_non_null(), block.layout(), tag ^ 1),
        Block::new(maker, block.as_non_null(), block.layout(), tag | 0xffff_ffff),
        Block::new(maker, block.as_non_null(), layout::bytes(256).unwrap(), tag),
        Block::new(maker, block.as_non_null(), layout::bytes(511).unwrap(), tag),
        Block::new(maker, moved, block.layout(), tag),
    ] {
        let error = free(&pool, &stream, forged).unwrap_err();
        assert_eq!(error.reason, DeallocReason::Foreign { layer: "pool" });
        assert_eq!(pool.stats(), before);
    }
    let twice = Block::new(maker, block.as_non_null(), block.layout(), tag);
    free(&pool, &stream, block).unwrap();
    let error = free(&pool, &stream, twice).unwrap_err();
    assert_eq!(error.reason, DeallocReason::Foreign { layer: "pool" });
    let again = take(&pool, &stream, 512);
    let error = free(&pool, &stream, error.block).unwrap_err();
    assert_eq!(error.reason, DeallocReason::Foreign { layer: "pool" }, "the same memory in another life");
    free(&pool, &stream, again).unwrap();
}

#[test]
fn another_devices_stream_is_refused() {
    let (pool, stream) = pool(PoolOptions::new());
    let (_other, strange) = sim();
    let wrong =
        DeviceError::WrongDevice { what: "the stream", found: strange.device_id(), expected: stream.device_id() };
    assert_eq!(pool.allocate(&strange, layout::bytes(1).unwrap()).unwrap_err(), AllocError::Device(wrong.clone()));
    let block = take(&pool, &stream, 1);
    let error = free(&pool, &strange, block).unwrap_err();
    assert_eq!(error.reason, DeallocReason::Device(wrong));
    free(&pool, &stream, error.block).unwrap();
}

#[test]
fn trim_gives_back_what_holds_no_block_and_keeps_what_is_refused() {
    let (pool, stream) = pool(PoolOptions::new().step(2 * MIB));
    let blocks: Vec<_> = (0..4).map(|_| take(&pool, &stream, 2 * MIB)).collect();
    let mut blocks = blocks.into_iter();
    let kept = blocks.next().unwrap();
    for block in blocks {
        free(&pool, &stream, block).unwrap();
    }
    let refusal = DriverError::Call { call: "cuMemFree", device: stream.device_id(), code: CudaErrorCode::UNKNOWN };
    pool.upstream().ledger.lock().unwrap().keep = Some(refusal.clone().into());
    assert_eq!(pool.trim(), Err(TrimError::new(4 * MIB, refusal)));
    assert_eq!((pool.stats().reserved, pool.stats().free), (4 * MIB, 2 * MIB));
    assert_eq!(pool.trim(), Ok(2 * MIB));
    assert_eq!(pool.trim(), Ok(0));
    assert_eq!(pool.upstream().ledger.lock().unwrap().bytes(), 2 * MIB);
    free(&pool, &stream, kept).unwrap();
    assert_eq!(pool.trim(), Ok(2 * MIB));
    assert!(pool.upstream().ledger.lock().unwrap().out.is_empty());
}

#[test]
fn the_release_threshold_gives_chunks_back_by_itself() {
    let (pool, stream) = pool(PoolOptions::new().step(2 * MIB).release_threshold(4 * MIB));
    let blocks: Vec<_> = (0..6).map(|_| take(&pool, &stream, 2 * MIB)).collect();
    for block in blocks {
        free(&pool, &stream, block).unwrap();
    }
    assert_eq!(pool.stats().reserved, 4 * MIB);
}

#[test]
fn the_layer_displays_as_its_text_and_is_found_through_erasure() {
    let (device, stream) = sim();
    let options = PoolOptions::new().initial(4 * MIB).maximum(Size::Percent(50));
    let pool = Pool::new(CudaResource::new(&device), options).unwrap();
    let text = pool.to_string();
    assert_eq!(text, format!("pool(initial=4MiB, maximum=50%) over device on {}", device.id()));
    let stack = AnyResource::new(pool);
    let block = take(&stack, &stream, 100);
    let stats = stack.find::<PoolState>().unwrap().stats();
    assert_eq!((stats.reserved, stats.requested, stats.chunks), (4 * MIB, 100, 1));
    free(&stack, &stream, block).unwrap();
}

#[test]
fn options_that_cannot_be_met_are_errors() {
    let (device, _) = sim_with(Profile::tiny(64 * MIB as u64));
    let new = |options| Pool::new(CudaResource::new(&device), options).map(|pool| pool.to_string());
    assert_eq!(
        new(PoolOptions::new().initial(2 * MIB).maximum(MIB)),
        Err(PoolError::InitialAboveMaximum { initial: 2 * MIB, maximum: MIB })
    );
    assert!(matches!(
        new(PoolOptions::new().initial(1 << 30)),
        Err(PoolError::Initial(AllocError::OutOfMemory { .. }))
    ));
}

#[test]
fn impossible_sizes_are_refused() {
    let (pool, stream) = pool(PoolOptions::new());
    for bytes in [1 << 40, isize::MAX as usize - 4096] {
        let error = pool.allocate(&stream, layout::bytes(bytes).unwrap()).unwrap_err();
        assert!(matches!(error, AllocError::Exhausted { requested, .. } if requested == bytes), "{error}");
    }
    let error = pool.allocate(&stream, layout::aligned(1, 1 << 62).unwrap()).unwrap_err();
    assert!(error.is_out_of_memory(), "{error}");
    assert_eq!((pool.stats().reserved, pool.stats().blocks, pool.stats().requested), (0, 0, 0));
}

#[test]
fn a_managed_pool_prefetches_its_chunks() {
    let (device, stream) = sim();
    let managed = ManagedResource::new(&device).unwrap();
    let pool = Pool::new(managed, PoolOptions::new().initial(4 * MIB)).unwrap();
    let pool = pool.prefetch_on_growth(device.id()).unwrap();
    let (first, grown) = (take(&pool, &stream, MIB), take(&pool, &stream, 16 * MIB));
    for block in [&first, &grown] {
        let attributes = cumem::unified::hints::range_attributes(block, 0..block.size(), &stream).unwrap();
        assert_eq!(attributes.last_prefetch_location, Some(device.id().into()));
    }
    free(&pool, &stream, first).unwrap();
    free(&pool, &stream, grown).unwrap();

    let (device, _) = sim_with(Profile::maxwell());
    let managed = ManagedResource::new(&device).unwrap();
    let refused = Pool::new(managed, PoolOptions::new()).unwrap().prefetch_on_growth(device.id());
    assert!(matches!(refused, Err(PoolError::NoPrefetch(_))));
}

#[test]
fn a_pool_over_pinned_memory_is_still_host_memory() {
    let (device, stream) = sim();
    let pool = Pool::new(PinnedResource::new(&device), PoolOptions::new()).unwrap();
    let block = take(&pool, &stream, 1000);
    // SAFETY: the block is live pinned memory of 1000 bytes, which the host may write.
    unsafe { block.as_ptr().write_bytes(7, 1000) };
    free(&pool, &stream, block).unwrap();
}

#[test]
fn drop_frees_all_chunks_and_reports_those_that_it_cannot_free() {
    let (device, stream) = sim();
    let source = Source::new(CudaResource::new(&device));
    {
        let pool = Pool::new(&source, PoolOptions::new().initial(MIB)).unwrap();
        let blocks: Vec<_> = (1..40).map(|i| take(&pool, &stream, i * 100_000)).collect();
        for block in blocks {
            free(&pool, &stream, block).unwrap();
        }
    }
    assert!(source.ledger.lock().unwrap().out.is_empty());
    {
        let pool = Pool::new(&source, PoolOptions::new().step(2 * MIB)).unwrap();
        let (lost, freed) = (take(&pool, &stream, 2 * MIB), take(&pool, &stream, 2 * MIB));
        free(&pool, &stream, freed).unwrap();
        drop(lost);
    }
    assert_eq!(source.ledger.lock().unwrap().bytes(), 2 * MIB, "the leaked block may still be in use");
    let errors = take_drop_errors();
    assert!(errors.iter().any(|error| error.contains("with 1 live blocks")), "{errors:?}");
}

#[test]
fn state_and_pool_cross_threads() {
    fn shared<T: Send + Sync>() {}
    shared::<PoolState>();
    shared::<Pool<CudaResource>>();
}
