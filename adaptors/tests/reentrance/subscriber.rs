//! A subscriber of `tracing`, and a watcher of the simulated machine, that use the library in each event.

use crate::common::{free, sim_with};
use crate::harness::{MIB, here_and_elsewhere, within_limit};
use cumem::error::CudaErrorCode;
use cumem::kernel::HostKernel;
use cumem::sim::{FaultCall, Profile, Simulator};
use cumem::unified::AutoPrefetchOptions;
use cumem::{Buffer, Device, LayerExt, ManagedResource, MemoryResource, Stream, layout};
use cumem_adaptors::{AnyStack, PoolState, StackSpec};
use cumem_driver::{Model, Movement, Watcher};
use std::cell::Cell;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::with_default;
use tracing::{Event, Metadata, Subscriber};

thread_local!(static INSIDE: Cell<bool> = const { Cell::new(false) });

/// Uses the stack and the simulator in each event.
#[derive(Debug, Clone, Default)]
struct Reentrant {
    used: Arc<OnceLock<(AnyStack, Simulator, Device)>>,
    events: Arc<Mutex<Vec<String>>>,
    calls: Arc<AtomicUsize>,
}

impl Subscriber for Reentrant {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        // Events of the use itself do not use the stack again, because that would have no end.
        if INSIDE.replace(true) {
            return;
        }
        self.events.lock().unwrap().push(event.metadata().target().into());
        self.use_stack();
        INSIDE.set(false);
    }
}

impl Reentrant {
    fn use_stack(&self) {
        let Some((stack, simulator, device)) = self.used.get() else { return };
        here_and_elsewhere(|| {
            assert!(simulator.clock().as_nanos() > 0);
            assert!(stack.find::<PoolState>().is_none_or(|pool| pool.stats().reserved >= pool.stats().allocated));
            let stream = Stream::new(device).unwrap();
            if let Ok(block) = stack.allocate(&stream, layout::bytes(MIB).unwrap()) {
                free(stack, &stream, block).unwrap();
            }
            self.calls.fetch_add(1, Relaxed);
        });
    }
}

/// Runs `work` on a stack with a re-entrant subscriber, and returns the targets of the events.
fn subscribed(text: &str, profile: Profile, work: impl Fn(&AnyStack, &Stream, &Simulator)) -> Vec<String> {
    let subscriber = Reentrant::default();
    let (events, calls) = (Arc::clone(&subscriber.events), Arc::clone(&subscriber.calls));
    let (device, stream) = sim_with(profile);
    let stack = StackSpec::parse(text).unwrap().build(&device).unwrap();
    let simulator = device.simulator().unwrap().clone();
    subscriber.used.set((stack.clone(), simulator.clone(), device)).unwrap();
    with_default(subscriber, || work(&stack, &stream, &simulator));
    let events = std::mem::take(&mut *events.lock().unwrap());
    assert_eq!(calls.load(Relaxed), 2 * events.len(), "the events of {text} reached the end of their user code");
    events
}

fn block(stack: &AnyStack, stream: &Stream, mib: usize) {
    if let Ok(block) = stack.allocate(stream, layout::bytes(mib * MIB).unwrap()) {
        free(stack, stream, block).unwrap();
    }
}

#[test]
fn a_subscriber_uses_the_stack_in_the_events_of_the_race_detector() {
    within_limit("a subscriber of the race detector", || {
        let events = subscribed("device | pool", Profile::default(), |stack, stream, simulator| {
            simulator.detect_races(true);
            let other = Stream::new(stream.device()).unwrap();
            let block = stack.allocate(stream, layout::bytes(MIB).unwrap()).unwrap();
            for stream in [stream, &other] {
                let write = HostKernel::new("write", |_| ()).writes(block.addr(), MIB);
                // SAFETY: the block lives until both kernels have run. They conflict, which the detector reports.
                unsafe { stream.launch_host(write) }.unwrap();
            }
            stream.device().synchronize().unwrap();
            free(stack, stream, block).unwrap();
        });
        assert!(events.iter().any(|target| target.starts_with("cumem_sim")), "{events:?}");
    });
}

#[test]
fn a_subscriber_uses_the_stack_in_the_events_of_the_adaptors() {
    within_limit("a subscriber of the adaptors", || {
        let stacks = [
            "device | pool | pressure(trim=20%, refuse=50%, slack=1%, ask=0)",
            "device | pool | spill(managed | pool)",
            "device | events | tracking | pool | events | statistics",
            "virtual | pool(release=0)",
            "managed | pool | pressure(trim=20%, refuse=50%, slack=1%, ask=0) | spill(pinned)",
            // Layers whose events come while the pool above holds its mutex.
            "device | pressure(trim=20%, refuse=50%, slack=1%, ask=0) | pool(release=0)",
            "device | limit(16MiB) | spill(managed) | pool(release=0)",
            "virtual | pool(release=0) | pool(release=0)",
            "async | pool(release=0) | pressure(trim=20%, refuse=50%, slack=1%, ask=0) | spill(managed) | pool(release=0)",
        ];
        for text in stacks {
            subscribed(text, Profile::default().with_capacity(64 << 20), |stack, stream, simulator| {
                for nth in 0..4 {
                    for mib in [1, 40, 9, 70, 30] {
                        simulator.fail_nth(FaultCall::Free, 1 + nth, CudaErrorCode::UNKNOWN);
                        simulator.fail_nth(FaultCall::RecordEvent, 1 + nth, CudaErrorCode::UNKNOWN);
                        simulator.fail_nth(FaultCall::Destroy, 1 + nth, CudaErrorCode::UNKNOWN);
                        block(stack, stream, mib);
                        let _ = stack.trim_stack(0);
                    }
                }
                simulator.clear_faults();
            });
        }
    });
}

