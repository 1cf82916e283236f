//! Replays on a simulated device.

use cumem::error::InvalidLayout;
use cumem::sim::{Profile, faults};
use cumem::{AllocError, Block, DeallocError, Device, LayerExt, ManagedResource, MemoryResource, Stream};
use cumem_adaptors::{StackSpec, StatisticsState};
use cumem_replay::{Player, Replay, ReplayError, Trace};
use proptest::prelude::*;
use std::alloc::Layout;
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A resource that counts live blocks, has a limit, and fails with another error at one size.
struct Watched {
    upstream: ManagedResource,
    limit: usize,
    broken_size: usize,
    live_bytes: AtomicUsize,
    live_blocks: AtomicUsize,
    peak_bytes: AtomicUsize,
}

impl Watched {
    fn new(limit: usize) -> Self {
        let device = Device::simulated(Profile::default()).unwrap();
        Self {
            upstream: ManagedResource::new(&device).unwrap(),
            limit,
            broken_size: usize::MAX,
            live_bytes: AtomicUsize::new(0),
            live_blocks: AtomicUsize::new(0),
            peak_bytes: AtomicUsize::new(0),
        }
    }

    fn live(&self) -> (usize, usize) {
        (self.live_blocks.load(Ordering::Relaxed), self.live_bytes.load(Ordering::Relaxed))
    }
}

cumem::adaptor_layer! {
    impl[] Layer for Watched {
        upstream: ManagedResource = upstream;
        describe = "watched";
    }
}

// SAFETY: every block comes from the upstream unchanged.
unsafe impl MemoryResource for Watched {
    type Kind = cumem::kind::Managed;

    fn allocate(&self, stream: &Stream, layout: Layout) -> Result<Block, AllocError> {
        let (requested, allocated) = (layout.size(), self.live().1);
        if requested == self.broken_size {
            return Err(InvalidLayout { size: requested, alignment: layout.align() }.into());
        }
        if allocated + requested > self.limit {
            return Err(AllocError::LimitExceeded { layer: "limit".into(), requested, allocated, limit: self.limit });
        }
        let block = self.upstream.allocate(stream, layout)?;
        self.live_blocks.fetch_add(1, Ordering::Relaxed);
        let live = self.live_bytes.fetch_add(requested, Ordering::Relaxed) + requested;
        self.peak_bytes.fetch_max(live, Ordering::Relaxed);
        Ok(block)
    }

    unsafe fn deallocate(&self, stream: &Stream, block: Block) -> Result<(), DeallocError> {
        let size = block.size();
        // SAFETY: the caller keeps this method's contract, which is the upstream's.
        unsafe { self.upstream.deallocate(stream, block) }?;
        self.live_blocks.fetch_sub(1, Ordering::Relaxed);
        self.live_bytes.fetch_sub(size, Ordering::Relaxed);
        Ok(())
    }
}

fn trace(rows: &str) -> Trace {
    Trace::parse(format!("Thread,Time,Action,Pointer,Size,Stream\n{rows}").as_bytes(), "log.csv").unwrap()
}

/// Two streams, a block that is freed on the other stream, an empty block, and a block that is never freed.
const SMALL: &str = "\
    1,t,allocate,0x100,1000,0\n\
    2,t,allocate,0x200,2000,1\n\
    1,t,allocate,(nil),0,0\n\
    1,t,free,0x100,1000,1\n\
    2,t,allocate,0x300,500,1\n\
    1,t,free,(nil),0,0\n\
    2,t,free,0x200,2000,1\n";

#[test]
fn every_pass_makes_every_operation_and_leaves_nothing() {
    let (trace, resource) = (trace(SMALL), Watched::new(usize::MAX));
    let mut progress = Vec::new();
    let figures = Replay::new(&trace).repeat(3).on_progress(|at| progress.push(at)).run(&resource).unwrap();
    assert_eq!(figures.first().operations, 7);
    assert_eq!(figures.passes().len(), 3);
    assert_eq!(figures.out_of_memory(), 0);
    assert_eq!(resource.live(), (0, 0));
    assert_eq!(resource.peak_bytes.into_inner() as u64, trace.peak_requested_bytes());
    assert!(progress.is_sorted_by_key(|at| at.done));
    assert_eq!(progress.last().map(|at| (at.done, at.total)), Some((28, 28)));
}

#[test]
fn out_of_memory_is_counted_and_its_free_skipped() {
    let (trace, resource) = (trace(SMALL), Watched::new(1999));
    let figures = Replay::new(&trace).run(&resource).unwrap();
    assert_eq!(figures.out_of_memory(), 1);
    assert_eq!(figures.first().operations, 6);
    assert_eq!(resource.live(), (0, 0));
}

