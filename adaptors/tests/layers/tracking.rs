//! The records of live blocks, and reports of leaks.

use crate::common::{free, sim};
use cumem::error::take_drop_errors;
use cumem::sim::{Profile, faults};
use cumem::{
    AllocError, AnyResource, Block, Buffer, CudaResource, DeallocError, LayerExt, MemoryResource, Stream, Upstream,
    kind, layout,
};
use cumem_adaptors::tags::tag;
use cumem_adaptors::{PoolOptions, ResourceExt, StackSpec, TrackingOptions, TrackingState};
use cumem_conformance::FailNth;
use cumem_test_support::own_process;
use std::alloc::Layout;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::{env, process, thread};

#[test]
fn a_live_block_has_a_record_and_a_free_block_has_none() {
    let (device, stream) = sim();
    let stack = CudaResource::new(&device).tracking(TrackingOptions::new().traces_from(4096));
    let allocate = |bytes| stack.allocate(&stream, layout::bytes(bytes).unwrap()).unwrap();
    let first = allocate(1000);
    let second = thread::scope(|scope| {
        let named = thread::Builder::new().name("loader".into());
        let work = || {
            let _tag = tag("weights");
            allocate(4096)
        };
        named.spawn_scoped(scope, work).unwrap().join().unwrap()
    });
    let empty = allocate(0);
    let live = stack.state().live();
    let [one, two] = &live[..] else { panic!("{live:?}") };
    assert_eq!((one.addr, one.size, one.stream), (first.addr(), 1000, stream.as_raw()));
    assert_eq!((one.tag.as_deref(), one.thread_name.as_deref()), (None, thread::current().name()));
    assert_eq!((two.size, two.tag.as_deref(), two.thread_name.as_deref()), (4096, Some("weights"), Some("loader")));
    assert!(one.thread != two.thread && one.age >= two.age);
    assert!(one.trace.is_none() && two.trace.as_ref().unwrap().to_string().contains("tracking"));
    let report = stack.state().report();
    assert_eq!(report.by_tag(), [(Some("weights".into()), 4096, 1), (None, 1000, 1)]);
    let text = report.to_string();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(
        lines[..3],
        ["5 KiB in 2 blocks are live", "  weights: 4 KiB in 1 block", "  no tag: 1000 bytes in 1 block"]
    );
    let listed = format!("  4 KiB at {:#x}, tag weights, thread {} (loader), stream ", second.addr(), two.thread);
    assert!(lines[3].starts_with(&listed) && lines[4].starts_with("  1000 bytes at ") && lines.len() == 5, "{text}");
    assert!(format!("{report:#}").lines().count() > 6, "with the stack trace");
    [first, second, empty].into_iter().for_each(|block| free(&stack, &stream, block).unwrap());
    assert!(stack.state().live().is_empty());
    assert_eq!(
        (stack.state().report().to_string().as_str(), stack.state().unknown_frees()),
        ("0 bytes in 0 blocks are live", 0)
    );
}

#[test]
fn a_report_lists_the_largest_blocks_and_counts_the_rest() {
    let (device, stream) = sim();
    let stack = CudaResource::new(&device).tracking(TrackingOptions::new());
    let allocate = |bytes| stack.allocate(&stream, layout::bytes(bytes).unwrap()).unwrap();
    let blocks: Vec<_> = (1..=30).map(|n| allocate(n * 1024)).collect();
    let text = stack.state().report().to_string();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!((lines.len(), lines[21]), (22, "  and 10 more"), "{text}");
    assert!(lines[1].starts_with("  30 KiB at ") && lines[20].starts_with("  11 KiB at "), "{text}");
    blocks.into_iter().for_each(|block| free(&stack, &stream, block).unwrap());
}

#[test]
fn a_block_that_the_upstream_refuses_keeps_its_record() {
    let (device, stream) = sim();
    let upstream = FailNth::new(CudaResource::new(&device));
    let faults = upstream.faults();
    let stack = upstream.tracking(TrackingOptions::new());
    let block = {
        let _tag = tag("kept");
        stack.allocate(&stream, layout::bytes(1000).unwrap()).unwrap()
    };
    faults.fail_deallocation(1);
    let block = free(&stack, &stream, block).unwrap_err().block;
    assert_eq!(stack.state().live()[0].tag.as_deref(), Some("kept"));
    free(&stack, &stream, block).unwrap();
    faults.fail_allocation(1);
    stack.allocate(&stream, layout::bytes(1000).unwrap()).unwrap_err();
    assert!(stack.state().live().is_empty());
}

/// Passes everything on, and calls a function after each free.
struct AfterFree<U> {
    upstream: U,
    then: Arc<OnceLock<Box<dyn Fn() + Send + Sync>>>,
}

cumem::adaptor_layer! {
    impl[U] Layer, Upstream for AfterFree<U> {
        upstream: U = upstream;
        describe = "after_free";
    }
}

// SAFETY: every block is the upstream's and is passed on unchanged.
unsafe impl<U: Upstream> MemoryResource for AfterFree<U> {
    type Kind = U::Kind;

    fn allocate(&self, stream: &Stream, layout: Layout) -> Result<Block, AllocError> {
        self.upstream.allocate(stream, layout)
    }

    unsafe fn deallocate(&self, stream: &Stream, block: Block) -> Result<(), DeallocError> {
        // SAFETY: the caller upholds the contract of the upstream, which is the same.
        unsafe { self.upstream.deallocate(stream, block) }?;
        self.then.get().into_iter().for_each(|then| then());
        Ok(())
    }
}

