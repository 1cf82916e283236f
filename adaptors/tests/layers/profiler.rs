//! Named scopes, figures by tag, differences of readings, and budgets.

use crate::common::{free, sim};
use cumem::{Buffer, CudaResource, Device, MemoryResource, Stream, layout};
use cumem_adaptors::tags::tag;
use cumem_adaptors::{PoolOptions, ProfileOrder, ProfileReport, ResourceExt, TrackingOptions, assert_counts};
use cumem_conformance::FailNth;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;

/// Returns name, calls, peak and total of each row.
fn figures(report: &ProfileReport) -> Vec<(&str, u64, u64, u64)> {
    report.rows.iter().map(|row| (&*row.name, row.calls, row.peak_bytes, row.total_bytes)).collect()
}

#[test]
fn a_named_scope_adds_the_counts_of_its_thread_to_the_profile() {
    let (device, stream) = sim();
    let upstream = FailNth::new(CudaResource::new(&device));
    let faults = upstream.faults();
    let memory = upstream.statistics();
    let state = memory.state();
    let buffer = |bytes: usize| Buffer::<u8, _>::zeroed(bytes, &stream, &memory).unwrap();
    let outer = state.named_scope("outer");
    for bytes in [3000, 1000] {
        let _scope = state.named_scope("inner");
        drop(buffer(bytes));
        thread::scope(|scope| scope.spawn(|| drop(buffer(70_000))).join().unwrap());
    }
    let kept = buffer(500);
    {
        let _scope = state.named_scope("fails");
        faults.fail_allocation(1);
        Buffer::<u8, _>::zeroed(100, &stream, &memory).unwrap_err();
    }
    assert_eq!(figures(&state.profile()), [("inner", 2, 3000, 4000), ("fails", 1, 0, 0)], "the outer one is open");
    drop((outer, kept));
    let report = state.profile();
    assert_eq!(figures(&report), [("inner", 2, 3000, 4000), ("outer", 1, 3000, 4500), ("fails", 1, 0, 0)]);
    let failures: Vec<u64> = report.rows.iter().map(|row| row.failures).collect();
    assert_eq!(failures, [0, 1, 1]);
    let names =
        |order| figures(&report.clone().sorted_by(order)).iter().map(|row| row.0.to_owned()).collect::<Vec<_>>();
    assert_eq!(names(ProfileOrder::TotalBytes), ["outer", "inner", "fails"]);
    assert_eq!(names(ProfileOrder::Calls), ["inner", "fails", "outer"]);
    assert_eq!(names(ProfileOrder::Name), ["fails", "inner", "outer"]);
    let text = "\
name        calls          peak         total
inner           2       2.9 KiB       3.9 KiB
outer           1       2.9 KiB       4.4 KiB
fails           1       0 bytes       0 bytes";
    assert_eq!(report.to_string(), text);
    state.clear_profile();
    assert_eq!(state.profile().to_string(), "name       calls          peak         total");
}

#[test]
fn scopes_of_many_threads_add_up_and_a_panic_ends_a_scope() {
    let (device, _) = sim();
    let memory = CudaResource::new(&device).pool(PoolOptions::new()).unwrap().statistics();
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let stream = Stream::new(&device).unwrap();
                for _ in 0..50 {
                    let _scope = memory.state().named_scope("step");
                    drop(Buffer::<u8, _>::zeroed(1000, &stream, &memory).unwrap());
                }
            });
        }
    });
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let _scope = memory.state().named_scope("step");
        panic!("in a step");
    }));
    assert!(panicked.is_err());
    assert_eq!(figures(&memory.state().profile()), [("step", 401, 1000, 400_000)]);
}

