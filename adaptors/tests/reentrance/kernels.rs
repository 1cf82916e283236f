//! Closures of kernels that use the stack in whose calls they run.

use crate::common::free;
use crate::harness::{MIB, here_and_elsewhere, within_limit};
use cumem::kernel::HostKernel;
use cumem::sim::Profile;
use cumem::unified::accounting::Ledger;
use cumem::{AllocError, Buffer, Device, LayerExt, MemoryResource, Stream, layout};
use cumem_adaptors::{AnyStack, PoolState, StackSpec};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

const STACKS: [&str; 12] = [
    "device",
    "async",
    "virtual",
    "managed",
    "pinned",
    "device | pool",
    "virtual | pool(maximum=32MiB)",
    "managed | pool | prefetch",
    "async | pool(release=0) | limit(64MiB) | statistics",
    "device | pool | pressure(trim=50%, refuse=90%, slack=1%, ask=0)",
    "device | limit(16MiB) | pool | spill(managed | pool)",
    "device | pool | pool(up_to=64KiB)",
];

fn device() -> Device {
    Device::simulated(Profile::default().with_capacity(64 << 20)).unwrap()
}

/// Launches a kernel that ends soon, so that the next calls of the driver find it due.
fn launch(stream: &Stream, closure: impl FnOnce() + Send + 'static) {
    // SAFETY: the kernel uses no memory of the device.
    unsafe { stream.launch_host(HostKernel::new("user", move |_| closure())) }.unwrap();
}

/// Allocates and frees through `stack`, so that it misses, and frees to its upstream.
fn misses(stack: &AnyStack, stream: &Stream) {
    for mib in [1, 3, 9, 2, 5, 20] {
        // Within the closure of a kernel, a stack may refuse what it cannot do there. It must not hang.
        let Ok(block) = stack.allocate(stream, layout::bytes(mib * MIB).unwrap()) else { continue };
        free(stack, stream, block).unwrap();
    }
    let _ = stack.trim_stack(0);
}

fn asks(stack: &AnyStack) {
    let stats = stack.find::<PoolState>().map(|pool| (pool.stats(), pool.snapshot()));
    assert!(stats.is_none_or(|(stats, _)| stats.reserved >= stats.allocated));
}

#[test]
fn kernels_ask_allocate_and_free_under_every_stack() {
    within_limit("a kernel that uses the stack", || {
        for text in STACKS {
            let (device, ran) = (device(), Arc::new(AtomicUsize::new(0)));
            let stream = Stream::new(&device).unwrap();
            let stack = StackSpec::parse(text).unwrap().build(&device).unwrap();
            for _ in 0..20 {
                let (own, inner, ran) = (stack.clone(), Stream::new(&device).unwrap(), Arc::clone(&ran));
                launch(&stream, move || {
                    // Another thread may not wait for the device, which waits for this closure.
                    here_and_elsewhere(|| asks(&own));
                    misses(&own, &inner);
                    ran.fetch_add(1, Relaxed);
                });
                misses(&stack, &stream);
            }
            stream.synchronize().unwrap();
            assert_eq!(ran.load(Relaxed), 20, "{text}");
            drop(stack);
            drop(stream);
            assert_eq!(device.simulator().unwrap().live_allocations().bytes(), 0, "{text}");
        }
    });
}

#[test]
fn a_kernel_drops_a_pooled_buffer_of_another_stream() {
    within_limit("a kernel that drops a buffer", || {
        for text in STACKS.into_iter().filter(|text| !text.ends_with("prefetch")) {
            let device = device();
            let stream = Stream::new(&device).unwrap();
            let stack = StackSpec::parse(text).unwrap().build(&device).unwrap().into_device_accessible().unwrap();
            for _ in 0..20 {
                let other = Stream::new(&device).unwrap();
                let buffer = Buffer::<u8, _>::zeroed(3 * MIB, &other, stack.clone()).unwrap();
                other.synchronize().unwrap();
                launch(&stream, move || drop(buffer));
                let block = stack.allocate(&stream, layout::bytes(MIB).unwrap()).unwrap();
                free(&stack, &stream, block).unwrap();
                let _ = stack.trim_stack(0);
            }
            device.synchronize().unwrap();
            let _ = stack.trim_stack(0);
            drop(stack);
            assert_eq!(device.simulator().unwrap().live_allocations().bytes(), 0, "{text}");
        }
    });
}

