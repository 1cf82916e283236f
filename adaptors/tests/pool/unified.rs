//! Unified (managed) memory occupies no pages until it is used. The pool reuses used memory first, and counts used
//! memory only.

use crate::common::{free, sim, sim_with};
use crate::source::{Source, unified};
use cumem::kernel::HostKernel;
use cumem::sim::Profile;
use cumem::{AnyUpstream, Block, Device, LayerExt, ManagedResource, MemoryResource, Stream, Upstream, kind, layout};
use cumem_adaptors::pool::{Pool, PoolOptions, RegionState};
use cumem_adaptors::{Crossing, PoolState, ResourceExt, StackSpec};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

const MIB: usize = 1 << 20;

fn pool(device: &Device, options: PoolOptions) -> Pool<Source<AnyUpstream<kind::Managed>>> {
    Pool::new(Source::new(unified(device)), options).unwrap()
}

/// Allocates a block, and enqueues work that writes all of it.
fn used(resource: &impl MemoryResource, stream: &Stream, bytes: usize) -> Block {
    let block = resource.allocate(stream, layout::bytes(bytes).unwrap()).unwrap();
    let fill = HostKernel::new("fill", |memory| memory.write::<u8>(0).fill(1)).writes(block.addr(), bytes);
    // SAFETY: the block is live, and ready on this stream.
    unsafe { stream.launch_host(fill) }.unwrap();
    block
}

#[test]
fn device_use_counts_resident_pages_only() {
    let (device, stream) = sim();
    let before = device.memory_info().unwrap().free;
    let taken = || {
        stream.synchronize().unwrap();
        before - device.memory_info().unwrap().free
    };
    let pool = pool(&device, PoolOptions::new().initial(64 * MIB));
    assert_eq!((pool.stats().reserved, pool.stats().touched, taken()), (64 * MIB, 0, 0));
    assert_eq!((pool.stats().free, pool.stats().largest_free), (64 * MIB, 64 * MIB));
    let mut blocks: Vec<_> = [1, 3, 5, 2, 7].map(|n| Some(used(&pool, &stream, n * MIB))).into();
    assert_eq!((pool.stats().touched, taken()), (18 * MIB, 18 * MIB));
    for i in [1, 2] {
        free(&pool, &stream, blocks[i].take().unwrap()).unwrap();
    }
    blocks.push(Some(used(&pool, &stream, 8 * MIB)));
    assert_eq!((pool.stats().touched, taken()), (18 * MIB, 18 * MIB), "what was used is used again");
    blocks.push(Some(used(&pool, &stream, 3 * MIB)));
    assert_eq!((pool.stats().touched, taken()), (22 * MIB, 22 * MIB), "in whole blocks of the driver");
    let snapshot = pool.snapshot();
    let untouched: Vec<_> = snapshot.regions.iter().filter(|region| region.state == RegionState::Untouched).collect();
    assert_eq!((untouched.len(), untouched[0].bytes), (1, 42 * MIB));
    assert!(snapshot.to_string().starts_with("64.00 MiB reserved in 1 chunk, 22.00 MiB of it touched: "), "{snapshot}");
    blocks.into_iter().flatten().for_each(|block| free(&pool, &stream, block).unwrap());
    assert_eq!(pool.trim(), Ok(64 * MIB));
    assert_eq!((pool.stats().touched, pool.stats().peak_touched, taken()), (0, 22 * MIB, 0));
}

#[test]
fn a_pool_waits_for_a_busy_stream_before_untouched_memory_exceeds_the_slack() {
    for (options, touched) in [("", 4), (", slack=99%", 4), (", slack=100%", 8), (", grow_first", 8)] {
        let text = &format!("managed | pool(initial=64MiB{options})");
        let (device, stream) = sim();
        let other = Stream::new(&device).unwrap();
        let stack = StackSpec::parse(text).unwrap().build(&device).unwrap();
        let block = used(&stack, &stream, 4 * MIB);
        // SAFETY: the kernel touches nothing.
        unsafe { stream.launch_host(HostKernel::new("busy", |_| ()).operations(1_000_000_000_000)) }.unwrap();
        free(&stack, &stream, block).unwrap();
        let block = used(&stack, &other, 4 * MIB);
        assert_eq!(stack.find::<PoolState>().unwrap().stats().touched, touched * MIB, "{text}");
        free(&stack, &other, block).unwrap();
    }
}

#[test]
fn each_reservation_doubles_the_addresses() {
    let (device, stream) = sim();
    let pool = pool(&device, PoolOptions::new());
    let blocks: Vec<_> = (0..100).map(|_| used(&pool, &stream, MIB)).collect();
    let requests = pool.upstream().ledger.lock().unwrap().requests.clone();
    assert_eq!(requests, [2, 2, 4, 8, 16, 32, 64].map(|n| n * MIB));
    assert_eq!((pool.stats().reserved, pool.stats().touched), (128 * MIB, 100 * MIB));
    blocks.into_iter().for_each(|block| free(&pool, &stream, block).unwrap());
    // Chunks are freed as a whole, including their touched part.
    let kept = 128 * MIB - pool.trim_to(100 * MIB).unwrap();
    let stats = pool.stats();
    assert_eq!((stats.reserved, stats.free, stats.peak_touched), (kept, kept, 100 * MIB));
    assert!(kept < 128 * MIB && stats.touched <= kept);
    assert_eq!(pool.trim(), Ok(kept));
}