#[test]
fn figures_by_tag_follow_the_tag_of_the_allocation() {
    let (device, stream) = sim();
    let upstream = FailNth::new(CudaResource::new(&device));
    let faults = upstream.faults();
    let stack = upstream.tracking(TrackingOptions::new());
    let allocate = |bytes| stack.allocate(&stream, layout::bytes(bytes).unwrap()).unwrap();
    let untagged = allocate(50);
    let [first, second] = {
        let _tag = tag("weights");
        [allocate(1000), allocate(200)]
    };
    let _tag = tag("other");
    free(&stack, &stream, first).unwrap();
    faults.fail_deallocation(1);
    let second = free(&stack, &stream, second).unwrap_err().block;
    let third = {
        let _tag = tag("weights");
        allocate(900)
    };
    assert_eq!(figures(&stack.state().profile()), [("weights", 3, 1200, 2100)]);
    [second, third, untagged].into_iter().for_each(|block| free(&stack, &stream, block).unwrap());
    let row = &stack.state().profile().rows[0];
    assert_eq!((row.total_blocks, row.peak_blocks), (3, 2));
}

#[test]
fn two_reports_differ_in_the_blocks_between_them() {
    let (device, stream) = sim();
    let stack = CudaResource::new(&device).pool(PoolOptions::new()).unwrap().tracking(TrackingOptions::new());
    let allocate = |bytes| stack.allocate(&stream, layout::bytes(bytes).unwrap()).unwrap();
    let (kept, early) = (allocate(100), allocate(5000));
    let before = stack.state().report();
    assert!(before.diff(&stack.state().report()).is_empty());
    let addr = early.addr();
    free(&stack, &stream, early).unwrap();
    let late = allocate(4000);
    assert_eq!(late.addr(), addr, "the pool gives the same memory again");
    let diff = stack.state().report().diff(&before);
    assert_eq!((diff.allocated.len(), diff.freed.len(), diff.bytes()), (1, 1, -1000));
    let text = diff.to_string();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "1000 bytes less in 0 blocks more");
    assert!(lines[1].starts_with("+ 3.9 KiB at 0x") && lines[2].starts_with("- 4.9 KiB at 0x"), "{text}");
    [kept, late].into_iter().for_each(|block| free(&stack, &stream, block).unwrap());
    let all = stack.state().report().diff(&before);
    assert!(all.to_string().starts_with("5 KiB less in 2 blocks fewer"), "{all}");
}

fn budget(device: &Device) {
    let stream = Stream::new(device).unwrap();
    let memory = CudaResource::new(device).pool(PoolOptions::new()).unwrap().statistics().limit(1 << 30);
    let kept = assert_counts!(memory, peak_bytes = 3000, current_bytes = 1000, total_blocks = 2, failures = 0, {
        let kept = Buffer::<u8, _>::zeroed(1000, &stream, &memory).unwrap();
        drop(Buffer::<u8, _>::zeroed(2000, &stream, &memory).unwrap());
        kept
    });
    let message = |work: &dyn Fn()| *catch_unwind(AssertUnwindSafe(work)).unwrap_err().downcast::<String>().unwrap();
    let text = message(&|| {
        assert_counts!(memory, peak_bytes = ..=99, { drop(Buffer::<u8, _>::zeroed(100, &stream, &memory)) })
    });
    assert!(text.starts_with("peak_bytes is 100, expected ..=99; all in all: 0 bytes in 0 blocks now, 100"), "{text}");
    let kept = std::sync::Mutex::new(Some(kept));
    let text = message(&|| assert_counts!(memory, current_bytes = 0, { drop(kept.lock().unwrap().take()) }));
    assert!(text.starts_with("current_bytes is -1000, expected 0"), "{text}");
    assert_counts!(memory, total_blocks = 0, current_blocks = 0, {});
}

#[test]
fn a_budget_is_asserted_on_a_simulated_device() {
    budget(&sim().0);
    let without = CudaResource::new(&sim().0);
    let panicked = catch_unwind(AssertUnwindSafe(|| assert_counts!(without, total_blocks = 0, {})));
    assert!(panicked.unwrap_err().downcast_ref::<&str>().unwrap().starts_with("the stack has no statistics"));
}

#[test]
#[ignore = "needs a CUDA device"]
fn gpu_a_budget_is_asserted_on_a_gpu() {
    budget(&Device::open(0).expect("this test needs a CUDA device"));
}