/// The closure owns the buffer, its leaf, and the last handles of the stream. The stream is the kernel's own, so nothing can
/// wait for the work that uses the buffer.
#[test]
fn a_kernel_drops_an_unpooled_buffer_of_its_own_stream() {
    within_limit("a kernel that owns a buffer", || {
        for text in ["device", "async", "virtual", "managed", "pinned", "virtual | limit(8MiB) | statistics"] {
            let device = device();
            let stack = StackSpec::parse(text).unwrap().build(&device).unwrap().into_device_accessible().unwrap();
            let stream = Stream::new(&device).unwrap();
            for _ in 0..3 {
                let buffer = Buffer::<u8, _>::zeroed(3 * MIB, &stream, stack.clone()).unwrap();
                launch(&stream, move || drop(buffer));
                // Memory of the leaf can be allocated meanwhile and afterwards.
                let block = stack.allocate(&stream, layout::bytes(MIB).unwrap()).unwrap();
                free(&stack, &stream, block).unwrap();
            }
            let last = Buffer::<u8, _>::zeroed(3 * MIB, &stream, stack).unwrap();
            launch(&stream, move || drop(last));
            device.synchronize().unwrap();
            device.synchronize().unwrap();
            assert_eq!(cumem::error::take_drop_errors(), [""; 0], "{text}");
            let live = device.simulator().unwrap().live_allocations();
            assert_eq!((live.bytes(), live.reserved.blocks), (0, 0), "{text}: {live:?}");
        }
    });
}

#[test]
fn a_kernel_runs_on_one_thread_while_another_holds_the_pool() {
    within_limit("a kernel on another thread than the pool's user", || {
        let device = device();
        let stack = StackSpec::parse("device | pool(release=0)").unwrap().build(&device).unwrap();
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    let stream = Stream::new(&device).unwrap();
                    for _ in 0..50 {
                        let own = stack.clone();
                        launch(&stream, move || asks(&own));
                        misses(&stack, &stream);
                        stream.synchronize().unwrap();
                    }
                });
            }
        });
    });
}

/// Memory that a kernel occupies is waited for without the pool's mutex, and then found.
#[test]
fn the_last_memory_of_a_device_is_found_although_a_kernel_has_to_run_first() {
    within_limit("a pool that is out of memory while a kernel is pending", || {
        let device = device();
        let [a, b] = [(); 2].map(|()| Stream::new(&device).unwrap());
        let stack = StackSpec::parse("device | pool").unwrap().build(&device).unwrap();
        let whole = layout::bytes(40 * MIB).unwrap();
        let block = stack.allocate(&a, whole).unwrap();
        let own = stack.clone();
        launch(&a, move || here_and_elsewhere(|| asks(&own)));
        free(&stack, &a, block).unwrap();
        let larger: Result<_, AllocError> = stack.allocate(&b, layout::bytes(50 * MIB).unwrap());
        free(&stack, &b, larger.unwrap()).unwrap();
    });
}

/// User code in an argument of a ledger asks the ledger.
#[test]
fn a_name_asks_the_ledger_that_it_is_for() {
    struct Name<'a>(&'a Ledger);

    impl AsRef<str> for Name<'_> {
        fn as_ref(&self) -> &str {
            here_and_elsewhere(|| assert!(self.0.report().rows.is_empty()));
            "a name"
        }
    }

    within_limit("a name that asks its ledger", || {
        let ledger = Ledger::new(&device());
        let (_phase, _tag) = (ledger.phase(Name(&ledger)), ledger.tag(4096, 4096, Name(&ledger)));
    });
}
