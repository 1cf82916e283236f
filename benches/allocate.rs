//! The time of an allocation and its free, by size, on one thread with its own stream.
//! One more figure uses a stream on which an earlier thread has allocated and freed before it ended.

mod common;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use cumem::{MemoryResource, Stream};
use std::alloc::Layout;
use std::thread;

const SIZES: [(&str, usize); 3] = [("256 B", 256), ("64 KiB", 64 << 10), ("1 MiB", 1 << 20)];
/// Pairs that the earlier thread makes, enough for the stack's locks to become biased toward that thread.
const BEFORE: usize = 1_000;

#[inline]
fn pair<R: MemoryResource>(resource: &R, stream: &Stream, layout: Layout) {
    common::free(resource, stream, common::allocate(resource, stream, layout));
}

fn pairs(criterion: &mut Criterion) {
    let device = common::device();
    let mut group = criterion.benchmark_group(format!("allocate/{}", device.id()));
    group.throughput(Throughput::Elements(1));
    for spec in common::stacks(&format!("{}; device; managed", common::STACKS)) {
        let own = SIZES.map(|(name, bytes)| (name, bytes, 0));
        for (name, bytes, before) in
            own.into_iter().chain([("64 KiB, stack and stream of an ended thread", 64 << 10, BEFORE)])
        {
            let stack = common::build(&spec, &device);
            let stream = Stream::new(&device).unwrap_or_else(|error| common::give_up(error));
            let layout = common::layout(bytes);
            thread::scope(|scope| {
                scope.spawn(|| (0..before).for_each(|_| pair(&stack, &stream, layout)));
            });
            group.bench_function(BenchmarkId::new(spec.to_string(), name), |bencher| {
                bencher.iter(|| pair(&stack, &stream, layout));
            });
        }
    }
    group.finish();
}

criterion_group!(benches, pairs);
criterion_main!(benches);
