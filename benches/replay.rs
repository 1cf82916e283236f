//! Replays the recorded traces of `benches/traces` and of the folder `CUMEM_TRACES`. Reports the time per operation
//! after a pass that warms the stack up. Also prints the peak bytes of the leaf in all passes, divided by the peak of
//! the requested bytes.

mod common;

use criterion::{BenchmarkId, Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use cumem::LayerExt;
use cumem_adaptors::statistics::leaf_statistics;
use cumem_adaptors::{AnyStack, PoolState};
use cumem_replay::{Pass, Player, Trace};
use std::path::{Path, PathBuf};

fn traces() -> Vec<PathBuf> {
    let folders = [Some("benches/traces".into()), std::env::var_os("CUMEM_TRACES")];
    let mut traces = Vec::new();
    for folder in folders.into_iter().flatten() {
        let entries = std::fs::read_dir(&folder);
        let entries =
            entries.unwrap_or_else(|error| common::give_up(format!("{}: {error}", Path::new(&folder).display())));
        let paths = entries.flatten().map(|entry| entry.path());
        traces.extend(paths.filter(|path| path.to_string_lossy().ends_with(".csv.xz")));
    }
    // The folder may contain the repository's traces too.
    traces.sort_by_key(|path: &PathBuf| path.file_name().map(ToOwned::to_owned));
    traces.dedup_by_key(|path| path.file_name().map(ToOwned::to_owned));
    traces
}

fn pass(player: &mut Player<'_, AnyStack>) -> Pass {
    player.pass(|_| ()).unwrap_or_else(|error| common::give_up(error))
}

fn print_memory(what: &str, stack: &AnyStack, trace: &Trace) {
    let requested = trace.peak_requested_bytes();
    let reserved: i64 = leaf_statistics(stack).iter().map(|leaf| leaf.counts().peak_bytes.max(0)).sum();
    let times = |bytes: f64| bytes / requested as f64;
    println!("{what} memory: {reserved} reserved / {requested} requested = {:.3}", times(reserved as f64));
    // Managed memory takes no physical memory until it is used.
    if let (AnyStack::OverManaged(_), Some(pool)) = (stack, stack.find_all::<PoolState>().last()) {
        let touched = pool.stats().peak_touched;
        println!("{what} memory: {touched} touched / {requested} requested = {:.3}", times(touched as f64));
    }
}

fn replay(criterion: &mut Criterion) {
    let device = common::device();
    let mut group = criterion.benchmark_group(format!("replay/{}", device.id()));
    group.throughput(Throughput::Elements(1)).sampling_mode(SamplingMode::Flat).sample_size(10);
    for path in traces() {
        let trace = Trace::read(&path).unwrap_or_else(|error| common::give_up(error));
        let name = path.file_name().unwrap_or_default().to_string_lossy().replace(".csv.xz", "");
        for spec in common::stacks(common::STACKS) {
            // Statistics directly over the leaf, which cost time only in calls that reach the leaf.
            let stack = common::build(&spec.clone().with_leaf_statistics(), &device);
            let mut player = Player::new(&trace, &stack).unwrap_or_else(|error| common::give_up(error));
            let first = pass(&mut player);
            if first.out_of_memory > 0 {
                common::give_up(format!("{name} on {spec}: {} allocations found no memory", first.out_of_memory));
            }
            group.bench_function(BenchmarkId::new(spec.to_string(), &name), |bencher| {
                common::per_operation(bencher, first.operations, || pass(&mut player).elapsed);
            });
            drop(player);
            print_memory(&format!("{spec}/{name}"), &stack, &trace);
        }
    }
    group.finish();
}

criterion_group!(benches, replay);
criterion_main!(benches);
