//! Growth over memory that is mapped into one range of addresses: the pool maps only the missing granules, and
//! unmaps whole pieces.

use crate::common::{free, sim, sim_with};
use crate::source::{Source, joined};
use cumem::kernel::HostKernel;
use cumem::sim::Profile;
use cumem::{AnyUpstream, Block, Buffer, CudaVirtualResource, Device, LayerExt, MemoryResource, Stream, kind, layout};
use cumem_adaptors::{Crossing, Pool, PoolOptions, ResourceExt, Size, StackSpec};

const MIB: usize = 1 << 20;

type Joined = Pool<Source<AnyUpstream<kind::Device>>>;

fn pool(device: &Device, options: PoolOptions) -> Joined {
    Pool::new(Source::new(joined(device)), options).unwrap()
}

fn take(resource: &impl MemoryResource, stream: &Stream, bytes: usize) -> Block {
    resource.allocate(stream, layout::bytes(bytes).unwrap()).unwrap()
}

fn gaps(pool: &Joined) -> usize {
    pool.find::<CudaVirtualResource>().unwrap().gaps().len()
}

#[test]
fn only_missing_granules_are_mapped_and_adjacent_ones_in_one_call() {
    let (device, stream) = sim();
    let pool = pool(&device, PoolOptions::new());
    let a = take(&pool, &stream, 5 * MIB);
    assert_eq!(pool.stats().reserved, 6 * MIB);
    let b = take(&pool, &stream, 4 * MIB);
    assert_eq!((pool.stats().reserved, b.addr() - a.addr()), (10 * MIB, 5 * MIB as u64), "beside what was left");
    free(&pool, &stream, b).unwrap();
    let c = take(&pool, &stream, 12 * MIB);
    assert_eq!((pool.stats().reserved, c.addr() - a.addr()), (18 * MIB, 5 * MIB as u64), "over three pieces");
    free(&pool, &stream, a).unwrap();
    free(&pool, &stream, c).unwrap();
    let all = take(&pool, &stream, 18 * MIB);
    assert_eq!((pool.stats().reserved, pool.stats().free), (18 * MIB, 0));
    free(&pool, &stream, all).unwrap();
    assert_eq!(pool.trim(), Ok(18 * MIB));
}

#[test]
fn bytes_survive_across_the_borders_of_pieces() {
    let (device, stream) = sim();
    let pool = pool(&device, PoolOptions::new().step(2 * MIB));
    let blocks: Vec<_> = (0..6).map(|_| take(&pool, &stream, 2 * MIB)).collect();
    blocks.into_iter().for_each(|block| free(&pool, &stream, block).unwrap());
    let data: Vec<u64> = (0..(11 * MIB / 8) as u64).collect();
    let buffer = Buffer::from_slice(&data, &stream, &pool).unwrap();
    assert_eq!((pool.stats().reserved, pool.stats().chunks), (12 * MIB, 6));
    assert_eq!(buffer.to_vec().unwrap(), data);
}

#[test]
fn foreign_adaptors_in_between_do_not_matter() {
    let (device, stream) = sim();
    let stack = StackSpec::parse("virtual | statistics | limit(12MiB) | pool | statistics").unwrap();
    let stack = stack.build(&device).unwrap();
    let a = take(&stack, &stream, 6 * MIB);
    let b = take(&stack, &stream, 6 * MIB);
    assert_eq!(b.addr(), a.addr() + 6 * MIB as u64);
    free(&stack, &stream, a).unwrap();
    free(&stack, &stream, b).unwrap();
    let all = take(&stack, &stream, 12 * MIB);
    assert!(stack.allocate(&stream, layout::bytes(1).unwrap()).unwrap_err().is_out_of_memory());
    free(&stack, &stream, all).unwrap();
}

