//! An upstream that panics: every lock stays usable, no memory is lost, and other threads go on.

use crate::common::{free, sim_with};
use cumem::error::take_drop_errors;
use cumem::kernel::HostKernel;
use cumem::kind::DeviceAccessible;
use cumem::sim::Profile;
use cumem::unified::AutoPrefetchOptions;
use cumem::unified::accounting::Ledger;
use cumem::{
    AllocError, Block, Buffer, CudaResource, CudaVirtualResource, DeallocError, Device, LayerExt, ManagedResource,
    MemoryResource, Stream, Upstream, layout,
};
use cumem_adaptors::{
    LimiterState, LogOptions, PoolOptions, PoolState, PressureOptions, Reaction, ResourceExt, StatisticsState,
    TrackingOptions,
};
use cumem_test_support::own_process;
use std::alloc::Layout;
use std::panic::{AssertUnwindSafe, catch_unwind, panic_any};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

const MIB: usize = 1 << 20;

/// Which call of the upstream panics, counted from 1; the others pass.
#[derive(Default)]
struct Plan {
    allocate: AtomicUsize,
    deallocate: AtomicUsize,
    panics: AtomicUsize,
    /// Blocks that were passed to a `deallocate` that panicked.
    kept: Mutex<Vec<Block>>,
}

impl Plan {
    fn is_due(&self, countdown: &AtomicUsize) -> bool {
        let due = countdown.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1)) == Ok(1);
        self.panics.fetch_add(usize::from(due), Ordering::Relaxed);
        due
    }
}

/// A user's adaptor that panics as planned.
struct Panics<U> {
    upstream: U,
    plan: Arc<Plan>,
}

cumem::adaptor_layer! {
    impl[U] Layer, Upstream for Panics<U> {
        upstream: U = upstream;
        describe = "panics";
    }
}

// SAFETY: every block is the upstream's and is passed on unchanged.
unsafe impl<U: Upstream> MemoryResource for Panics<U> {
    type Kind = U::Kind;

    fn allocate(&self, stream: &Stream, layout: Layout) -> Result<Block, AllocError> {
        if self.plan.is_due(&self.plan.allocate) {
            panic_any("allocate");
        }
        self.upstream.allocate(stream, layout)
    }

    unsafe fn deallocate(&self, stream: &Stream, block: Block) -> Result<(), DeallocError> {
        if self.plan.is_due(&self.plan.deallocate) {
            self.plan.kept.lock().unwrap().push(block);
            panic_any("deallocate");
        }
        // SAFETY: the caller upholds the contract of the upstream, which is the same.
        unsafe { self.upstream.deallocate(stream, block) }
    }
}

/// Allocates and frees through the stack on two threads, each with a stream. Panics of the upstream are caught.
fn work(stack: &(impl MemoryResource + Sync)) {
    let device = stack.device();
    let one_thread = || {
        let stream = Stream::new(device).unwrap();
        let mut live = Vec::new();
        for bytes in [1000, 3 * MIB, 40 * MIB, 0, 5 * MIB] {
            let allocated = catch_unwind(AssertUnwindSafe(|| stack.allocate(&stream, layout::bytes(bytes).unwrap())));
            live.extend(allocated.ok().map(Result::unwrap));
        }
        for block in live {
            // A block that the caught panic consumed is in the plan.
            let _ = catch_unwind(AssertUnwindSafe(|| free(stack, &stream, block).unwrap()));
        }
        let _ = catch_unwind(AssertUnwindSafe(|| stack.trim_stack(0)));
    };
    thread::scope(|scope| {
        let other = scope.spawn(one_thread);
        one_thread();
        other.join().expect("panics of the upstream are caught");
    });
}

