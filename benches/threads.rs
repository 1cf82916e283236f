//! Threads with one stream each. Every step frees a block and allocates one of another size, 256 B to 512 KiB.
//! The time per pair is that of one thread; the throughput is that of all threads together.
//!
//! Then the same with one stack for each thread. The threads then share nothing of this library.
//! The remaining difference between one thread and many is the machine's: cores share execution units, and clocks fall.
//!
//! Then threads that free each other's blocks: each thread puts what it allocates into a ring, from which the next thread
//! takes and frees it. A thread frees its own block only if the next thread is a whole ring behind, so no thread waits.
//! `hand-over alone` is the cost of the rings: blocks are exchanged with them, and none is allocated or freed.

mod common;

use common::rng::Engine;
use criterion::{BenchmarkId, Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use cumem::{Block, Device, MemoryResource, Stream};
use std::alloc::Layout;
use std::sync::{Barrier, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

const THREADS: [usize; 5] = [1, 2, 4, 8, 16];
/// Blocks that a thread keeps alive.
const LIVE: usize = 64;
const STACKS: &str = "device | pool; device | pool | limit(80%) | statistics; managed | pool | limit(80%) | statistics; \
                      managed | pool | limit(80%) | statistics | prefetch; async";

/// Returns powers of two from 256 B to 512 KiB.
fn layouts() -> [Layout; 1024] {
    let mut engine = Engine::new();
    std::array::from_fn(|_| common::layout(256 << engine.uniform(0, 11)))
}

/// Runs one thread for each of `inputs`. Returns the mean of their times.
fn mean_of<T: Send>(inputs: Vec<T>, work: impl Fn(T) -> Duration + Sync) -> Duration {
    let threads = inputs.len() as u32;
    let total: Duration = thread::scope(|scope| {
        let work = &work;
        let workers = Vec::from_iter(inputs.into_iter().map(|input| scope.spawn(move || work(input))));
        workers.into_iter().map(|worker| worker.join().unwrap_or_else(|_| common::give_up("a thread panicked"))).sum()
    });
    total / threads
}

/// Returns the mean of the threads' times for `pairs` pairs each. The stacks are assigned to the threads in turn.
fn run<R: MemoryResource + Sync>(stacks: &[R], device: &Device, threads: usize, pairs: u64) -> Duration {
    let barrier = Barrier::new(threads);
    let work = |resource: &R| {
        let stream = Stream::new(device).unwrap_or_else(|error| common::give_up(error));
        let layouts = layouts(); // drawn before the measurement
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
    mean_of(stacks.iter().cycle().take(threads).collect(), work)
}

/// A place for a block. Aligned to two cache lines, because some processors fetch lines in pairs.
#[derive(Default)]
#[repr(align(128))]
struct Slot(Mutex<Option<Block>>);

impl Slot {
    fn replace(&self, block: Option<Block>) -> Option<Block> {
        std::mem::replace(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner), block)
    }
}

/// Returns the mean of the threads' times for `pairs` blocks each, which each thread allocates and the next one frees. If
/// they are `passed_on`, each thread exchanges a block with its own ring and then with that of the thread before it.
fn hand_over<R: MemoryResource + Sync>(
    stack: &R,
    device: &Device,
    threads: usize,
    pairs: u64,
    passed_on: bool,
) -> Duration {
    let rings: Vec<[Slot; LIVE]> = (0..threads).map(|_| std::array::from_fn(|_| Slot::default())).collect();
    let barrier = Barrier::new(threads);
    let work = |thread: usize| {
        let stream = Stream::new(device).unwrap_or_else(|error| common::give_up(error));
        let layouts = layouts();
        let allocate = |step: usize| Some(common::allocate(stack, &stream, layouts[step % layouts.len()]));
        let free = |block: Option<Block>| block.into_iter().for_each(|block| common::free(stack, &stream, block));
        let (mine, others) = (&rings[thread], &rings[(thread + threads - 1) % threads]);
        mine.iter().enumerate().for_each(|(step, slot)| free(slot.replace(allocate(step))));
        let mut held = passed_on.then(|| allocate(LIVE)).flatten();
        barrier.wait();
        let start = Instant::now();
        for step in 0..pairs as usize {
            let (put, taken) = (&mine[step % LIVE], &others[(step + LIVE / 2) % LIVE]);
            if passed_on {
                held = taken.replace(put.replace(held));
            } else {
                free(put.replace(allocate(step + LIVE)));
                free(taken.replace(None));
            }
        }
        let elapsed = start.elapsed();
        free(held);
        barrier.wait();
        mine.iter().for_each(|slot| free(slot.replace(None)));
        elapsed
    };
    mean_of((0..threads).collect(), work)
}

fn threads(criterion: &mut Criterion) {
    let device = common::device();
    let mut group = criterion.benchmark_group(format!("threads/{}", device.id()));
    group.sampling_mode(SamplingMode::Flat).sample_size(20);
    for (index, spec) in common::stacks(STACKS).into_iter().enumerate() {
        for (each, threads) in [false, true].into_iter().flat_map(|each| THREADS.map(|threads| (each, threads))) {
            let stacks: Vec<_> = (0..if each { threads } else { 1 }).map(|_| common::build(&spec, &device)).collect();
            let name = if each { format!("{spec}, one each") } else { spec.to_string() };
            group.throughput(Throughput::Elements(threads as u64));
            group.bench_function(BenchmarkId::new(name, threads), |bencher| {
                bencher.iter_custom(|pairs| run(&stacks, &device, threads, pairs));
            });
        }
        // The rings cost the same with every stack.
        let passed_on = if index == 0 { &[false, true][..] } else { &[false] };
        for (passed_on, threads) in passed_on.iter().flat_map(|&passed_on| THREADS.map(|threads| (passed_on, threads)))
        {
            let stack = common::build(&spec, &device);
            let name = if passed_on { "hand-over alone".into() } else { format!("{spec}, freed by the next thread") };
            group.throughput(Throughput::Elements(threads as u64));
            group.bench_function(BenchmarkId::new(name, threads), |bencher| {
                bencher.iter_custom(|pairs| hand_over(&stack, &device, threads, pairs, passed_on));
            });
        }
    }
    group.finish();
}

criterion_group!(benches, threads);
criterion_main!(benches);
