//! The time that the driver takes to map and to unmap memory: new memory of several sizes, and memory that is mapped a
//! second time in 1 to 16 pieces of 2 MiB. A pool uses such aliases to stitch (`CudaVirtualResource::map_alias`).

mod common;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use cumem::{Block, CudaVirtualResource, Stream};
use std::time::{Duration, Instant};

const SIZES: [usize; 3] = [2 << 20, 32 << 20, 512 << 20];
const PIECES: [usize; 4] = [1, 2, 4, 16];

fn mapping(criterion: &mut Criterion) {
    let device = common::device();
    let mut group = criterion.benchmark_group(format!("mapping/{}", device.id()));
    group.throughput(Throughput::Elements(1));
    let stream = Stream::new(&device).unwrap_or_else(|error| common::give_up(error));
    let leaf = CudaVirtualResource::new(&device).unwrap_or_else(|error| common::give_up(error));
    for bytes in SIZES {
        let layout = common::layout(bytes);
        group.bench_function(BenchmarkId::new("new", bytes), |bencher| {
            bencher.iter(|| common::free(&leaf, &stream, common::allocate(&leaf, &stream, layout)));
        });
    }
    let blocks: Vec<Block> =
        (0..PIECES[PIECES.len() - 1]).map(|_| common::allocate(&leaf, &stream, common::layout(2 << 20))).collect();
    for pieces in PIECES {
        let pieces: Vec<&Block> = blocks[..pieces].iter().collect();
        for part in ["map_alias", "unmap_alias"] {
            group.bench_function(BenchmarkId::new(part, pieces.len()), |bencher| {
                bencher.iter_custom(|rounds| (0..rounds).map(|_| alias(&leaf, &pieces, part == "map_alias")).sum());
            });
        }
    }
    blocks.into_iter().for_each(|block| common::free(&leaf, &stream, block));
    group.finish();
}

/// Returns the time of mapping if `map` is true, and of unmapping otherwise.
fn alias(leaf: &CudaVirtualResource, pieces: &[&Block], map: bool) -> Duration {
    let start = Instant::now();
    // SAFETY: the pieces outlive the alias, and no work uses either.
    let alias = unsafe { leaf.map_alias(pieces) }.unwrap_or_else(|error| common::give_up(error));
    let mapped = start.elapsed();
    // SAFETY: no work uses the alias.
    unsafe { leaf.unmap_alias(alias) }.unwrap_or_else(|error| common::give_up(error));
    if map { mapped } else { start.elapsed() - mapped }
}

criterion_group!(benches, mapping);
criterion_main!(benches);
