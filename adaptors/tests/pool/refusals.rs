//! Whichever driver call is refused, and whenever: every figure stays true, no memory is lost, and everything works
//! again afterwards.

use crate::common::{free, sim_with};
use crate::source::{islands, joined, unified};
use cumem::error::{CudaErrorCode, Usage};
use cumem::kernel::HostKernel;
use cumem::sim::{FaultCall, Profile};
use cumem::{AllocError, AnyUpstream, Block, Device, LayerExt, MemoryKind, MemoryResource, Stream, layout};
use cumem_adaptors::pool::{Crossing, Pool, PoolOptions, PoolSnapshot, PoolState, RegionState, StreamStats};
use cumem_conformance::{BlockLedger, LedgerBook};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

const MIB: usize = 1 << 20;

/// A pool with its upstream's ledger, three streams, and the blocks that the test holds.
struct Scene<K: MemoryKind> {
    pool: Pool<BlockLedger<AnyUpstream<K>>>,
    below: LedgerBook,
    streams: [Stream; 3],
    live: Vec<Option<Block>>,
}

impl<K: MemoryKind> Scene<K> {
    fn new(device: &Device, leaf: AnyUpstream<K>, options: PoolOptions) -> Self {
        let upstream = BlockLedger::new(leaf);
        let below = upstream.book();
        let pool = Pool::new(upstream, options).unwrap();
        Self { pool, below, streams: [(); 3].map(|()| Stream::new(device).unwrap()), live: Vec::new() }
    }

    /// Allocates a block and appends it to `live`. Appends `None` if the allocation is refused.
    fn take(&mut self, stream: usize, bytes: usize) {
        match self.pool.allocate(&self.streams[stream], layout::bytes(bytes).unwrap()) {
            Ok(block) => self.live.push(Some(block)),
            Err(error) => {
                match &error {
                    AllocError::Exhausted { held, .. } => self.check_held(held),
                    _ => assert!(error.is_out_of_memory() || matches!(error, AllocError::Device(_)), "{error}"),
                }
                self.live.push(None);
            }
        }
        self.check();
    }

    fn give(&mut self, stream: usize, place: usize) {
        let Some(block) = self.live[place].take() else { return };
        if let Err(error) = free(&self.pool, &self.streams[stream], block) {
            self.live[place] = Some(error.block);
        }
        self.check();
    }

    fn busy(&self, stream: usize) {
        let busy = HostKernel::new("busy", |_| ()).operations(1_000_000_000_000);
        // The launch itself may be refused: then the stream is idle.
        // SAFETY: the kernel touches nothing.
        let _ = unsafe { self.streams[stream].launch_host(busy) };
    }

    fn check(&self) {
        let stats = self.pool.stats();
        let sizes = || self.live.iter().flatten().map(Block::size);
        assert_eq!((stats.blocks, stats.requested), (sizes().count(), sizes().sum()));
        assert_eq!(stats.allocated, sizes().map(|size| size.next_multiple_of(256)).sum::<usize>());
        assert_eq!(stats.allocated + stats.free, stats.reserved);
        assert_eq!(stats.reserved, self.below.outstanding_bytes(), "by the upstream's account");
        let snapshot = self.pool.snapshot();
        assert_eq!(snapshot.stats, stats);
        assert_eq!(snapshot.regions.iter().map(|region| region.bytes).sum::<usize>(), stats.reserved);
    }

    /// Asserts that the error's figures are still those of the pool, because nothing has changed since.
    fn check_held(&self, held: &Usage) {
        let PoolSnapshot { stats, streams, regions, .. } = &self.pool.snapshot();
        assert_eq!((held.reserved, held.allocated, held.free), (stats.reserved, stats.allocated, stats.free));
        assert_eq!((held.requested, held.blocks), (stats.requested, stats.blocks));
        assert_eq!((held.cached, held.largest_free), (stats.cached, stats.largest_free));
        assert_eq!(held.internal_fragmentation(), stats.internal_fragmentation());
        assert_eq!(held.external_fragmentation(), stats.external_fragmentation());
        assert_eq!(held.maximum, self.pool.find::<PoolState>().unwrap().maximum());
        assert_eq!(&held.streams, streams);
        for class in &held.classes {
            let within = |bytes: usize| class.at_most / 2 < bytes && bytes <= class.at_most;
            let live = regions.iter().filter(|region| region.state == RegionState::Live && within(region.bytes));
            let sizes: Vec<_> = live.map(|region| region.bytes).collect();
            assert_eq!((class.blocks, class.bytes), (sizes.len(), sizes.iter().sum()));
        }
        assert_eq!(held.classes.iter().map(|class| class.blocks).sum::<usize>(), held.blocks);
    }