#[test]
fn trim_gives_free_pieces_back_and_growth_fills_the_holes() {
    let (device, stream) = sim();
    let pool = pool(&device, PoolOptions::new().step(2 * MIB));
    let mut blocks: Vec<_> = (0..10).map(|_| Some(take(&pool, &stream, 2 * MIB))).collect();
    for i in [2, 3, 4, 7, 9] {
        free(&pool, &stream, blocks[i].take().unwrap()).unwrap();
    }
    assert_eq!(pool.trim(), Ok(10 * MIB));
    assert_eq!((pool.stats().reserved, pool.stats().free, gaps(&pool)), (10 * MIB, 0, 3));
    let start = blocks[0].as_ref().unwrap().addr();
    let b = take(&pool, &stream, 6 * MIB);
    assert_eq!((b.addr() - start, pool.stats().reserved), (4 * MIB as u64, 16 * MIB), "the lowest hole");
    free(&pool, &stream, blocks[8].take().unwrap()).unwrap();
    let c = take(&pool, &stream, 3 * MIB);
    assert_eq!(
        (c.addr() - start, pool.stats().reserved),
        (14 * MIB as u64, 18 * MIB),
        "what is free, with the hole before"
    );
    for block in blocks.into_iter().flatten().chain([b, c]) {
        free(&pool, &stream, block).unwrap();
    }
    assert_eq!(pool.trim(), Ok(18 * MIB));
    assert_eq!(gaps(&pool), 1);
}

#[test]
fn the_release_threshold_sees_pieces_between_live_blocks() {
    let (device, stream) = sim();
    let pool = pool(&device, PoolOptions::new().step(2 * MIB).release_threshold(6 * MIB));
    let mut blocks: Vec<_> = (0..6).map(|_| Some(take(&pool, &stream, 2 * MIB))).collect();
    for (i, left) in [(1, 10), (3, 8), (4, 6), (0, 6)] {
        free(&pool, &stream, blocks[i].take().unwrap()).unwrap();
        assert_eq!(pool.stats().reserved, left * MIB);
    }
    blocks.into_iter().flatten().for_each(|block| free(&pool, &stream, block).unwrap());
}

#[test]
fn free_pieces_move_to_the_stream_that_is_out_of_memory() {
    let (device, stream) = sim_with(Profile::tiny(32 * MIB as u64));
    let pool = pool(&device, PoolOptions::new().step(2 * MIB));
    let mut blocks: Vec<_> = (0..16).map(|_| Some(take(&pool, &stream, 2 * MIB))).collect();
    for i in (0..16).step_by(2) {
        free(&pool, &stream, blocks[i].take().unwrap()).unwrap();
    }
    let moved = take(&pool, &stream, 16 * MIB);
    assert_eq!((pool.stats().reserved, pool.stats().free), (32 * MIB, 0));
    assert!(pool.allocate(&stream, layout::bytes(1).unwrap()).unwrap_err().is_out_of_memory());
    for block in blocks.into_iter().flatten().chain([moved]) {
        free(&pool, &stream, block).unwrap();
    }
}

/// Frees every second of 16 pieces, then requests twice the size of a piece. Returns the reserved bytes.
fn reserved_after_breaking_up(slack: Size, crossing: Crossing, busy: bool) -> usize {
    let (device, stream) = sim();
    let other = Stream::new(&device).unwrap();
    let pool = pool(&device, PoolOptions::new().step(2 * MIB).slack(slack).crossing(crossing));
    let mut blocks: Vec<_> = (0..16).map(|_| Some(take(&pool, &stream, 2 * MIB))).collect();
    if busy {
        let work = HostKernel::new("busy", |_| ()).operations(1_000_000_000_000);
        // SAFETY: the kernel touches nothing.
        unsafe { stream.launch_host(work) }.unwrap();
    }
    for i in (0..16).step_by(2) {
        free(&pool, &stream, blocks[i].take().unwrap()).unwrap();
    }
    let large = take(&pool, &other, 4 * MIB);
    assert_eq!(stream.is_idle(), Ok(!busy), "no thread waited for the device");
    let stats = pool.stats();
    assert_eq!((stats.allocated, stats.free), (20 * MIB, stats.reserved - 20 * MIB));
    blocks.into_iter().flatten().for_each(|block| free(&pool, &stream, block).unwrap());
    free(&pool, &other, large).unwrap();
    stats.reserved
}

