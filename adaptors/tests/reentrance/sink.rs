//! The sink of a log that uses the stack that it logs.

use crate::common::{free, sim};
use crate::harness::{MIB, here_and_elsewhere, within_limit};
use cumem::{AnyUpstream, CudaResource, LayerExt, MemoryResource, Stream, kind, layout};
use cumem_adaptors::{LogOptions, LoggingState, PoolOptions, ResourceExt};
use std::io::{self, Write};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

type Stack = AnyUpstream<kind::Device>;

/// Allocates from the stack in each call.
#[derive(Clone, Default)]
struct Reentrant {
    stack: Arc<OnceLock<(Stack, Stream)>>,
    calls: Arc<AtomicUsize>,
}

impl Write for Reentrant {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        if let Some((stack, stream)) = self.stack.get() {
            here_and_elsewhere(|| {
                let block = stack.allocate(stream, layout::bytes(3 * MIB).unwrap()).unwrap();
                free(stack, stream, block).unwrap();
                assert!(stack.find::<LoggingState>().unwrap().lost_rows() == 0);
                self.calls.fetch_add(1, Relaxed);
            });
        }
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Over a pool, and beneath a pool, which calls its upstream while it holds its mutex.
#[test]
fn a_sink_allocates_from_the_stack_that_it_logs() {
    for beneath in [false, true] {
        within_limit("a sink of a log", move || {
            let (device, stream) = sim();
            let sink = Reentrant::default();
            let options = LogOptions::sink(sink.clone()).flush_each_row();
            let leaf = CudaResource::new(&device);
            let pool = PoolOptions::new().step(2 * MIB);
            let stack = match beneath {
                true => AnyUpstream::new(leaf.logging(options).unwrap().pool(pool).unwrap()),
                false => AnyUpstream::new(leaf.pool(pool).unwrap().logging(options).unwrap()),
            };
            assert!(sink.stack.set((stack.clone(), stream.clone())).is_ok());
            for _ in 0..3 {
                let block = stack.allocate(&stream, layout::bytes(MIB).unwrap()).unwrap();
                free(&stack, &stream, block).unwrap();
                stack.trim_stack(0).unwrap();
            }
            assert!(sink.calls.load(Relaxed) >= 6, "{beneath}: {}", sink.calls.load(Relaxed));
            assert_eq!(stack.find::<LoggingState>().unwrap().lost_rows(), 0);
            // The sink has the stack, and the stack has the sink.
            std::mem::forget(stack);
        });
    }
}