/// The upstream gives the memory of a freed block to another request before the free returns.
#[test]
fn the_record_of_a_block_is_not_removed_by_the_free_of_the_block_before_it() {
    let (device, stream) = sim();
    let then = Arc::default();
    let pool = CudaResource::new(&device).pool(PoolOptions::new()).unwrap();
    let upstream = AfterFree { upstream: pool, then: Arc::clone(&then) };
    let stack = Arc::new(upstream.tracking(TrackingOptions::new()));
    let first = stack.allocate(&stream, layout::bytes(1000).unwrap()).unwrap();
    let addr = first.addr();
    let second = Arc::new(Mutex::new(None));
    let (weak, kept, on) = (Arc::downgrade(&stack), Arc::clone(&second), stream.clone());
    let done = AtomicBool::new(false);
    let allocate = move || {
        if !done.swap(true, Ordering::Relaxed) {
            let block = weak.upgrade().unwrap().allocate(&on, layout::bytes(500).unwrap()).unwrap();
            *kept.lock().unwrap() = Some(block);
        }
    };
    assert!(then.set(Box::new(allocate) as _).is_ok());
    free(&*stack, &stream, first).unwrap();
    let live = stack.state().live();
    assert_eq!((live.len(), live[0].addr, live[0].size), (1, addr, 500));
    let second = second.lock().unwrap().take().unwrap();
    free(&*stack, &stream, second).unwrap();
    assert!(stack.state().live().is_empty());
}

#[test]
fn records_are_those_of_live_blocks_when_a_driver_call_fails() {
    let report = faults::enumerate(&Profile::default(), |device| {
        let stack =
            StackSpec::parse("device | pool | tracking").unwrap().build(device)?.into_device_accessible().unwrap();
        let result: Result<(), AllocError> = (|| {
            let stream = Stream::new(device)?;
            drop(Buffer::<u8, _>::zeroed(1000, &stream, &stack)?);
            Ok(())
        })();
        let tracking = stack.find::<TrackingState>().unwrap();
        let pool = stack.find::<cumem_adaptors::PoolState>().unwrap();
        assert_eq!(tracking.live().len(), pool.stats().blocks);
        result.map_err(Box::<dyn std::error::Error>::from)
    });
    report.assert();
}

// These tests read the recorded errors of drops, which the whole process shares.
own_process!(a_drop_reports_the_live_blocks_once, a_function_gets_the_report_and_may_panic);

fn a_drop_reports_the_live_blocks_once() {
    let (device, stream) = sim();
    let stack = CudaResource::new(&device).tracking(TrackingOptions::new());
    let leaked = stack.allocate(&stream, layout::bytes(1000).unwrap()).unwrap();
    drop(stack);
    let errors = take_drop_errors();
    let [error] = &errors[..] else { panic!("{errors:?}") };
    let start = format!(
        "tracking could not be released: 1000 bytes in 1 block is live\n  1000 bytes at {:#x}, ",
        leaked.addr()
    );
    assert!(error.starts_with(&start), "{error}");
    let stack = CudaResource::new(&device).tracking(TrackingOptions::new());
    let block = stack.allocate(&stream, layout::bytes(1000).unwrap()).unwrap();
    free(&stack, &stream, block).unwrap();
    drop(stack);
    let stack = CudaResource::new(&device).tracking(TrackingOptions::new());
    let kept = stack.allocate(&stream, layout::bytes(1000).unwrap()).unwrap();
    free(&stack.into_upstream(), &stream, kept).unwrap();
    assert_eq!(take_drop_errors(), [""; 0]);
}

fn a_function_gets_the_report_and_may_panic() {
    let (device, stream) = sim();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let reports = Arc::clone(&seen);
    let stack = CudaResource::new(&device).tracking(TrackingOptions::new().on_leak(move |report| {
        reports.lock().unwrap().push(report.bytes);
        panic!("no");
    }));
    let _leaked = stack.allocate(&stream, layout::bytes(1000).unwrap()).unwrap();
    drop(stack);
    assert_eq!(*seen.lock().unwrap(), [1000]);
    assert_eq!(take_drop_errors(), ["tracking could not be released: a resource panicked: no"]);
}

#[test]
fn blocks_of_a_static_stack_are_reported_at_the_end_of_the_process() {
    static STACK: Mutex<Option<AnyResource<kind::Device>>> = Mutex::new(None);
    const CHILD: &str = "CUMEM_TEST_LEAKS_AT_EXIT";
    if let Some(leaks) = env::var_os(CHILD) {
        let (device, stream) = sim();
        let stack = AnyResource::new(CudaResource::new(&device).tracking(TrackingOptions::new()));
        let block = stack.allocate(&stream, layout::bytes(1000).unwrap()).unwrap();
        if leaks != "yes" {
            free(&stack, &stream, block).unwrap();
        }
        *STACK.lock().unwrap() = Some(stack);
        return;
    }
    let errors = |leaks: &str| {
        let mut child = process::Command::new(env::current_exe().unwrap());
        child.args([thread::current().name().unwrap(), "--exact", "--nocapture"]).env(CHILD, leaks);
        String::from_utf8(child.output().unwrap().stderr).unwrap()
    };
    let reported = errors("yes");
    assert!(
        reported.contains("at the end of the process, 1000 bytes in 1 block is live\n  1000 bytes at 0x"),
        "{reported}"
    );
    assert!(!errors("no").contains("at the end of the process"));
}