/// Runs `work` over a stack with an upstream, once for each of its first calls panicking.
fn each_call_panics<U, R>(what: &str, leaf: impl Fn(&Device) -> U, stack: impl Fn(Panics<U>) -> R)
where
    U: Upstream + Clone,
    R: MemoryResource<Kind: DeviceAccessible> + Send + Sync + 'static,
{
    for (frees, n) in [false, true].into_iter().flat_map(|frees| (1..=12).map(move |n| (frees, n))) {
        let (device, stream) = sim_with(Profile::default().with_capacity(1 << 30));
        let (leaf, plan) = (leaf(&device), Arc::new(Plan::default()));
        let stack = stack(Panics { upstream: leaf.clone(), plan: Arc::clone(&plan) });
        (if frees { &plan.deallocate } else { &plan.allocate }).store(n, Ordering::Relaxed);
        work(&stack);
        [&plan.allocate, &plan.deallocate].iter().for_each(|planned| planned.store(0, Ordering::Relaxed));
        work(&stack);

        let kept = std::mem::take(&mut *plan.kept.lock().unwrap_or_else(PoisonError::into_inner));
        let case = format!("{what}, {} {n}", if frees { "deallocate" } else { "allocate" });
        // A block at which the upstream panicked is no longer counted.
        assert_eq!(stack.find::<StatisticsState>().map_or(0, |s| s.counts().current_blocks), 0, "{case}");
        assert_eq!(stack.find::<LimiterState>().map_or(0, LimiterState::allocated), 0, "{case}");
        assert!(stack.find::<LimiterState>().is_none_or(|limit| limit.remaining() == limit.bytes()), "{case}");
        if let Some(pool) = stack.find::<PoolState>() {
            assert_eq!((pool.stats().blocks, pool.stats().reserved), (0, 0), "{case}");
        }
        drop(stack);
        kept.into_iter().for_each(|block| free(&leaf, &stream, block).unwrap());
        drop(leaf);
        let live = device.simulator().unwrap().live_allocations();
        assert!(live.no_memory(), "{case}: {live}");
    }
}

fn device_memory(device: &Device) -> Arc<CudaResource> {
    Arc::new(CudaResource::new(device))
}

fn managed_memory(device: &Device) -> Arc<ManagedResource> {
    Arc::new(ManagedResource::new(device).unwrap())
}

#[test]
fn beneath_a_pool() {
    each_call_panics("device", device_memory, |upstream| upstream.pool(PoolOptions::new()).unwrap());
    each_call_panics("managed", managed_memory, |upstream| upstream.pool(PoolOptions::new()).unwrap());
    each_call_panics("release", device_memory, |upstream| {
        upstream.pool(PoolOptions::new().release_threshold(0)).unwrap()
    });
}

#[test]
fn beneath_a_pool_that_grows_in_place() {
    let mapped = |device: &Device| Arc::new(CudaVirtualResource::new(device).unwrap());
    each_call_panics("virtual", mapped, |upstream| upstream.pool(PoolOptions::new()).unwrap());
}

#[test]
fn beneath_each_other_adaptor() {
    each_call_panics("limit", device_memory, |upstream| upstream.limit(1 << 29).statistics());
    each_call_panics("statistics", device_memory, |upstream| upstream.statistics().limit(1 << 29));
    each_call_panics("log", device_memory, |upstream| {
        upstream.logging(LogOptions::sink(std::io::sink()).flush_each_row()).unwrap().statistics()
    });
    each_call_panics("tracking", device_memory, |upstream| upstream.tracking(TrackingOptions::new()).statistics());
    each_call_panics("events", device_memory, |upstream| upstream.events().statistics());
    each_call_panics("graph_pools", device_memory, |upstream| upstream.graph_pools().statistics());
    each_call_panics("on_failure", device_memory, |upstream| upstream.on_failure(|_| Reaction::Retry).statistics());
    each_call_panics("pressure", device_memory, |upstream| {
        upstream.pressure(PressureOptions::default()).unwrap().statistics()
    });
    each_call_panics("spills", device_memory, |upstream| {
        let pinned = cumem::PinnedResource::new(upstream.device());
        upstream.spill_to(pinned).unwrap().statistics()
    });
    each_call_panics("spilled to", device_memory, |upstream| {
        let first = CudaResource::new(upstream.device()).limit(MIB);
        first.spill_to(upstream).unwrap().statistics()
    });
    each_call_panics("prefetch", managed_memory, |upstream| {
        let device = upstream.device().id();
        upstream.statistics().prefetch(device).unwrap()
    });
    each_call_panics("tagged", managed_memory, |upstream| {
        let ledger = Arc::new(Ledger::new(upstream.device()));
        upstream.tagged(&ledger, "a tag").limit(1 << 29)
    });
    each_call_panics("auto_prefetch", managed_memory, |upstream| {
        upstream.auto_prefetch(AutoPrefetchOptions::default()).unwrap().statistics()
    });
}

