//! An upstream under every adaptor that uses the stack above it in each call.

use crate::common::{free, sim_with};
use crate::harness::{MIB, within_limit};
use cumem::kind::{self, Erased};
use cumem::sim::Profile;
use cumem::unified::accounting::Ledger;
use cumem::unified::{AutoPrefetchOptions, MigrationPolicy};
use cumem::{
    AllocError, AnyResource, AnyUpstream, Block, CudaVirtualResource, DeallocError, Device, LayerExt, ManagedResource,
    MemoryResource, Stream, Upstream, layout,
};
use cumem_adaptors::{LimiterState, PoolOptions, PoolState, PressureOptions, ResourceExt, StatisticsState};
use std::alloc::Layout;
use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::thread;

/// A use of the stack above. The stack is leaked by the tests, because it owns the upstream that owns this closure.
type Use = Box<dyn Fn() + Send + Sync>;

/// Passes everything on, and uses the stack above in each call.
struct Reentrant<U> {
    upstream: U,
    above: Arc<OnceLock<Use>>,
    uses: Arc<AtomicUsize>,
}

thread_local!(static INSIDE: Cell<bool> = const { Cell::new(false) });

impl<U> Reentrant<U> {
    /// Uses the stack once: the calls of the upstream that this leads to use it no more.
    fn use_above(&self) {
        let Some(above) = self.above.get().filter(|_| !INSIDE.replace(true)) else { return };
        above();
        INSIDE.set(false);
        self.uses.fetch_add(1, Relaxed);
    }
}

cumem::adaptor_layer! {
    impl[U] Layer, Upstream for Reentrant<U> {
        upstream: U = upstream;
        describe = "reentrant";
    }
}

// SAFETY: every block is the upstream's and is passed on unchanged.
unsafe impl<U: Upstream> MemoryResource for Reentrant<U> {
    type Kind = U::Kind;

    fn allocate(&self, stream: &Stream, layout: Layout) -> Result<Block, AllocError> {
        self.use_above();
        self.upstream.allocate(stream, layout)
    }

    unsafe fn deallocate(&self, stream: &Stream, block: Block) -> Result<(), DeallocError> {
        self.use_above();
        // SAFETY: the caller upholds the same contract.
        unsafe { self.upstream.deallocate(stream, block) }
    }
}

/// Asks each layer for its figures, allocates, frees and trims. A call may be refused, and must not hang.
fn use_all(stack: &AnyResource<Erased>, device: &Device) {
    let stream = Stream::new(device).unwrap();
    for mib in [1, 5] {
        let Ok(block) = stack.allocate(&stream, layout::bytes(mib * MIB).unwrap()) else { continue };
        free(stack, &stream, block).unwrap();
    }
    assert!(stack.find::<PoolState>().is_none_or(|pool| pool.stats().reserved >= pool.stats().allocated));
    assert!(stack.find::<LimiterState>().is_none_or(|limit| limit.allocated() <= 62 * MIB));
    let counts = stack.find::<StatisticsState>().map(StatisticsState::counts);
    assert!(counts.is_none_or(|counts| counts.peak_bytes >= counts.current_bytes));
    let _ = stack.trim_stack(0);
    assert!(!stack.to_string().is_empty());
}

type Build<K> = fn(AnyUpstream<K>, &Device) -> AnyResource<Erased>;