/// Events of the leaves, of the staging memory of copies, and of drops, with every kind of driver call failing.
#[test]
fn a_subscriber_uses_the_stack_in_the_events_of_every_leaf() {
    within_limit("a subscriber of the leaves", || {
        for leaf in ["device", "async", "virtual", "managed", "pinned"] {
            let events = subscribed(leaf, Profile::default().with_capacity(64 << 20), |stack, stream, simulator| {
                let stack = stack.clone().into_device_accessible().unwrap();
                for &kind in FaultCall::ALL {
                    for nth in 1..4 {
                        simulator.fail_nth(kind, nth, CudaErrorCode::UNKNOWN);
                        let buffer = Buffer::<u8, _>::zeroed(3 * MIB, stream, &stack);
                        let _ = buffer.map(|buffer| buffer.to_vec());
                        simulator.clear_faults();
                    }
                }
            });
            assert!(events.iter().any(|target| target.contains("drop_error")), "{leaf}: {events:?}");
        }
    });
}

/// A prefetch of predicted ranges fails while the observer of the buffer is locked. The subscriber uses the same observer.
#[test]
fn a_subscriber_uses_a_buffer_in_the_events_of_its_observer() {
    within_limit("a subscriber of automatic prefetch", || {
        let (device, stream) = sim_with(Profile::default());
        let simulator = device.simulator().unwrap();
        let mut buffer = Buffer::<u8, _>::zeroed(64 * MIB, &stream, ManagedResource::new(&device).unwrap()).unwrap();
        assert!(buffer.auto_prefetch(AutoPrefetchOptions::default()).unwrap().is_applied());
        let (buffer, asked) = (Arc::new(buffer), Arc::new(AtomicUsize::new(0)));
        let (own, count) = (Arc::clone(&buffer), Arc::clone(&asked));
        let subscriber = Calls(Box::new(move || {
            here_and_elsewhere(|| assert!(own.auto_prefetch_report().is_some()));
            count.fetch_add(1, Relaxed);
        }));
        with_default(subscriber, || {
            for n in 0..24 {
                simulator.fail_nth(FaultCall::PrefetchAsync, 2, CudaErrorCode::UNKNOWN);
                let _ = buffer.device_use(n * 2 * MIB..(n + 1) * 2 * MIB).map(drop);
                let _ = buffer.prefetch_range((n + 1) * 2 * MIB..(n + 2) * 2 * MIB, device.id());
            }
        });
        assert!(asked.load(Relaxed) > 0, "no prefetch of predicted ranges failed");
    });
}

/// Calls a closure in each event.
struct Calls(Box<dyn Fn() + Send + Sync>);

impl Subscriber for Calls {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
    fn event(&self, _: &Event<'_>) {
        if !INSIDE.replace(true) {
            (self.0)();
            INSIDE.set(false);
        }
    }
}

/// Uses the stack in each movement of memory, once at a time.
struct Watches {
    stack: AnyStack,
    device: Device,
    seen: AtomicUsize,
}

impl fmt::Debug for Watches {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Watches")
    }
}

impl Watcher for Watches {
    fn notify(&self, movements: &[Movement]) {
        self.seen.fetch_add(movements.len(), Relaxed);
        if INSIDE.replace(true) {
            return;
        }
        here_and_elsewhere(|| {
            INSIDE.set(true);
            let stream = Stream::new(&self.device).unwrap();
            block(&self.stack, &stream, 1);
            let _ = self.stack.trim_stack(0);
            assert!(self.device.simulator().unwrap().clock().as_nanos() > 0);
        });
        INSIDE.set(false);
    }
}

#[test]
fn a_watcher_uses_the_stack_in_each_movement() {
    within_limit("a watcher", || {
        let stacks = [
            "managed",
            "managed | pool(release=0)",
            "managed | pool | prefetch",
            "managed | pool | pressure(trim=20%, refuse=50%, slack=1%, ask=0) | limit(60MiB) | statistics",
            "managed | auto_prefetch",
            "device | limit(16MiB) | pool | spill(managed | pool)",
        ];
        for text in stacks {
            let (device, stream) = sim_with(Profile::default().with_capacity(64 << 20));
            let stack = StackSpec::parse(text).unwrap().build(&device).unwrap();
            let watcher = Arc::new(Watches { stack: stack.clone(), device: device.clone(), seen: AtomicUsize::new(0) });
            let weak: Weak<Watches> = Arc::downgrade(&watcher);
            device.simulator().unwrap().watch(weak);
            let stack = stack.into_device_accessible().unwrap();
            for mib in [1, 9, 30] {
                let buffer = Buffer::<u8, _>::from_slice(&vec![7; mib * MIB], &stream, &stack).unwrap();
                assert!(buffer.to_vec().unwrap().iter().all(|&byte| byte == 7), "{text}");
            }
            assert!(watcher.seen.load(Relaxed) > 0, "{text}");
        }
    });
}