#[test]
fn a_chunk_with_resident_pages_counts_as_touched() {
    let (device, stream) = sim();
    let managed = ManagedResource::new(&device).unwrap();
    let prefetched = Pool::new(managed, PoolOptions::new().initial(8 * MIB)).unwrap();
    assert_eq!(prefetched.stats().touched, 0);
    let prefetched = prefetched.prefetch_on_growth(device.id()).unwrap();
    let block = used(&prefetched, &stream, 9 * MIB);
    assert_eq!(prefetched.stats().touched, prefetched.stats().reserved);
    free(&prefetched, &stream, block).unwrap();

    let (old, _) = sim_with(Profile::maxwell());
    let stats = pool(&old, PoolOptions::new().initial(8 * MIB)).stats();
    assert_eq!((stats.reserved, stats.touched, stats.peak_touched), (8 * MIB, 8 * MIB, 8 * MIB));
    let device_memory = StackSpec::parse("device | pool(initial=8MiB)").unwrap().build(&device).unwrap();
    let stats = device_memory.find::<PoolState>().unwrap().stats();
    assert_eq!((stats.reserved, stats.touched, stats.peak_touched), (8 * MIB, 8 * MIB, 8 * MIB));
}

/// The upstream's memory is ready on the stream for which the pool grew. Another stream has to wait for that point.
#[test]
fn another_stream_waits_until_a_new_chunk_is_ready() {
    [Crossing::WaitFirst, Crossing::GrowFirst].into_iter().for_each(another_stream_waits_for_the_chunk);
}

fn another_stream_waits_for_the_chunk(crossing: Crossing) {
    let (device, stream) = sim();
    let other = Stream::new(&device).unwrap();
    let changed = Arc::new(AtomicUsize::new(0));
    let inner = ManagedResource::new(&device).unwrap().pool(PoolOptions::new()).unwrap();
    let outer = Pool::new(&inner, PoolOptions::new().step(32 * MIB).crossing(crossing)).unwrap();
    // Work of the first stream still reads the inner pool's memory. The stream frees that memory in order.
    let old = used(&inner, &stream, 32 * MIB);
    let seen = Arc::clone(&changed);
    let verify = HostKernel::new("verify", move |memory| {
        seen.fetch_add(memory.read::<u8>(0).iter().filter(|&&byte| byte != 1).count(), Relaxed);
    });
    let verify = verify.operations(1_000_000_000_000).reads(old.addr(), 32 * MIB);
    // SAFETY: the block is live.
    unsafe { stream.launch_host(verify) }.unwrap();
    free(&inner, &stream, old).unwrap();
    let first = outer.allocate(&stream, layout::bytes(2 * MIB).unwrap()).unwrap();
    assert_eq!((inner.stats().blocks, outer.stats().reserved, outer.stats().touched), (1, 32 * MIB, 2 * MIB));
    let second = outer.allocate(&other, layout::bytes(16 * MIB).unwrap()).unwrap();
    let fill = HostKernel::new("fill", |memory| memory.write::<u8>(0).fill(2)).writes(second.addr(), 16 * MIB);
    // SAFETY: the block is live, and ready on this stream.
    unsafe { other.launch_host(fill) }.unwrap();
    [&stream, &other].into_iter().for_each(|stream| stream.synchronize().unwrap());
    assert_eq!(changed.load(Relaxed), 0, "the first stream was still reading");
    free(&outer, &stream, first).unwrap();
    free(&outer, &other, second).unwrap();
}

/// An erased stack over managed memory, and a stack that spills from it, are used as the typed one: the leaf decides.
#[test]
fn an_erased_upstream_is_touched_as_a_typed_one() {
    fn figures<U: Upstream>(upstream: U) -> (usize, usize) {
        let stream = Stream::new(upstream.device()).unwrap();
        let pool = upstream.pool(PoolOptions::new()).unwrap();
        let blocks: Vec<_> =
            (0..40).map(|_| pool.allocate(&stream, layout::bytes(3 * MIB).unwrap()).unwrap()).collect();
        let stats = pool.stats();
        blocks.into_iter().for_each(|block| free(&pool, &stream, block).unwrap());
        (stats.touched, stats.chunks)
    }
    let (device, _) = sim();
    let managed = || ManagedResource::new(&device).unwrap();
    let typed = figures(managed());
    assert!(typed.0 <= 124 * MIB && typed.1 < 10, "120 MiB of blocks: {typed:?} bytes touched, in chunks");
    assert_eq!(figures(AnyUpstream::erase_kind(managed())), typed);
    assert_eq!(figures(managed().spill_to(managed()).unwrap()), typed);
}