/// Chunks of a pool go one by one, and the upstream panics at one of them.
#[test]
fn a_pool_that_is_dropped_frees_the_other_chunks() {
    for n in 1..=4 {
        let (device, stream) = sim_with(Profile::default().with_capacity(1 << 30));
        let (leaf, plan) = (device_memory(&device), Arc::new(Plan::default()));
        let upstream = Panics { upstream: Arc::clone(&leaf), plan: Arc::clone(&plan) };
        let pool = upstream.pool(PoolOptions::new().step(8 * MIB)).unwrap();
        let blocks = [8 * MIB; 4].map(|bytes| pool.allocate(&stream, layout::bytes(bytes).unwrap()).unwrap());
        blocks.into_iter().for_each(|block| free(&pool, &stream, block).unwrap());
        plan.deallocate.store(n, Ordering::Relaxed);
        drop(pool);
        let kept = std::mem::take(&mut *plan.kept.lock().unwrap());
        assert_eq!(kept.len(), 1);
        kept.into_iter().for_each(|block| free(&leaf, &stream, block).unwrap());
        let live = device.simulator().unwrap().live_allocations();
        assert!(live.no_memory(), "{n}: {live}");
    }
}

// This test reads the recorded errors of drops, which the whole process shares.
own_process!(a_drop_does_not_panic_but_records_the_panic);

fn a_drop_does_not_panic_but_records_the_panic() {
    let (device, stream) = sim_with(Profile::default());
    let (leaf, plan) = (device_memory(&device), Arc::new(Plan::default()));
    let upstream = Panics { upstream: Arc::clone(&leaf), plan: Arc::clone(&plan) };
    let buffer = Buffer::<u8, _>::zeroed(1000, &stream, &upstream).unwrap();
    plan.deallocate.store(1, Ordering::Relaxed);
    drop(buffer);
    let text = |what: &str| format!("{what} could not be released: a resource panicked: deallocate");
    assert_eq!(take_drop_errors(), [text("a buffer")]);

    // A panic during another one would abort the process.
    let ended = catch_unwind(AssertUnwindSafe(|| {
        let pool = upstream.pool(PoolOptions::new()).unwrap();
        let _buffer = Buffer::<u8, _>::zeroed(1000, &stream, &pool).unwrap();
        plan.deallocate.store(1, Ordering::Relaxed);
        panic_any("the user's");
    }));
    assert_eq!(ended.unwrap_err().downcast_ref::<&str>(), Some(&"the user's"));
    assert_eq!(take_drop_errors(), [text("a pool")]);
    let kept = std::mem::take(&mut *plan.kept.lock().unwrap());
    kept.into_iter().for_each(|block| free(&leaf, &stream, block).unwrap());
    assert!(device.simulator().unwrap().live_allocations().no_memory());
}

/// The payload of a panic, whose drop panics too.
struct PanicsAgain;

impl Drop for PanicsAgain {
    fn drop(&mut self) {
        panic_any("again");
    }
}

/// Makes the closure of a kernel.
type Closure = fn() -> Box<dyn FnOnce() + Send>;

/// The closure of a kernel panics with such a payload, or owns such a value. The device reports the panic and goes on.
#[test]
fn a_kernel_whose_panic_panics() {
    let (device, stream) = sim_with(Profile::default());
    let closures: [Closure; 2] = [
        || Box::new(|| panic_any(PanicsAgain)),
        || {
            let owned = PanicsAgain;
            Box::new(move || drop(owned))
        },
    ];
    for closure in closures {
        let work = closure();
        // SAFETY: the kernel uses no memory of the device.
        unsafe { stream.launch_host(HostKernel::new("panics", move |_| work())) }.unwrap();
        let text = stream.synchronize().unwrap_err().to_string();
        assert!(text.contains("kernel panics panicked: "), "{text}");
        let elsewhere = thread::scope(|scope| scope.spawn(|| device.synchronize()).join().unwrap());
        assert_eq!((elsewhere, stream.synchronize()), (Ok(()), Ok(())));
    }
}
