//! The time that each adaptor alone adds to an allocation and its free: over a leaf that costs nearly nothing and over
//! a pool, as a static type and with every layer erased as `StackSpec` builds it.

mod common;

use common::free_leaf::FreeLeaf;
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use cumem::kind::Managed;
use cumem::{AnyResource, AnyUpstream, LayerExt, ManagedResource, MemoryResource, Stream, Upstream};
use cumem_adaptors::{Logging, PoolOptions, Reaction, ResourceExt, TrackingOptions};

const BYTES: usize = 64 << 10;
const LIMIT: usize = 1 << 30;

type Group<'a> = BenchmarkGroup<'a, WallTime>;

fn pair<R: MemoryResource>(group: &mut Group<'_>, adaptor: &str, form: &str, resource: &R) {
    let stream = Stream::new(resource.device()).unwrap_or_else(|error| common::give_up(error));
    let layout = common::layout(BYTES);
    group.bench_function(BenchmarkId::new(adaptor, form), |bencher| {
        bencher.iter(|| common::free(resource, &stream, common::allocate(resource, &stream, layout)));
    });
}

/// The rows are sorted and formatted, and the system drops them.
fn logged<U: Upstream>(upstream: U) -> Logging<U> {
    upstream.logging("/dev/null").unwrap_or_else(|error| common::give_up(error))
}

fn each_adaptor<R>(criterion: &mut Criterion, over: &str, base: impl Fn() -> R)
where
    R: Upstream<Kind = Managed> + Send + Sync + 'static,
{
    let id = base().device().id();
    let erased = || AnyUpstream::new(base());
    let mut group = criterion.benchmark_group(format!("adaptor_overhead/{id}/over {over}"));
    group.throughput(Throughput::Elements(1));

    pair(&mut group, "none", "static", &base());
    pair(&mut group, "none", "erased", &erased());
    pair(&mut group, "limit", "static", &base().limit(LIMIT));
    pair(&mut group, "limit", "erased", &AnyUpstream::new(erased().limit(LIMIT)));
    pair(&mut group, "statistics", "static", &base().statistics());
    pair(&mut group, "statistics", "erased", &AnyUpstream::new(erased().statistics()));

    let both = base().limit(LIMIT).statistics();
    pair(&mut group, "limit and statistics", "static", &both);
    let both = AnyUpstream::new(AnyUpstream::new(erased().limit(LIMIT)).statistics());
    pair(&mut group, "limit and statistics", "erased", &both);

    pair(&mut group, "log", "static", &logged(base()));
    pair(&mut group, "log", "erased", &AnyUpstream::new(logged(erased())));
    pair(&mut group, "tracking", "static", &base().tracking(TrackingOptions::new()));
    pair(&mut group, "tracking", "erased", &AnyUpstream::new(erased().tracking(TrackingOptions::new())));
    pair(&mut group, "events", "static", &base().events());
    pair(&mut group, "events", "erased", &AnyUpstream::new(erased().events()));
    pair(&mut group, "on_failure", "static", &base().on_failure(|_| Reaction::GiveUp));
    pair(&mut group, "on_failure", "erased", &AnyUpstream::new(erased().on_failure(|_| Reaction::GiveUp)));
    let statistics = base().statistics();
    let scope = statistics.state().named_scope("pairs");
    pair(&mut group, "statistics in a scope", "static", &statistics);
    drop(scope);

    // The pages are on the device after the first pair, so the driver is not called; `benches/prefetch.rs` measures
    // that call.
    let prefetch = base().prefetch(id).unwrap_or_else(|error| common::give_up(error));
    pair(&mut group, "prefetch", "static", &prefetch);
    let prefetch = erased().prefetch(id).unwrap_or_else(|error| common::give_up(error));
    pair(&mut group, "prefetch", "erased", &AnyResource::new(prefetch));
    group.finish();
}

fn adaptor_overhead(criterion: &mut Criterion) {
    let device = common::device();
    each_adaptor(criterion, "a free leaf", || FreeLeaf::new(&device));
    each_adaptor(criterion, "a pool", || {
        let leaf = ManagedResource::new(&device).unwrap_or_else(|error| common::give_up(error));
        leaf.pool(PoolOptions::default()).unwrap_or_else(|error| common::give_up(error))
    });
}

criterion_group!(benches, adaptor_overhead);
criterion_main!(benches);
