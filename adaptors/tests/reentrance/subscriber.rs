//! A subscriber of `tracing`, and a watcher of the simulated machine, that use the library in each event.

use crate::common::{free, sim_with};
use crate::harness::{MIB, here_and_elsewhere, within_limit};
use cumem::error::CudaErrorCode;
use cumem::kernel::HostKernel;
use cumem::sim::{FaultCall, Profile, Simulator};
use cumem::{Device, LayerExt, MemoryResource, Stream, layout};
use cumem_adaptors::{AnyStack, PoolState, StackSpec};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::with_default;
use tracing::{Event, Metadata, Subscriber};

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
        self.events.lock().unwrap().push(event.metadata().target().into());
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