    /// Runs hits, misses, growth, back-off, memory that moves between streams while work is pending, blocks freed on
    /// other streams, out of memory, and chunks that are freed.
    fn play(&mut self) {
        self.take(0, 3 * MIB);
        self.take(0, 1000);
        self.busy(0);
        self.give(0, 0);
        self.take(1, 3 * MIB);
        self.take(2, 5 * MIB);
        self.busy(2);
        self.give(0, 3);
        self.give(1, 2);
        self.take(2, 7 * MIB);
        self.take(0, 20 * MIB);
        self.busy(1);
        self.give(1, 4);
        self.take(1, 6 * MIB);
        let _ = self.pool.trim();
        self.check();
        self.streams[2] = Stream::new(self.streams[0].device()).unwrap_or_else(|_| self.streams[1].clone());
        self.take(2, 9 * MIB);
        self.give(2, 1);
        self.take(1, 100);
    }

    fn end(mut self) {
        for place in 0..self.live.len() {
            self.give(1, place);
        }
        assert!(self.live.iter().all(Option::is_none), "no block is refused any more");
        for stream in &self.streams {
            stream.synchronize().unwrap();
        }
        self.pool.trim().unwrap();
        assert_eq!(self.pool.stats().reserved, 0, "everything is joined to whole chunks again");
        // As much memory as ever is available.
        self.take(0, 15 * MIB);
        self.give(0, self.live.len() - 1);
        drop(self.pool);
        self.below.settle().unwrap();
    }
}

/// Runs the scene once for each call of `kind` that it makes, and makes that call and the `more` calls after it fail.
fn refuse_each(kind: FaultCall, more: u64, options: PoolOptions) {
    refuse_each_over(kind, more, options, islands);
    refuse_each_over(kind, more, options, joined);
    refuse_each_over(kind, more, options, unified);
}

fn refuse_each_over<K: MemoryKind>(
    kind: FaultCall,
    more: u64,
    options: PoolOptions,
    leaf: fn(&Device) -> AnyUpstream<K>,
) {
    let codes = [CudaErrorCode::OUT_OF_MEMORY, CudaErrorCode::UNKNOWN];
    for code in codes {
        for n in 1.. {
            let (device, _) = sim_with(Profile::tiny(48 * MIB as u64));
            let simulator = device.simulator().unwrap().clone();
            let mut scene = Scene::new(&device, leaf(&device), options);
            let before = simulator.calls(kind);
            (n..=n + more).for_each(|n| simulator.fail_nth(kind, n, code));
            scene.play();
            simulator.clear_faults();
            let calls = simulator.calls(kind) - before;
            scene.end();
            if calls < n {
                break;
            }
        }
    }
}

fn short() -> PoolOptions {
    PoolOptions::new().maximum(16 * MIB).step(2 * MIB).slack(0)
}

#[test]
fn each_call_in_turn() {
    for &kind in FaultCall::ALL {
        refuse_each(kind, 0, short());
        refuse_each(kind, 0, PoolOptions::new().crossing(Crossing::GrowFirst).release_threshold(8 * MIB));
    }
}

#[test]
fn each_call_and_the_next_ones() {
    for more in [1, 2, 5, 1000] {
        refuse_each(FaultCall::Any, more, short());
        refuse_each(FaultCall::Any, more, PoolOptions::new().release_threshold(4 * MIB));
    }
}

/// While other threads allocate and free on their own streams, all figures of one error are of one moment.
#[test]
fn figures_of_an_error_agree_with_each_other() {
    assert!(size_of::<AllocError>() <= 64, "the figures are on the heap: {} bytes", size_of::<AllocError>());
    let (device, stream) = sim_with(Profile::tiny(48 * MIB as u64));
    let pool = Pool::new(islands(&device), short()).unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for thread in 1..4_usize {
            let (pool, done, stream) = (&pool, &done, Stream::new(&device).unwrap());
            scope.spawn(move || {
                let sizes = (1..).map(|n| thread * 1000 + n * 7919 % 100_000).take_while(|_| !done.load(Relaxed));
                for bytes in sizes {
                    let blocks = [bytes, 3 * bytes].map(|bytes| pool.allocate(&stream, layout::bytes(bytes).unwrap()));
                    blocks.into_iter().flatten().for_each(|block| free(pool, &stream, block).unwrap());
                }
            });
        }
        for _ in 0..500 {
            let error = pool.allocate(&stream, layout::bytes(17 * MIB).unwrap()).unwrap_err();
            let AllocError::Exhausted { held, .. } = &error else { panic!("{error}") };
            assert_eq!(held.allocated + held.free, held.reserved, "{error}");
            assert!(held.requested <= held.allocated && held.largest_free <= held.free, "{error}");
            let sum = |of: fn(&StreamStats) -> usize| held.streams.iter().map(of).sum::<usize>();
            assert_eq!(
                (sum(|own| own.allocated), sum(|own| own.requested)),
                (held.allocated, held.requested),
                "{error}"
            );
            assert_eq!((sum(|own| own.cached), sum(|own| own.blocks)), (held.cached, held.blocks), "{error}");
            let classes = held.classes.iter().map(|class| (class.blocks, class.bytes));
            let classes = classes.fold((0, 0), |(blocks, bytes), class| (blocks + class.0, bytes + class.1));
            assert_eq!(classes, (held.blocks, held.allocated), "{error}");
        }
        done.store(true, Relaxed);
    });
}