/// Checks one stack of each builder. The upstream uses the stack on its own thread and, while no pool waits for the
/// upstream, on another thread, which the upstream waits for.
fn check<K: kind::MemoryKind>(leaf: fn(&Device) -> AnyUpstream<K>, builders: &[(&'static str, bool, Build<K>)]) {
    for &(name, has_pool, build) in builders {
        within_limit(name, move || {
            let (device, stream) = sim_with(Profile::default().with_capacity(64 << 20));
            let (above, uses) = (Arc::default(), Arc::<AtomicUsize>::default());
            let upstream = Reentrant { upstream: leaf(&device), above: Arc::clone(&above), uses: Arc::clone(&uses) };
            let stack = build(AnyUpstream::new(upstream), &device);
            let (own, here) = (stack.clone(), device.clone());
            let use_stack = move || {
                use_all(&own, &here);
                if !has_pool {
                    let elsewhere = || {
                        INSIDE.set(true);
                        use_all(&own, &here);
                    };
                    thread::scope(|scope| scope.spawn(elsewhere).join().unwrap());
                }
            };
            assert!(above.set(Box::new(use_stack)).is_ok());
            for mib in [1, 3, 9, 20, 70, 5] {
                let Ok(block) = stack.allocate(&stream, layout::bytes(mib * MIB).unwrap()) else { continue };
                free(&stack, &stream, block).unwrap();
                let _ = stack.trim_stack(0);
            }
            assert!(uses.load(Relaxed) >= 6, "{name}: {} uses", uses.load(Relaxed));
            assert!(stack.find::<LimiterState>().is_none_or(|limit| limit.allocated() == 0), "{name}");
            assert!(stack.find::<PoolState>().is_none_or(|pool| pool.stats().allocated == 0), "{name}");
        });
    }
}

fn pressure() -> PressureOptions {
    PressureOptions::default().trim_at(16 * MIB).refuse_at(60 * MIB).slack(MIB).ask_after(0)
}

fn pool() -> PoolOptions {
    PoolOptions::new().step(2 * MIB).release_threshold(0)
}

#[test]
fn an_upstream_uses_each_adaptor_of_mapped_memory_above_it() {
    check::<kind::Device>(
        |device| AnyUpstream::new(CudaVirtualResource::new(device).unwrap()),
        &[
            ("limit", false, |leaf, _| AnyResource::erase_kind(leaf.limit(60 * MIB))),
            ("statistics", false, |leaf, _| AnyResource::erase_kind(leaf.statistics())),
            ("pressure", false, |leaf, _| AnyResource::erase_kind(leaf.pressure(pressure()).unwrap())),
            ("fixed size", false, |leaf, _| AnyResource::erase_kind(leaf.fixed_size(8 * MIB).unwrap())),
            ("binning", false, |leaf, _| AnyResource::erase_kind(leaf.binning([MIB, 4 * MIB]).unwrap().keep(1))),
            ("aligned", false, |leaf, _| AnyResource::erase_kind(leaf.aligned(4 * MIB).unwrap())),
            ("scrub", false, |leaf, _| AnyResource::erase_kind(leaf.scrub())),
            ("binning over a pool", true, |leaf, _| {
                AnyResource::erase_kind(leaf.pool(pool()).unwrap().binning([4 * MIB]).unwrap())
            }),
            ("spill", false, |leaf, device| {
                AnyResource::erase_kind(leaf.spill_to(ManagedResource::new(device).unwrap()).unwrap())
            }),
            ("the second of spill", false, |leaf, device| {
                let none = CudaVirtualResource::new(device).unwrap().limit(2 * MIB);
                AnyResource::erase_kind(none.spill_to(leaf).unwrap())
            }),
            ("pool", true, |leaf, _| AnyResource::erase_kind(leaf.pool(pool()).unwrap())),
            ("pool over pool", true, |leaf, _| {
                AnyResource::erase_kind(leaf.pool(pool()).unwrap().pool(pool()).unwrap())
            }),
            ("pool over pressure and spill", true, |leaf, device| {
                let spill = leaf.pressure(pressure()).unwrap().spill_to(ManagedResource::new(device).unwrap()).unwrap();
                AnyResource::erase_kind(spill.pool(pool()).unwrap())
            }),
            ("all", true, |leaf, _| {
                let stack = leaf.limit(62 * MIB).statistics().pool(pool()).unwrap().pressure(pressure()).unwrap();
                AnyResource::erase_kind(stack.limit(61 * MIB).statistics())
            }),
        ],
    );
}

#[test]
fn an_upstream_uses_each_adaptor_of_managed_memory_above_it() {
    check::<kind::Managed>(
        |device| AnyUpstream::new(ManagedResource::new(device).unwrap()),
        &[
            ("tagged", false, |leaf, device| {
                AnyResource::erase_kind(leaf.tagged(&Arc::new(Ledger::new(device)), "a tag"))
            }),
            ("automatic prefetch", false, |leaf, _| {
                AnyResource::erase_kind(leaf.auto_prefetch(AutoPrefetchOptions::default()).unwrap())
            }),
            ("advise", false, |leaf, _| AnyResource::erase_kind(leaf.advise(MigrationPolicy::ReadMostly).unwrap())),
            ("prefetch", false, |leaf, device| AnyResource::erase_kind(leaf.prefetch(device.id()).unwrap())),
            ("pool and prefetch", true, |leaf, device| {
                AnyResource::erase_kind(leaf.pool(pool()).unwrap().prefetch(device.id()).unwrap())
            }),
        ],
    );
}
