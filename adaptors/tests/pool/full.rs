//! A full pool refuses at once, and disturbs no other stream, whatever it holds.

use crate::common::{free, sim_with};
use crate::source::Source;
use cumem::error::unreported;
use cumem::kernel::HostKernel;
use cumem::sim::{FaultCall, Profile};
use cumem::{AllocError, Block, CudaResource, Device, LayerExt, MemoryResource, Stream, layout};
use cumem_adaptors::{AnyStack, LimiterState, Pool, PoolOptions, PoolState, ResourceExt, StackSpec};

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

struct Scene {
    device: Device,
    stack: AnyStack,
    stream: Stream,
}

impl Scene {
    fn new(capacity: usize, text: &str) -> Self {
        let (device, stream) = sim_with(Profile::default().with_capacity(capacity as u64));
        let stack = StackSpec::parse(text).unwrap().build(&device).unwrap();
        Self { device, stack, stream }
    }

    fn allocate(&self, bytes: usize) -> Result<Block, AllocError> {
        self.stack.allocate(&self.stream, layout::bytes(bytes).unwrap())
    }

    fn free(&self, block: Block) {
        free(&self.stack, &self.stream, block).unwrap();
    }

    /// Fills the pool with blocks of `bytes` bytes.
    fn fill(&self, bytes: usize) -> Vec<Block> {
        std::iter::from_fn(|| self.allocate(bytes).ok()).collect()
    }

    /// Returns how often the driver was called to query or record, to wait, and to allocate or map.
    fn calls(&self) -> [u64; 3] {
        use FaultCall::{
            AllocateDevice, AllocateManaged, CreateEvent, Map, Query, RecordEvent, Synchronize, WaitEvent,
        };
        let kinds: [&[FaultCall]; 3] =
            [&[Query, RecordEvent, CreateEvent], &[WaitEvent, Synchronize], &[AllocateDevice, AllocateManaged, Map]];
        let simulator = self.device.simulator().unwrap();
        kinds.map(|kinds| kinds.iter().map(|kind| simulator.calls(*kind)).sum())
    }
}

/// Another stream keeps a free block of its own. A refusal leaves it there, so that the stream hits.
#[test]
fn a_refusal_disturbs_no_other_stream() {
    for leaf in ["device", "async", "virtual", "managed", "pinned"] {
        let scene = Scene::new(1 << 30, &format!("{leaf} | pool(maximum=12MiB)"));
        let other = Stream::new(&scene.device).unwrap();
        let own = scene.stack.allocate(&other, layout::bytes(64 * KIB).unwrap()).unwrap();
        let held = scene.fill(64 * KIB);
        let cached = || {
            let snapshot = scene.stack.find::<PoolState>().unwrap().snapshot();
            snapshot.streams.iter().filter(|own| own.stream == Some(other.id())).map(|own| own.cached).sum::<usize>()
        };
        free(&scene.stack, &other, own).unwrap();
        assert_eq!(cached(), 64 * KIB);
        let busy = HostKernel::new("busy", |_| ()).operations(1_000_000_000_000);
        // SAFETY: the kernel touches nothing.
        unsafe { other.launch_host(busy) }.unwrap();
        let calls = scene.calls();
        for _ in 0..10 {
            scene.allocate(128 * KIB).unwrap_err();
            scene.allocate(2 * MIB).unwrap_err();
            assert_eq!(cached(), 64 * KIB, "{leaf}: the other stream's memory stays with that stream");
            let own = scene.stack.allocate(&other, layout::bytes(64 * KIB).unwrap()).unwrap();
            free(&scene.stack, &other, own).unwrap();
        }
        assert_eq!(scene.calls(), calls, "{leaf}: calls of the driver");
        held.into_iter().for_each(|block| scene.free(block));
    }
}

/// Free memory in many places, none of which is large enough.
#[test]
fn a_refusal_is_remembered_until_a_block_is_freed() {
    for leaf in ["device", "managed"] {
        let scene = Scene::new(1 << 30, &format!("{leaf} | pool(maximum=12MiB)"));
        let mut held = scene.fill(64 * KIB);
        held.sort_unstable_by_key(Block::addr);
        let mut kept = Vec::new();
        for (n, block) in held.into_iter().enumerate() {
            if n % 2 == 0 { scene.free(block) } else { kept.push(block) }
        }
        let (_, busy) = (scene.allocate(128 * KIB).unwrap_err(), HostKernel::new("busy", |_| ()));
        // SAFETY: the kernel touches nothing.
        unsafe { scene.stream.launch_host(busy.operations(1_000_000_000_000)) }.unwrap();
        let calls = scene.calls();
        (0..10).for_each(|n| drop(scene.allocate((128 + 64 * n) * KIB).unwrap_err()));
        assert_eq!(scene.calls(), calls, "{leaf}: nothing was freed in between");
        let smaller = scene.allocate(64 * KIB).unwrap();
        scene.allocate(128 * KIB).unwrap_err();
        scene.free(smaller);
        scene.free(kept.swap_remove(kept.len() / 2));
        let fits = scene.allocate(128 * KIB).unwrap();
        scene.free(fits);
        kept.into_iter().for_each(|block| scene.free(block));
        assert_eq!(scene.allocate(12 * MIB).map(|block| scene.free(block)), Ok(()), "{leaf}");
    }
}

