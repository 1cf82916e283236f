//! Loom runs all interleavings of a few threads over the real pool. Only the pool's synchronization primitives are
//! loom's (`pool/sync.rs`). There are only two slots, so that slots are given to other streams.
//!
//! The simulated device checks what a stream may see: blocks are written and verified there in stream order, without
//! the host waiting. Memory that reaches another stream too early is therefore found changed.
//!
//! `RUSTFLAGS="--cfg loom" cargo test --release -p cumem-adaptors --lib interleavings` runs all of them in half a
//! minute. Here a slot's lock is a mutex; the real lock has its own model (`lock/interleavings.rs`).

use super::adaptor::Pool;
use super::options::PoolOptions;
use cumem::kernel::HostKernel;
use cumem::sim::Profile;
use cumem::{Block, CudaResource, Device, MemoryResource, Stream, layout};
use loom::thread::{self, JoinHandle};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

const MIB: usize = 1 << 20;

/// Spawns a thread with enough stack for the simulator's calls.
fn spawn<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    thread::Builder::new().stack_size(1 << 18).spawn(work).unwrap()
}

/// Runs every interleaving of the threads that `body` spawns, and prints their number.
fn model(body: fn()) {
    // One model at a time: streams are numbered across the process, and the choice of a slot depends on that number.
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let mut model = loom::model::Builder::new();
    // One call of the pool takes a few dozen steps.
    model.max_branches = 20_000;
    let count = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&count);
    model.check(move || {
        counted.fetch_add(1, Relaxed);
        spawn(body).join().unwrap();
    });
    println!("{} interleavings", count.load(Relaxed));
}

#[derive(Clone)]
struct Scene {
    pool: Arc<Pool<CudaResource>>,
    streams: [Stream; 3],
    /// The number of blocks that were found changed.
    changed: Arc<AtomicU64>,
}

impl Scene {
    fn new(maximum: usize) -> Self {
        let device = Device::simulated(Profile::tiny(64 * MIB as u64)).unwrap();
        let options = PoolOptions::new().maximum(maximum).step(maximum);
        let pool = Arc::new(Pool::new(CudaResource::new(&device), options).unwrap());
        let streams = [(); 3].map(|()| Stream::new(&device).unwrap());
        Self { pool, streams, changed: Arc::default() }
    }

    /// Allocates a block and writes `mark` to its first bytes. Returns `None` if memory has run out.
    fn take(&self, stream: usize, bytes: usize, mark: u8) -> Option<Block> {
        let block = self.pool.allocate(&self.streams[stream], layout::bytes(bytes).unwrap()).ok()?;
        let fill = HostKernel::new("fill", move |memory| memory.write::<u8>(0).fill(mark));
        // SAFETY: the block is live, and ready on this stream.
        unsafe { self.streams[stream].launch_host(fill.writes(block.addr(), 64)) }.unwrap();
        Some(block)
    }

    /// Enqueues long work that verifies the mark, and frees the block on the same stream.
    fn give(&self, stream: usize, block: Block, mark: u8) {
        let changed = Arc::clone(&self.changed);
        let verify = HostKernel::new("verify", move |memory| {
            if memory.read::<u8>(0).iter().any(|&byte| byte != mark) {
                changed.fetch_add(1, Relaxed);
            }
        });
        let verify = verify.operations(1_000_000_000_000).reads(block.addr(), 64);
        // SAFETY: the block is live. Its uses were on this stream, or before this thread got it.
        unsafe { self.streams[stream].launch_host(verify) }.unwrap();
        // SAFETY: all uses are on this stream.
        unsafe { self.pool.deallocate(&self.streams[stream], block) }.unwrap();
    }

    fn take_and_give(&self, stream: usize, bytes: usize, mark: u8) -> bool {
        let block = self.take(stream, bytes, mark);
        block.map(|block| self.give(stream, block, mark)).is_some()
    }

    fn check(&self) {
        for stream in &self.streams {
            stream.synchronize().unwrap();
        }
        assert_eq!(self.changed.load(Relaxed), 0, "memory was used by two streams at a time");
        let stats = self.pool.stats();
        assert_eq!((stats.blocks, stats.allocated, stats.requested), (0, 0, 0));
        assert_eq!(stats.free, stats.reserved);
    }
}

/// Two streams share memory for one block. Each takes over memory of the other, whose work is not done.
#[test]
fn memory_moves_between_streams_only_after_its_work() {
    model(|| {
        let scene = Scene::new(4 * MIB);
        assert!(scene.take_and_give(0, 3 * MIB, 1));
        let other = scene.clone();
        let thread = spawn(move || other.take_and_give(1, 3 * MIB, 2));
        let mine = scene.take_and_give(0, 3 * MIB, 3);
        let others = thread.join().unwrap();
        assert!(mine || others, "there is room for one at least");
        scene.check();
    });
}

/// A block is freed on another stream while its own stream frees and allocates beside it.
#[test]
fn a_block_is_freed_on_another_stream() {
    model(|| {
        let scene = Scene::new(4 * MIB);
        let [given, kept] = [1, 2].map(|mark| scene.take(0, MIB, mark).unwrap());
        scene.streams[1].wait_for(&scene.streams[0]).unwrap();
        let other = scene.clone();
        let thread = spawn(move || other.give(1, given, 1));
        scene.give(0, kept, 2);
        assert!(scene.take_and_give(0, 2 * MIB, 3));
        thread.join().unwrap();
        scene.check();
    });
}

/// Two streams free a block of each other at the same time. Each free locks both slots.
#[test]
fn two_streams_free_each_others_blocks() {
    model(|| {
        let scene = Scene::new(4 * MIB);
        let [first, second] = [0, 1].map(|stream| scene.take(stream, MIB, 1).unwrap());
        scene.streams[0].wait_for(&scene.streams[1]).unwrap();
        scene.streams[1].wait_for(&scene.streams[0]).unwrap();
        let other = scene.clone();
        let thread = spawn(move || other.give(1, first, 1));
        scene.give(0, second, 1);
        thread.join().unwrap();
        scene.check();
    });
}

/// Three streams share two slots: a stream's slot is given to another stream while the first one uses it.
#[test]
fn a_stream_slot_is_reassigned_to_another_stream() {
    model(|| {
        let scene = Scene::new(8 * MIB);
        assert!(scene.take_and_give(0, MIB, 1));
        assert!(scene.take_and_give(1, MIB, 2));
        let other = scene.clone();
        let thread = spawn(move || other.take_and_give(2, MIB, 3));
        assert!(scene.take_and_give(0, MIB, 4));
        assert!(thread.join().unwrap());
        scene.check();
    });
}

/// Two threads use one stream.
#[test]
fn two_threads_share_a_stream() {
    model(|| {
        let scene = Scene::new(4 * MIB);
        let other = scene.clone();
        let thread = spawn(move || other.take_and_give(0, MIB, 1));
        assert!(scene.take_and_give(0, MIB, 2));
        assert!(thread.join().unwrap());
        scene.check();
    });
}

/// All memory is joined and freed to the upstream while a stream works.
#[test]
fn a_pool_may_be_trimmed_while_streams_allocate() {
    model(|| {
        let scene = Scene::new(4 * MIB);
        assert!(scene.take_and_give(0, MIB, 1));
        let other = scene.clone();
        let thread = spawn(move || other.pool.trim().unwrap());
        assert!(scene.take_and_give(0, MIB, 2));
        thread.join().unwrap();
        scene.check();
    });
}
