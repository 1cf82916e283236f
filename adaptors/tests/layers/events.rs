//! The events of `tracing` that an adaptor emits.

use crate::common::{free, sim};
use cumem::{CudaResource, MemoryResource, layout};
use cumem_adaptors::tags::tag;
use cumem_adaptors::{PoolOptions, ResourceExt};
use cumem_conformance::FailNth;
use std::fmt::Debug;
use std::sync::{Arc, Mutex};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::with_default;
use tracing::{Event, Level, Metadata, Subscriber};

/// Keeps the text of each event of the adaptor.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<String>>>);

struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let name = if field.name() == "message" { String::new() } else { format!(" {}=", field.name()) };
        match name.is_empty() {
            true => self.0.insert_str(0, &format!("{value:?}")),
            false => self.0 += &format!("{name}{value:?}"),
        }
    }
}

impl Subscriber for Kept {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "cumem::memory" && *metadata.level() == Level::TRACE
    }
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut text = Text(String::new());
        event.record(&mut text);
        self.0.lock().unwrap().push(text.0);
    }
}

#[test]
fn each_call_is_an_event_for_a_subscriber() {
    let (device, stream) = sim();
    let upstream = FailNth::new(CudaResource::new(&device));
    let faults = upstream.faults();
    let stack = upstream.events();
    let request = layout::bytes(1000).unwrap();
    let kept = Kept::default();
    let unheard = stack.allocate(&stream, request).unwrap();
    free(&stack, &stream, unheard).unwrap();
    let addr = with_default(kept.clone(), || {
        let block = {
            let _tag = tag("weights");
            stack.allocate(&stream, request).unwrap()
        };
        let addr = block.addr();
        faults.fail_deallocation(1);
        let block = free(&stack, &stream, block).unwrap_err().block;
        free(&stack, &stream, block).unwrap();
        faults.fail_allocation(1);
        stack.allocate(&stream, request).unwrap_err();
        addr
    });
    let events = kept.0.lock().unwrap().clone();
    let (on, align) = (format!("stream={} device={}", stream.as_raw(), device.id()), request.align());
    let freed = format!("free addr={addr} bytes=1000 {on}");
    assert_eq!(events[0], format!("allocate addr={addr} bytes=1000 align={align} {on} tag=\"weights\""));
    assert_eq!((&events[1], &events[3]), (&freed, &freed));
    assert!(events[2].starts_with(&format!("free failure addr={addr} bytes=1000 {on} error=")), "{events:?}");
    let failed = format!("allocate failure bytes=1000 align={align} {on} tag=\"\" error=\"out of memory: ");
    assert!(events[4].starts_with(&failed) && events.len() == 5, "{events:?}");
}

/// A pool calls its upstream under its mutex. The events arrive after the release, in order.
#[test]
fn events_beneath_a_pool_arrive_after_its_mutex() {
    let (device, stream) = sim();
    let pool = Arc::new(CudaResource::new(&device).events().pool(PoolOptions::new().step(2 << 20)).unwrap());
    let kept = Kept::default();
    with_default(kept.clone(), || {
        let block = pool.allocate(&stream, layout::bytes(1000).unwrap()).unwrap();
        free(&*pool, &stream, block).unwrap();
        pool.trim().unwrap();
    });
    let events = kept.0.lock().unwrap().clone();
    let [one, two] = &events[..] else { panic!("{events:?}") };
    assert!(one.starts_with("allocate addr=") && two.starts_with("free addr="), "{events:?}");
}
