//! Streams that work side by side: once each has the memory of its own blocks, no stream waits for another.

use crate::common::free;
use cumem::kernel::HostKernel;
use cumem::sim::{FaultCall, Profile};
use cumem::{Device, LayerExt, MemoryResource, Stream, layout};
use cumem_adaptors::{AnyStack, PoolState, StackSpec};

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;
const LEAVES: [&str; 5] = ["device", "async", "virtual", "managed", "pinned"];

struct Scene {
    device: Device,
    stack: AnyStack,
    streams: [Stream; 4],
}

impl Scene {
    fn new(text: &str) -> Self {
        Self::on(8 << 30, text)
    }

    /// Creates a stack over a device of `capacity` bytes.
    fn on(capacity: u64, text: &str) -> Self {
        let device = Device::simulated(Profile::default().with_capacity(capacity)).unwrap();
        let stack = StackSpec::parse(text).unwrap().build(&device).unwrap();
        let streams = [(); 4].map(|()| Stream::new(&device).unwrap());
        Self { device, stack, streams }
    }

    /// Enqueues a kernel that takes a while on `stream`, with a block of each size.
    fn kernel(&self, stream: &Stream, sizes: &[usize]) {
        let allocate = |bytes: &usize| self.stack.allocate(stream, layout::bytes(*bytes).unwrap()).unwrap();
        let blocks: Vec<_> = sizes.iter().map(allocate).collect();
        let kernel = HostKernel::new("kernel", |_| ()).operations(1_000_000_000_000);
        let kernel = blocks.iter().fold(kernel, |kernel, block| kernel.writes(block.addr(), 8));
        // SAFETY: the blocks are live and ready on this stream.
        unsafe { stream.launch_host(kernel) }.unwrap();
        blocks.into_iter().for_each(|block| free(&self.stack, stream, block).unwrap());
    }

    /// Enqueues kernels on all streams in turn. Returns how often a stream or the host was made to wait.
    fn rounds(&self, rounds: usize, sizes: &[usize]) -> u64 {
        let simulator = self.device.simulator().unwrap();
        let waits = || simulator.calls(FaultCall::WaitEvent) + simulator.calls(FaultCall::Synchronize);
        let before = waits();
        (0..rounds).flat_map(|_| &self.streams).for_each(|stream| self.kernel(stream, sizes));
        waits() - before
    }

    fn touched(&self) -> usize {
        self.stack.find::<PoolState>().unwrap().stats().touched
    }
}

#[test]
fn no_kernel_of_a_warm_pool_waits() {
    let mut waits = Vec::new();
    for leaf in LEAVES {
        for bytes in [64 * KIB, 300 * KIB, MIB, 3 * MIB, 17 * MIB, 64 * MIB] {
            let scene = Scene::new(&format!("{leaf} | pool"));
            scene.rounds(20, &[bytes]);
            let warm = scene.rounds(20, &[bytes]);
            let most = 6 * bytes.max(2 * MIB);
            let reserved = scene.touched();
            if warm > 0 || reserved > most {
                waits.push(format!("{leaf}, {bytes} bytes: {warm} waits in 80 kernels, {reserved} bytes in use"));
            }
        }
    }
    assert!(waits.is_empty(), "{waits:#?}");
}

#[test]
fn streams_with_blocks_of_several_sizes() {
    for leaf in LEAVES {
        let scene = Scene::new(&format!("{leaf} | pool"));
        let sizes = [5 * MIB, 700 * KIB, 12 * MIB, 90 * KIB, MIB, 3 * MIB];
        scene.rounds(30, &sizes);
        assert_eq!(scene.rounds(20, &sizes), 0, "{leaf}");
        assert!(scene.touched() < 8 * sizes.iter().sum::<usize>(), "{leaf}: {} bytes", scene.touched());
    }
}

/// A stream does not take the last piece of another one while a third has more: those would take each other's for ever.
#[test]
fn idle_streams_that_share_a_chunk_keep_their_memory() {
    for leaf in LEAVES {
        let scene = Scene::new(&format!("{leaf} | pool"));
        let queries = || scene.device.simulator().unwrap().calls(FaultCall::Query);
        let rounds = || {
            let before = queries();
            for stream in (0..20).flat_map(|_| &scene.streams) {
                let block = scene.stack.allocate(stream, layout::bytes(64 * KIB).unwrap()).unwrap();
                free(&scene.stack, stream, block).unwrap();
            }
            queries() - before
        };
        rounds();
        assert_eq!((rounds(), scene.touched()), (0, 2 * MIB), "{leaf}");
    }
}

/// Where the pool cannot grow, streams wait as before, and the pool seldom calls its upstream in vain.
#[test]
fn streams_of_a_pool_at_its_maximum_share_its_memory() {
    for leaf in LEAVES {
        let scene = Scene::new(&format!("{leaf} | pool(maximum=12MiB)"));
        scene.rounds(40, &[4 * MIB]);
        assert!(scene.rounds(20, &[4 * MIB]) > 0, "{leaf}: four streams have room for three blocks");
        assert!(scene.touched() <= 12 * MIB);
    }
    let scene = Scene::on(12 << 20, "device | pool");
    scene.rounds(100, &[4 * MIB]);
    let calls = scene.device.simulator().unwrap().calls(FaultCall::AllocateDevice);
    assert!(calls < 60, "{calls} calls of the driver for 400 blocks");
}

/// A stream that is used once waits, and the pool does not grow for it.
#[test]
fn streams_that_come_and_go_do_not_make_the_pool_grow() {
    let scene = Scene::new("device | pool");
    for _ in 0..100 {
        scene.kernel(&Stream::new(&scene.device).unwrap(), &[8 * MIB]);
    }
    assert_eq!(scene.touched(), 8 * MIB);
}
