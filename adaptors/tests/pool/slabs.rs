//! Slabs: small blocks apart from large ones, and memory that is allocated in large parts because each call is
//! expensive.

use crate::common::{free, sim};
use crate::source::Source;
use cumem::error::DeallocReason;
use cumem::{Block, CudaResource, MemoryResource, PinnedResource, Stream, layout};
use cumem_adaptors::{Pool, PoolOptions, ResourceExt};

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

fn take(resource: &impl MemoryResource, stream: &Stream, bytes: usize) -> Block {
    resource.allocate(stream, layout::bytes(bytes).unwrap()).unwrap()
}

#[test]
fn larger_requests_go_to_the_upstream() {
    let (device, stream) = sim();
    let large = CudaResource::new(&device).pool(PoolOptions::new()).unwrap();
    let small = Pool::new(&large, PoolOptions::new().up_to(64 * KIB)).unwrap();
    let blocks = [1, 64 * KIB, 64 * KIB + 1, 3 * MIB].map(|bytes| take(&small, &stream, bytes));
    let stats = small.stats();
    assert_eq!((stats.blocks, stats.requested, stats.reserved), (2, 64 * KIB + 1, 2 * MIB));
    // The slab, and the two blocks that were passed on.
    let stats = large.stats();
    assert_eq!((stats.blocks, stats.requested), (3, 2 * MIB + 64 * KIB + 1 + 3 * MIB));
    let [a, b, c, d] = blocks;
    assert_eq!((a.maker() == b.maker(), a.maker() == c.maker(), c.maker() == d.maker()), (true, false, true));

    let elsewhere = CudaResource::new(&device);
    let foreign = take(&elsewhere, &stream, 1000);
    let error = free(&small, &stream, foreign).unwrap_err();
    assert!(matches!(error.reason, DeallocReason::Foreign { layer: "pool" }), "{error}");
    free(&elsewhere, &stream, error.block).unwrap();

    [d, a, c, b].into_iter().for_each(|block| free(&small, &stream, block).unwrap());
    assert_eq!((small.stats().blocks, large.stats().blocks), (0, 1), "the slab is still out");
    small.trim().unwrap();
    assert_eq!((small.stats().reserved, large.stats().allocated), (0, 0));
}

/// Allocates large blocks and small blocks in turn, frees the large ones, and returns the small ones.
fn free_in_one_piece(memory: &impl MemoryResource, stream: &Stream) -> Vec<Block> {
    let (large, small): (Vec<_>, Vec<_>) =
        (0..16).map(|_| (take(memory, stream, 2 * MIB), take(memory, stream, 4 * KIB))).unzip();
    large.into_iter().for_each(|block| free(memory, stream, block).unwrap());
    small
}

#[test]
fn small_blocks_do_not_split_the_memory_of_large_ones() {
    let (device, stream) = sim();
    let options = PoolOptions::new().initial(64 * MIB).maximum(64 * MIB);
    // With a slab, which lies after the first large block, the other 15 large blocks become one piece.
    for (slabs, largest) in [(false, 2 * MIB), (true, 30 * MIB)] {
        let pool = CudaResource::new(&device).pool(options).unwrap();
        let memory = Pool::new(&pool, PoolOptions::new().up_to(if slabs { 64 * KIB } else { 0 })).unwrap();
        let small = free_in_one_piece(&memory, &stream);
        let own = pool.snapshot().streams.iter().map(|own| own.largest_free).max().unwrap();
        assert_eq!(own, largest, "slabs: {slabs}");
        small.into_iter().for_each(|block| free(&memory, &stream, block).unwrap());
    }
}

/// `cuMemAllocHost` locks each page and takes as long as many kernels, so the pool calls it a few times for many
/// blocks.
#[test]
fn pinned_memory_is_allocated_in_slabs() {
    let (device, stream) = sim();
    let requests = |options: PoolOptions| {
        let pool = Pool::new(Source::new(PinnedResource::new(&device)), options).unwrap();
        let blocks: Vec<_> = (0..4096).map(|_| take(&pool, &stream, 64 * KIB)).collect();
        blocks.into_iter().for_each(|block| free(&pool, &stream, block).unwrap());
        pool.upstream().ledger.lock().unwrap().requests.clone()
    };
    // 256 MiB in blocks: the pool grows by 2 MiB at first, then by an eighth.
    let by_default = requests(PoolOptions::new());
    assert!(by_default.len() < 40 && by_default.iter().all(|&bytes| bytes % (2 * MIB) == 0), "{by_default:?}");
    assert!(by_default.is_sorted(), "{by_default:?}");
    assert_eq!(requests(PoolOptions::new().step(64 * MIB)), [64 * MIB; 4]);
    assert_eq!(requests(PoolOptions::new().initial(128 * MIB).step(64 * MIB)), [128 * MIB, 64 * MIB, 64 * MIB]);
}
