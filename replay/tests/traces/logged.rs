//! Logs that the logging adaptor writes.

use cumem::sim::Profile;
use cumem::{CudaResource, Device, ManagedResource, MemoryResource, Stream, layout};
use cumem_adaptors::{PoolOptions, ResourceExt};
use cumem_conformance::FailNth;
use cumem_replay::{Replay, Trace};
use std::{env, fs, process, thread};

/// Two threads with a stream each, blocks of zero bytes, failures, and a refused free.
#[test]
fn a_log_is_read_back_and_replayed() {
    let device = Device::simulated(Profile::default()).unwrap();
    let path = env::temp_dir().join(format!("cumem-{}-logged.csv", process::id()));
    let upstream = FailNth::new(CudaResource::new(&device).pool(PoolOptions::new()).unwrap());
    let faults = upstream.faults();
    let stack = upstream.logging(path.as_path()).unwrap();
    faults.fail_allocation(7);
    faults.fail_deallocation(11);
    let work = || {
        let stream = Stream::new(&device).unwrap();
        let mut live = Vec::new();
        for step in 0..100_usize {
            live.extend(stack.allocate(&stream, layout::bytes(step % 5 * 4096).unwrap()).ok());
            if step % 2 == 1 {
                let first = live.swap_remove(0);
                // SAFETY: nothing uses the block.
                live.extend(unsafe { stack.deallocate(&stream, first) }.err().map(|error| error.block));
            }
        }
        live.into_iter().for_each(|block| {
            // SAFETY: as above.
            unsafe { stack.deallocate(&stream, block) }.unwrap();
        });
    };
    thread::scope(|scope| (0..2).for_each(|_| _ = scope.spawn(work)));
    drop(stack);
    let trace = Trace::read_strict(&path).unwrap();
    fs::remove_file(path).unwrap();
    assert_eq!((trace.streams().len(), trace.threads().len()), (2, 2));
    assert_eq!((trace.never_freed(), trace.allocate_failures(), trace.gaps()), (0, 1, None));
    // 199 allocations, 200 frees of which one was refused, and the row that makes its block live again.
    assert_eq!(trace.operations(), 2 * 200);
    let figures = Replay::new(&trace).repeat(2).run(&ManagedResource::new(&device).unwrap()).unwrap();
    assert_eq!(figures.passes().len(), 2);
}
