//! The latency of single calls, at the median and in the tail. Each allocation and each free is timed alone, with the
//! clock before and after. Reading the clock takes time too: that time is included in every figure, and is printed
//! first.
//!
//! This bench does not use Criterion, which reports means of many calls.

mod common;

use common::rng::Engine;
use cumem::{Block, Device, MemoryResource, Stream};
use cumem_adaptors::StackSpec;
use std::time::Instant;

/// Blocks that the random workload keeps alive.
const LIVE: usize = 5_000;
/// The largest size of these blocks, in bytes.
const LARGEST: u64 = 1 << 20;

/// The times of one kind of call, in nanoseconds.
struct Times(Vec<u64>);

impl Times {
    fn with_capacity(calls: usize) -> Self {
        Self(Vec::with_capacity(calls))
    }

    #[inline]
    fn of<T>(&mut self, call: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let answer = call();
        self.0.push(start.elapsed().as_nanos() as u64);
        answer
    }

    fn print(mut self, what: &str) {
        self.0.sort_unstable();
        let of_10_000 = |part: usize| self.0[(self.0.len() - 1) * part / 10_000];
        let [p50, p99, p999, max] = [5_000, 9_900, 9_990, 10_000].map(of_10_000);
        println!("{what:<85} p50 {p50:>6} ns  p99 {p99:>6} ns  p99.9 {p999:>7} ns  max {max:>9} ns");
    }
}

/// Allocates and frees one block at a time.
fn pairs(resource: &impl MemoryResource, stream: &Stream, calls: usize) -> [Times; 2] {
    let layout = common::layout(64 << 10);
    let mut times = [(); 2].map(|()| Times::with_capacity(calls));
    for _ in 0..calls {
        let block = times[0].of(|| common::allocate(resource, stream, layout));
        times[1].of(|| common::free(resource, stream, block));
    }
    times
}

/// Frees one of many blocks at random, and allocates another of a random size.
fn random(resource: &impl MemoryResource, stream: &Stream, calls: usize) -> [Times; 2] {
    let mut engine = Engine::new();
    let mut next = || common::layout(engine.uniform(1, LARGEST) as usize);
    let mut live: Vec<Block> = (0..LIVE).map(|_| common::allocate(resource, stream, next())).collect();
    let mut victims = Engine::new();
    let mut times = [(); 2].map(|()| Times::with_capacity(calls));
    for _ in 0..calls {
        let victim = live.swap_remove(victims.uniform(0, LIVE as u64 - 1) as usize);
        times[1].of(|| common::free(resource, stream, victim));
        let layout = next();
        live.push(times[0].of(|| common::allocate(resource, stream, layout)));
    }
    live.into_iter().for_each(|block| common::free(resource, stream, block));
    times
}

fn measure(spec: &StackSpec, device: &Device, calls: usize) {
    let stream = Stream::new(device).unwrap_or_else(|error| common::give_up(error));
    let stack = common::build(spec, device);
    // The first run of each workload is not counted, because the stack takes its memory in it.
    pairs(&stack, &stream, calls);
    let [allocate, free] = pairs(&stack, &stream, calls);
    let name = format!("latency/{}/{spec}", device.id());
    allocate.print(&format!("{name}/pair, allocate"));
    free.print(&format!("{name}/pair, free"));
    random(&stack, &stream, calls);
    let [allocate, free] = random(&stack, &stream, calls);
    allocate.print(&format!("{name}/random, allocate"));
    free.print(&format!("{name}/random, free"));
}

fn main() {
    // Like Criterion's benches, which make one round if Cargo only tests that they run.
    let calls = if std::env::args().any(|arg| arg == "--test") { 100 } else { 500_000 };
    let device = common::device();
    let mut clock = Times::with_capacity(calls);
    (0..calls).for_each(|_| clock.of(|| ()));
    clock.print("the clock alone");
    for spec in common::stacks("device | pool; managed | pool | limit(80%) | statistics; async") {
        measure(&spec, &device, calls);
    }
}
