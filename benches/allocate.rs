//! An allocation and its free, by size: time per pair, on one thread and a stream of its own.

mod common;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use cumem::Stream;

const SIZES: [(&str, usize); 3] = [("256 B", 256), ("64 KiB", 64 << 10), ("1 MiB", 1 << 20)];

fn pairs(criterion: &mut Criterion) {
    let device = common::device();
    let mut group = criterion.benchmark_group(format!("allocate/{}", device.id()));
    group.throughput(Throughput::Elements(1));
    for spec in common::stacks(&format!("{}; device; managed", common::STACKS)) {
        for (name, bytes) in SIZES {
            let stack = common::build(&spec, &device);
            let stream = Stream::new(&device).unwrap_or_else(|error| common::give_up(error));
            let layout = common::layout(bytes);
            group.bench_function(BenchmarkId::new(spec.to_string(), name), |bencher| {
                bencher.iter(|| common::free(&stack, &stream, common::allocate(&stack, &stream, layout)));
            });
        }
    }
    group.finish();
}

criterion_group!(benches, pairs);
criterion_main!(benches);
