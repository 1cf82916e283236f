//! Whichever driver call fails, a failed request leaves every counter of the stack as it was.

use crate::common::free;
use cumem::sim::faults::{self, FaultOutcome};
use cumem::sim::{FaultCall, Profile};
use cumem::{AllocError, Buffer, LayerExt, ManagedResource, MemoryResource, Stream, layout};
use cumem_adaptors::{LimiterState, PoolOptions, PoolState, PrefetchState, ResourceExt, StackSpec, StatisticsState};
use std::error::Error;

/// Returns the counters of all layers: bytes and blocks that are allocated.
fn counted(stack: &impl MemoryResource) -> Vec<i64> {
    let counts = stack.find::<StatisticsState>().unwrap().counts();
    let pool = stack.find::<PoolState>().unwrap().stats();
    let prefetched = stack.find::<PrefetchState>().unwrap();
    vec![
        counts.current_bytes,
        counts.current_blocks,
        stack.find::<LimiterState>().unwrap().allocated() as i64,
        pool.allocated as i64,
        pool.requested as i64,
        pool.blocks as i64,
        prefetched.calls() as i64,
        prefetched.bytes() as i64,
    ]
}

#[test]
fn no_counter_moves_when_a_driver_call_fails() {
    let mut failures = 0;
    let report = faults::enumerate(&Profile::default(), |device| {
        let streams = [Stream::new(device)?, Stream::new(device)?];
        let pool = ManagedResource::new(device)?.pool(PoolOptions::default())?;
        let stack = pool.limit(1 << 30).statistics().prefetch(device.id())?;
        let nothing = counted(&stack);
        let mut blocks = Vec::new();
        let mut first = Ok::<_, AllocError>(());
        for (i, size) in [1, 300, 5 << 20, 64, 3 << 20, 20 << 20].into_iter().enumerate() {
            let (stream, before) = (&streams[i % 2], counted(&stack));
            match stack.allocate(stream, layout::bytes(size)?) {
                Ok(block) => blocks.push((i % 2, block)),
                Err(error) => {
                    failures += 1;
                    assert_eq!(counted(&stack), before, "{size} bytes were refused: {error}");
                    first = first.and(Err(error));
                }
            }
        }
        for (stream, block) in blocks {
            let before = counted(&stack);
            if let Err(error) = free(&stack, &streams[stream], block) {
                failures += 1;
                assert_eq!(counted(&stack), before, "{error}");
                free(&stack, &streams[stream], error.block)?;
            }
        }
        assert_eq!(counted(&stack)[..6], nothing[..6], "something is still counted");
        first.map_err(Box::<dyn Error>::from)
    });
    report.assert();
    assert!(failures >= 5, "{failures} requests failed in {report}");
}

/// Asserts that a driver call that fails loses memory only if the call itself frees something: where the driver refuses
/// to wait for work, the host can wait instead.
fn assert_only_a_refused_free_keeps(what: &str, report: &faults::FaultReport) {
    report.assert();
    for (fault, outcome) in report.runs() {
        let frees = matches!(fault.call, FaultCall::Free | FaultCall::Destroy | FaultCall::Reserve);
        assert!(frees || !matches!(outcome, FaultOutcome::Kept(_)), "{what}: {fault}: {outcome:?}");
    }
}

const LEAVES: [&str; 5] = ["device", "virtual", "async", "pinned", "managed"];

/// The memory of the pool was used on two streams.
#[test]
fn a_refused_wait_loses_no_memory_of_a_pool_that_is_dropped() {
    for leaf in LEAVES {
        let report = faults::enumerate(&Profile::default().with_capacity(64 << 20), |device| {
            let streams = [Stream::new(device)?, Stream::new(device)?];
            let pool = StackSpec::parse(&format!("{leaf} | pool"))?.build(device)?.into_device_accessible()?;
            for stream in &streams {
                let mut buffer = Buffer::<u8, _>::zeroed(1 << 20, stream, &pool)?;
                buffer.resize(2)?;
            }
            Ok::<_, Box<dyn Error>>(())
        });
        assert_only_a_refused_free_keeps(leaf, &report);
    }
}

#[test]
fn a_refused_wait_loses_no_memory_of_a_buffer_that_is_dropped() {
    for leaf in LEAVES {
        let report = faults::enumerate(&Profile::default(), |device| {
            let stream = Stream::new(device)?;
            let stack = StackSpec::parse(leaf)?.build(device)?.into_device_accessible()?;
            drop(Buffer::<u8, _>::zeroed(1 << 20, &stream, &stack)?);
            Ok::<_, Box<dyn Error>>(())
        });
        assert_only_a_refused_free_keeps(leaf, &report);
    }
}
