//! Threads with one stream each. Every step frees a block and allocates one of another size, 256 B to 512 KiB.
//! The time per pair is that of one thread; the throughput is that of all threads together.
//!
//! Then the same with one stack for each thread. The threads then share nothing of this library.
//! The remaining difference between one thread and many is the machine's: cores share execution units, and clocks fall.

mod common;

use common::rng::Engine;
use criterion::{BenchmarkId, Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use cumem::{Device, MemoryResource, Stream};
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

const THREADS: [usize; 5] = [1, 2, 4, 8, 16];
/// Blocks that a thread keeps alive.
const LIVE: usize = 64;

/// Returns the mean of the threads' times for `pairs` pairs each. The stacks are assigned to the threads in turn.
fn run<R: MemoryResource + Sync>(stacks: &[R], device: &Device, threads: usize, pairs: u64) -> Duration {
    let barrier = Barrier::new(threads);
    let work = |resource: &R| {
        let stream = Stream::new(device).unwrap_or_else(|error| common::give_up(error));
        // Drawn before the measurement: powers of two from 256 B to 512 KiB.
        let mut engine = Engine::new();
        let layouts: [_; 1024] = std::array::from_fn(|_| common::layout(256 << engine.uniform(0, 11)));
        let mut live: Vec<_> =
            layouts[..LIVE].iter().map(|&layout| Some(common::allocate(resource, &stream, layout))).collect();
        barrier.wait();
        let start = Instant::now();
        for step in 0..pairs as usize {
            let slot = &mut live[step % LIVE];
            if let Some(block) = slot.take() {
                common::free(resource, &stream, block);
            }
            *slot = Some(common::allocate(resource, &stream, layouts[(step + LIVE) % layouts.len()]));
        }
        let elapsed = start.elapsed();
        for block in live.into_iter().flatten() {
            common::free(resource, &stream, block);
        }
        elapsed
    };
    let total: Duration = thread::scope(|scope| {
        let stacks = stacks.iter().cycle().take(threads);
        let workers = Vec::from_iter(stacks.map(|stack| scope.spawn(|| work(stack))));
        workers.into_iter().map(|worker| worker.join().unwrap_or_else(|_| common::give_up("a thread panicked"))).sum()
    });
    total / threads as u32
}

fn threads(criterion: &mut Criterion) {
    let device = common::device();
    let mut group = criterion.benchmark_group(format!("threads/{}", device.id()));
    group.sampling_mode(SamplingMode::Flat).sample_size(20);
    for spec in common::stacks("device | pool; managed | pool | limit(80%) | statistics; async") {
        for (each, threads) in [false, true].into_iter().flat_map(|each| THREADS.map(|threads| (each, threads))) {
            let stacks: Vec<_> = (0..if each { threads } else { 1 }).map(|_| common::build(&spec, &device)).collect();
            let name = if each { format!("{spec}, one each") } else { spec.to_string() };
            group.throughput(Throughput::Elements(threads as u64));
            group.bench_function(BenchmarkId::new(name, threads), |bencher| {
                bencher.iter_custom(|pairs| run(&stacks, &device, threads, pairs));
            });
        }
    }
    group.finish();
}

criterion_group!(benches, threads);
criterion_main!(benches);
