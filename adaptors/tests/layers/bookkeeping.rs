//! The host memory of the pool's bookkeeping: bytes per live block, and tables that stay bounded while streams come and
//! go.
//!
//! `cargo test --release -p cumem-adaptors --test layers bookkeeping -- --nocapture` prints the figures.

use crate::common::{free, sim};
use cumem::{Block, CudaResource, MemoryResource, Stream, layout};
use cumem_adaptors::{Pool, PoolOptions};
use cumem_conformance::Rng;
use cumem_test_support::own_process;
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

// In a process of their own, because a table that all threads share counts for the thread in which it grows.
own_process!(a_live_block_costs_64_bytes_at_most, tables_have_a_bound_under_changing_streams);

thread_local! {
    /// Host bytes that this thread has allocated and not freed.
    static HELD: Cell<isize> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: every call goes to the system allocator. The count beside it does not allocate.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        HELD.set(HELD.get() + layout.size() as isize);
        // SAFETY: the caller keeps this method's contract, which is the system allocator's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        HELD.set(HELD.get() - layout.size() as isize);
        // SAFETY: the caller keeps this method's contract, which is the system allocator's.
        unsafe { System.dealloc(ptr, layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        HELD.set(HELD.get() + size as isize - layout.size() as isize);
        // SAFETY: the caller keeps this method's contract, which is the system allocator's.
        unsafe { System.realloc(ptr, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn held() -> f64 {
    HELD.get() as f64
}

/// Allocates `live` blocks, then frees and allocates half as many at random. Returns the largest number of host bytes
/// per live block, and the host bytes of the empty pool.
fn per_block(live: usize) -> (f64, f64) {
    let (device, stream) = sim();
    let before = held();
    let pool = Pool::new(CudaResource::new(&device), PoolOptions::new().initial(40 << 30)).unwrap();
    free(&pool, &stream, pool.allocate(&stream, layout::bytes(1).unwrap()).unwrap()).unwrap();
    let empty = held() - before;
    let mut rng = Rng::new(1);
    // Allocated before the count begins, because it is the test's own memory.
    let mut blocks: Vec<Block> = Vec::with_capacity(live);
    let (mut most, before) = (0.0_f64, held());
    let steps = live + live / 2;
    for step in 0..steps {
        if step >= live {
            let victim = rng.below(blocks.len());
            free(&pool, &stream, blocks.swap_remove(victim)).unwrap();
        }
        blocks.push(pool.allocate(&stream, layout::bytes(1 + rng.below(128 << 10)).unwrap()).unwrap());
        if blocks.len() >= 1000 {
            most = most.max((held() - before) / blocks.len() as f64);
        }
    }
    println!("{live} live blocks: at most {most:.1} bytes each, and {empty} for the pool itself");
    blocks.into_iter().for_each(|block| free(&pool, &stream, block).unwrap());
    (most, empty)
}

fn a_live_block_costs_64_bytes_at_most() {
    for live in [1_000, 10_000, 33_000, 100_000] {
        let (most, empty) = per_block(live);
        assert!(most <= 64.0, "{most} bytes for each of {live} blocks");
        assert!(empty < 64_000.0, "{empty} bytes for an empty pool");
    }
}

/// Ten thousand streams, a hundred of them alive at a time. Each frees a block that another stream allocated.
fn tables_have_a_bound_under_changing_streams() {
    let (device, stream) = sim();
    let pool = Pool::new(CudaResource::new(&device), PoolOptions::new().initial(64 << 20)).unwrap();
    let mut alive = std::collections::VecDeque::new();
    let mut after_warming = 0.0;
    for i in 0..10_000_usize {
        let stream = Stream::new(&device).unwrap();
        let block = pool.allocate(&stream, layout::bytes(1 + i % 5000).unwrap()).unwrap();
        alive.push_back((stream, block));
        if alive.len() > 100 {
            let (_, block) = alive.pop_front().unwrap();
            let (heir, _) = &alive[i % 50];
            free(&pool, heir, block).unwrap();
        }
        if i == 2_000 {
            after_warming = held();
        }
    }
    let (stats, grown) = (pool.stats(), held() - after_warming);
    println!("{} streams, {grown} host bytes more than after 2,000", stats.streams);
    assert!(stats.streams <= 256, "{stats}");
    assert_eq!((stats.blocks, stats.reserved), (100, 64 << 20));
    assert!(grown < 64_000.0, "{grown} bytes more than after 2,000 streams");
    for (own, block) in alive {
        free(&pool, &own, block).unwrap();
    }
    let block = pool.allocate(&stream, layout::bytes(64 << 20).unwrap()).unwrap();
    assert_eq!(pool.stats().streams, 1, "the pool has removed the destroyed streams");
    free(&pool, &stream, block).unwrap();
}