/// Memory that another program frees on the device is found, although nothing was freed in the pool.
#[test]
fn the_upstream_is_called_again_for_each_refused_request() {
    for leaf in ["device", "async", "virtual", "managed"] {
        let scene = Scene::new(32 * MIB, &format!("{leaf} | limit(16MiB) | pool"));
        let held = scene.fill(MIB);
        for _ in 0..3 {
            scene.allocate(2 * MIB).unwrap_err();
        }
        scene.stack.find::<LimiterState>().unwrap().set_bytes(24 * MIB);
        let more = scene.allocate(2 * MIB).unwrap();
        scene.free(more);
        held.into_iter().for_each(|block| scene.free(block));
    }
}

/// The rest of a new chunk serves the next requests, although they are like the one that was refused.
#[test]
fn a_chunk_allocated_after_a_refusal_is_used() {
    let scene = Scene::new(1 << 30, "device | limit(16MiB) | pool(step=8MiB)");
    let mut held = scene.fill(MIB);
    scene.allocate(2 * MIB).unwrap_err();
    scene.stack.find::<LimiterState>().unwrap().set_bytes(24 * MIB);
    held.extend((0..4).map(|_| scene.allocate(2 * MIB).unwrap()));
    assert_eq!(scene.stack.find::<PoolState>().unwrap().stats().reserved, 24 * MIB);
    held.into_iter().for_each(|block| scene.free(block));
}

/// Less is free than the request needs, but that is a whole chunk: without the chunk there is room for a larger one.
#[test]
fn a_chunk_that_becomes_free_after_a_refusal_makes_room() {
    let scene = Scene::new(1 << 30, "device | pool(maximum=17MiB, step=2MiB)");
    let mut held = scene.fill(2 * MIB);
    assert_eq!(held.len(), 8);
    scene.free(held.pop().unwrap());
    held.push(scene.allocate(3 * MIB).unwrap());
    held.into_iter().for_each(|block| scene.free(block));
}

/// Free chunks are freed to the upstream for a request that needs another chunk.
#[test]
fn chunks_that_become_free_after_a_refusal_make_room_for_a_larger_one() {
    let scene = Scene::new(1 << 30, "device | pool(maximum=16MiB, step=2MiB)");
    let held = scene.fill(2 * MIB);
    scene.allocate(12 * MIB).unwrap_err();
    held.into_iter().for_each(|block| scene.free(block));
    let block = scene.allocate(12 * MIB).unwrap();
    scene.free(block);
}

#[test]
fn an_error_that_is_not_reported_has_no_figures_that_take_time() {
    let scene = Scene::new(1 << 30, "device | pool(maximum=4MiB)");
    let held = scene.fill(MIB);
    let error = unreported(|| scene.allocate(MIB)).unwrap_err();
    let AllocError::Exhausted { held: usage, .. } = &error else { panic!("{error}") };
    assert!(usage.partial && usage.classes.is_empty() && usage.streams.is_empty());
    assert_eq!((usage.reserved, usage.maximum), (4 * MIB, Some(4 * MIB)));
    let text = format!("{error} {usage:#}");
    assert!(text.contains("4 MiB") && !text.contains("in use"), "{text}");
    let error = scene.allocate(MIB).unwrap_err();
    let AllocError::Exhausted { held: usage, .. } = &error else { panic!("{error}") };
    assert_eq!((usage.partial, usage.blocks, usage.classes.len()), (false, 4, 1));
    held.into_iter().for_each(|block| scene.free(block));
}

/// The spill does not report the refusal of its first resource. The refusal of the second one is its error.
#[test]
fn a_spill_reports_only_the_second_refusal() {
    let (device, stream) = sim_with(Profile::default());
    let sources = [(); 2].map(|()| Source::new(CudaResource::new(&device)));
    let reported = |source: &Source<CudaResource>| source.ledger.lock().unwrap().reported.clone();
    sources[0].ledger.lock().unwrap().largest = Some(MIB);
    let spill = (&sources[0]).spill_to(&sources[1]).unwrap();
    let block = spill.allocate(&stream, layout::bytes(2 * MIB).unwrap()).unwrap();
    assert_eq!(sources.each_ref().map(reported), [[false], [true]]);
    free(&spill, &stream, block).unwrap();
}

/// A pool requests a smaller chunk if its upstream refuses a larger one. Only the refusal of the last one is reported.
#[test]
fn a_pool_reports_only_the_refusal_of_its_smallest_chunk() {
    let (device, stream) = sim_with(Profile::default());
    for (options, requests) in [(PoolOptions::new().step(32 * MIB), 4), (PoolOptions::new(), 1)] {
        let pool = Pool::new(Source::new(CudaResource::new(&device)), options).unwrap();
        pool.upstream().ledger.lock().unwrap().largest = Some(3 * MIB);
        pool.allocate(&stream, layout::bytes(4 * MIB).unwrap()).unwrap_err();
        let ledger = pool.upstream().ledger.lock().unwrap();
        let reported: Vec<_> = ledger.requests.iter().map(|&bytes| bytes == 4 * MIB).collect();
        assert_eq!((&ledger.reported, reported.len()), (&reported, requests), "{:?}", ledger.requests);
    }
}