#[test]
fn free_memory_is_stitched_where_the_pool_would_grow_past_its_slack() {
    let reserved = |slack| reserved_after_breaking_up(slack, Crossing::WaitFirst, false);
    assert_eq!(reserved(Size::Bytes(0)), 32 * MIB);
    assert_eq!(reserved(Size::Percent(79)), 32 * MIB);
    assert_eq!(reserved(Size::Percent(80)), 36 * MIB);
}

#[test]
fn memory_that_the_device_is_at_work_on_is_stitched_if_streams_may_wait() {
    let reserved = |crossing| reserved_after_breaking_up(Size::Bytes(0), crossing, true);
    assert_eq!(reserved(Crossing::WaitFirst), 32 * MIB);
    assert_eq!(reserved(Crossing::GrowFirst), 36 * MIB);
}

#[test]
fn large_requests_and_the_initial_memory_are_mapped_in_pieces() {
    let (device, stream) = sim();
    let pool = pool(&device, PoolOptions::new().initial(65 * MIB));
    assert_eq!(pool.upstream().ledger.lock().unwrap().requests, [32 * MIB, 32 * MIB, 2 * MIB]);
    let block = take(&pool, &stream, 100 * MIB);
    assert_eq!((pool.stats().reserved, pool.stats().free), (100 * MIB, 0));
    free(&pool, &stream, block).unwrap();
    let kept = take(&pool, &stream, 40 * MIB);
    assert_eq!(pool.trim(), Ok(36 * MIB), "all pieces past the block");
    free(&pool, &stream, kept).unwrap();
}

#[test]
fn two_pools_over_one_leaf_keep_apart() {
    let (device, stream) = sim();
    let leaf = CudaVirtualResource::new(&device).unwrap();
    let pools = [(&leaf).pool(PoolOptions::new()).unwrap(), (&leaf).pool(PoolOptions::new()).unwrap()];
    let mut blocks = Vec::new();
    for round in 1..8 {
        for pool in &pools {
            blocks.push((pool, take(pool, &stream, round * MIB)));
        }
    }
    for (pool, block) in blocks {
        free(pool, &stream, block).unwrap();
    }
    for pool in &pools {
        let whole = take(pool, &stream, 30 * MIB);
        free(pool, &stream, whole).unwrap();
        pool.trim().unwrap();
    }
    assert_eq!(leaf.gaps().len(), 1);
}

#[test]
fn a_pool_over_a_pool_joins_what_touches() {
    let (device, stream) = sim();
    let inner = Pool::new(joined(&device), PoolOptions::new()).unwrap();
    let outer = Pool::new(&inner, PoolOptions::new().step(2 * MIB)).unwrap();
    let blocks: Vec<_> = (1..6).map(|n| take(&outer, &stream, n * MIB)).collect();
    blocks.into_iter().for_each(|block| free(&outer, &stream, block).unwrap());
    let stats = outer.stats();
    assert_eq!(stats.free, stats.reserved);
    outer.trim().unwrap();
    assert_eq!(inner.stats().allocated, 0);
}

#[test]
fn a_stream_with_busy_memory_grows_or_waits_as_configured() {
    for (crossing, reserved) in [(Crossing::WaitFirst, 8 * MIB), (Crossing::GrowFirst, 12 * MIB)] {
        let (device, stream) = sim();
        let other = Stream::new(&device).unwrap();
        let pool = pool(&device, PoolOptions::new().crossing(crossing).step(2 * MIB));
        let busy = HostKernel::new("busy", |_| ()).operations(1_000_000_000_000);
        let block = take(&pool, &other, 4 * MIB);
        // SAFETY: the kernel touches nothing.
        unsafe { other.launch_host(busy) }.unwrap();
        free(&pool, &other, block).unwrap();
        let larger = take(&pool, &stream, 8 * MIB);
        assert_eq!(pool.stats().reserved, reserved, "{crossing:?}");
        free(&pool, &stream, larger).unwrap();
    }
}
