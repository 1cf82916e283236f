//! The time that prefetching each block takes on a warm pool, where its pages are already on the device:
//! without a call to the driver (`prefetch`), with a call each time (`prefetch(always)`), and without prefetch.

mod common;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use cumem::{LayerExt, Stream};

const STACKS: &str = "managed | pool; managed | pool | prefetch; managed | pool | prefetch(always); \
    managed | pool | limit(80%) | statistics | prefetch; managed | pool | limit(80%) | statistics | prefetch(always)";
const SIZES: [usize; 5] = [4 << 10, 64 << 10, 1 << 20, 16 << 20, 256 << 20];

fn prefetch(criterion: &mut Criterion) {
    let device = common::device();
    for spec in common::stacks(STACKS) {
        let mut group = criterion.benchmark_group(format!("prefetch/{}/{spec}", device.id()));
        group.throughput(Throughput::Elements(1));
        let stack = common::build(&spec, &device);
        for bytes in SIZES {
            let stream = Stream::new(stack.device()).unwrap_or_else(|error| common::give_up(error));
            let layout = common::layout(bytes);
            group.bench_function(BenchmarkId::from_parameter(bytes), |bencher| {
                bencher.iter(|| common::free(&stack, &stream, common::allocate(&stack, &stream, layout)));
            });
        }
        group.finish();
    }
}

criterion_group!(benches, prefetch);
criterion_main!(benches);