#[test]
fn another_error_ends_the_replay_and_names_the_line() {
    let (trace, mut resource) = (trace(SMALL), Watched::new(usize::MAX));
    resource.broken_size = 500;
    let error = Replay::new(&trace).run(&resource).unwrap_err();
    assert!(matches!(error, ReplayError::Allocate { line: 6, size: 500, .. }), "{error}");
    assert!(
        error.report().to_string().starts_with("500 bytes could not be allocated in line 6 of log.csv: "),
        "{error}"
    );
    assert_eq!(resource.live(), (0, 0), "the live blocks have been freed");
}

#[test]
fn a_recorded_trace_on_any_reference() {
    let bytes = include_bytes!("../../../benches/traces/multistream.csv.xz");
    let trace = Trace::parse(bytes.as_slice(), "multistream.csv.xz").unwrap();
    let resource: Box<dyn MemoryResource<Kind = cumem::kind::Managed>> = Box::new(Watched::new(usize::MAX));
    let pass = Player::new(&trace, &resource).unwrap().pass(|_| ()).unwrap();
    assert_eq!((pass.operations, pass.out_of_memory), (24_000, 0));
}

#[test]
fn a_pooled_stack_gives_the_same_figures_every_time() {
    let bytes = include_bytes!("../../../benches/traces/multistream.csv.xz");
    let trace = Trace::parse(bytes.as_slice(), "multistream.csv.xz").unwrap();
    for text in ["managed | pool | limit(80%) | statistics | prefetch", "device | pool", "device | pool | limit(150MB)"]
    {
        let run = || {
            let device = Device::simulated(Profile::default()).unwrap();
            let stack = StackSpec::parse(text).unwrap().with_leaf_statistics().build(&device).unwrap();
            let figures = Replay::new(&trace).repeat(2).run(&stack).unwrap();
            let counts = Vec::from_iter(stack.find_all::<StatisticsState>().iter().map(|counters| counters.counts()));
            (figures.first().operations, figures.out_of_memory(), counts)
        };
        let (operations, out_of_memory, counts) = run();
        assert_eq!((operations, out_of_memory, counts.clone()), run(), "{text}");
        let reserved = counts.last().unwrap().peak_bytes as u64;
        if text.contains("150MB") {
            assert!(out_of_memory > 0 && operations < 24_000, "{text}");
        } else {
            assert_eq!((operations, out_of_memory), (24_000, 0), "{text}");
            assert!(reserved >= trace.peak_requested_bytes(), "{text}: {reserved}");
        }
    }
}

/// Makes rows from any numbers. Every free is of a live block.
fn rows(choices: &[(u8, u8, u16)]) -> String {
    let mut live: HashMap<u64, u64> = HashMap::new();
    let mut rows = String::from("1,t,allocate,1,1,0\n");
    for &(pointer, stream, size) in choices {
        let (pointer, stream) = (u64::from(pointer) + 2, stream % 3);
        let (action, size) = match live.remove(&pointer) {
            Some(size) => ("free", size),
            None => {
                live.insert(pointer, u64::from(size));
                ("allocate", u64::from(size))
            }
        };
        rows += &format!("1,t,{action},{pointer:x},{size},{stream}\n");
    }
    rows
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn replayed_twice_the_figures_are_the_same(
        choices in prop::collection::vec((0_u8..24, any::<u8>(), any::<u16>()), 0..200),
        limit in 1_usize..600_000,
    ) {
        let trace = trace(&rows(&choices));
        let run = || {
            let resource = Watched::new(limit);
            let figures = Replay::new(&trace).repeat(2).run(&resource).unwrap();
            assert_eq!(resource.live(), (0, 0));
            let counts = |pass: cumem_replay::Pass| (pass.operations, pass.out_of_memory);
            let passes = Vec::from_iter(figures.passes().iter().copied().map(counts));
            (counts(figures.first()), passes, resource.peak_bytes.into_inner())
        };
        let (first, second) = (run(), run());
        prop_assert_eq!(&first, &second);
        prop_assert!(first.2 <= limit);
        if limit as u64 >= trace.peak_requested_bytes() {
            prop_assert_eq!(first.0, (trace.operations() as u64, 0));
            prop_assert_eq!(first.2 as u64, trace.peak_requested_bytes());
        }
    }
}

#[test]
fn a_replay_that_ends_early_frees_all_blocks() {
    let rows = "1,t,allocate,0x10,1000,0\n1,t,allocate,0x20,5000000,1\n1,t,free,0x10,1000,1\n1,t,allocate,0x30,64,0\n";
    let trace = Trace::parse(format!("Thread,Time,Action,Pointer,Size,Stream\n{rows}").as_bytes(), "test").unwrap();
    let report = faults::enumerate(&Profile::default(), |device| {
        let stack = StackSpec::parse("managed | pool | limit(80%) | statistics | prefetch")?.build(device)?;
        let figures = Replay::new(&trace).run(&stack)?;
        assert!(figures.out_of_memory() <= 1);
        Ok::<_, Box<dyn std::error::Error>>(())
    });
    report.assert();
}
