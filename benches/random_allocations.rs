//! RMM's `RANDOM_ALLOCATIONS_BENCH`: 2 N steps on one thread and the default stream, of which 73 % allocate as long as
//! the limits allow it. The time per step includes random numbers and bookkeeping, as in RMM.
//!
//! Sizes go up to 4 MiB, or up to each size in `CUMEM_MAX_SIZE_MIB` (a list such as `1,4,64,256,1024,4096`, which is
//! RMM's own).

mod common;

use common::rng::Engine;
use criterion::{BenchmarkId, Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use cumem::{Block, MemoryResource, Stream};
use std::time::{Duration, Instant};

const MIB: u64 = 1 << 20;
/// The bound that live bytes stay below.
const MAX_LIVE: u64 = 16_000 * MIB;
/// Percent of the steps that allocate, while a block is live.
const ALLOCATE_PERCENT: u64 = 73;
const BLOCKS: [u64; 3] = [1_000, 10_000, 100_000];

fn workload<R: MemoryResource>(resource: &R, stream: &Stream, blocks: u64, max_size: u64) -> Duration {
    let mut engine = Engine::new();
    let mut live: Vec<Block> = Vec::new();
    let (mut allocated, mut live_bytes) = (0, 0);
    let start = Instant::now();
    for _ in 0..2 * blocks {
        let size = engine.uniform(1, max_size);
        let allocate = live.is_empty()
            || (engine.uniform(0, 99) < ALLOCATE_PERCENT && allocated < blocks && live_bytes + size < MAX_LIVE);
        let found = if allocate { try_allocate(resource, stream, size) } else { None };
        if let Some(block) = found {
            live.push(block);
            allocated += 1;
            live_bytes += size;
        } else if !live.is_empty() {
            let victim = engine.uniform(0, blocks - 1) as usize % live.len();
            let block = live.swap_remove(victim);
            live_bytes -= block.size() as u64;
            common::free(resource, stream, block);
        }
    }
    let elapsed = start.elapsed();
    for block in live {
        common::free(resource, stream, block);
    }
    elapsed
}

/// Returns `None` if memory has run out; the step then frees a block instead.
fn try_allocate<R: MemoryResource>(resource: &R, stream: &Stream, size: u64) -> Option<Block> {
    match resource.allocate(stream, common::layout(size as usize)) {
        Ok(block) => Some(block),
        Err(error) if error.is_out_of_memory() => None,
        Err(error) => common::give_up(error),
    }
}

fn max_sizes() -> Vec<u64> {
    let text = std::env::var("CUMEM_MAX_SIZE_MIB").unwrap_or_else(|_| "4".into());
    let size = |text: &str| match text.trim().parse() {
        Ok(size) if size > 0 => size,
        _ => common::give_up(format!("CUMEM_MAX_SIZE_MIB is a list of MiB such as `1,4,64`, not `{text}`")),
    };
    text.split(',').map(size).collect()
}

fn random_allocations(criterion: &mut Criterion) {
    let device = common::device();
    let stream = Stream::legacy_default(&device);
    for max_size in max_sizes() {
        let mut group = criterion.benchmark_group(format!("random_allocations/{}/up to {max_size} MiB", device.id()));
        group.throughput(Throughput::Elements(1)).sampling_mode(SamplingMode::Flat).sample_size(10);
        for spec in common::stacks(common::STACKS) {
            for blocks in BLOCKS {
                // One stack for all runs of the figure, as in RMM.
                let stack = common::build(&spec, &device);
                group.bench_function(BenchmarkId::new(spec.to_string(), blocks), |bencher| {
                    common::per_operation(bencher, 2 * blocks, || workload(&stack, &stream, blocks, max_size * MIB));
                });
            }
        }
        group.finish();
    }
}

criterion_group!(benches, random_allocations);
criterion_main!(benches);
