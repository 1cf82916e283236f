//! Migration accounting: requests and moved bytes, checked against the simulator's residency. Recommendations: they
//! gain what they claim, and none is made if there is no gain.

use crate::common::{free, simulated};
use cumem::LayerExt;
use cumem::kernel::{AccessMode, HostKernel};
use cumem::sim::Profile;
use cumem::unified::accounting::{AccessPattern, Cause, Ledger, LedgerReport, LedgerRow, Moved, Processor, Step};
use cumem::unified::{HintOutcome, hints};
use cumem::{
    Device, DeviceError, DeviceId, DriverError, Location, ManagedResource, MemoryResource, Stream, UnifiedBuffer,
    layout,
};
use cumem_adaptors::{PoolOptions, ResourceExt, TaggedState};
use cumem_whatif::{Recommendation, recommend};
use std::sync::Arc;

on_devices!(
    bytes_and_calls_by_cause_direction_tag_and_phase,
    declared_uses_are_counted_and_written_down_once,
    only_what_succeeded_counts,
    a_tag_ends_with_its_block,
    several_ledgers_and_none,
    bandwidth_of_synchronous_migrations,
);

const MIB: usize = 1 << 20;

fn buffer<R: MemoryResource<Kind = cumem::kind::Managed>>(
    stack: R,
    bytes: usize,
    stream: &Stream,
) -> UnifiedBuffer<u8, R> {
    UnifiedBuffer::zeroed(bytes, stream, stack).unwrap()
}

fn row<'a>(report: &'a LedgerReport, tag: &str, phase: &str, cause: Cause) -> &'a LedgerRow {
    let found: Vec<_> = report.rows.iter().filter(|r| (&*r.tag, &*r.phase, r.cause) == (tag, phase, cause)).collect();
    assert_eq!(found.len(), 1, "{tag} {phase} {cause}:\n{report}");
    found[0]
}

fn moved(report: &LedgerReport, phase: &str) -> Moved {
    report.sum_moved(|row| row.phase == phase).expect("the device is simulated")
}

fn bytes_and_calls_by_cause_direction_tag_and_phase(device: &Device) {
    let stream = Stream::new(device).unwrap();
    let ledger = Arc::new(Ledger::new(device));
    let pool = ManagedResource::new(device).unwrap().pool(PoolOptions::default()).unwrap();
    let mut weights = buffer((&pool).tagged(&ledger, "weights"), 4 * MIB, &stream);
    let results = buffer((&pool).tagged(&ledger, "results"), MIB, &stream);
    assert_eq!(weights.resource().find::<TaggedState>().unwrap().as_str(), "weights");
    {
        let _load = ledger.phase("load");
        weights.upload(&vec![7; 4 * MIB]).unwrap();
        let _inner = ledger.phase("check");
        assert_eq!(weights.host_read().unwrap()[0], 7);
    }
    {
        let _work = ledger.phase("work");
        for _ in 0..3 {
            assert_eq!(results.prefetch(device.id()).unwrap(), HintOutcome::Applied);
        }
        assert_eq!(results.prefetch_range(0..4096, Location::Host).unwrap(), HintOutcome::Applied);
    }
    results.to_vec().unwrap();

    let report = ledger.report();
    let here = Location::Device(device.id());
    let figures = |row: &LedgerRow| (row.to, row.calls, row.bytes);
    assert_eq!(figures(row(&report, "weights", "load", Cause::Upload)), (here, 1, 4 * MIB as u64));
    assert_eq!(figures(row(&report, "weights", "check", Cause::HostRead)), (Location::Host, 1, 4 * MIB as u64));
    assert_eq!(figures(row(&report, "results", "", Cause::Download)), (Location::Host, 1, MIB as u64));
    let prefetches: Vec<_> = report.rows.iter().filter(|row| row.phase == "work").map(figures).collect();
    assert_eq!(prefetches, [(here, 3, 3 * MIB as u64), (Location::Host, 1, 4096)]);
    assert!(report.rows.iter().all(|row| !row.tag.is_empty()), "{report}");
    let text = report.to_string();
    assert_eq!(text.contains("moved (simulated)"), device.is_simulated(), "{text}");
    assert_eq!(text.contains("unknown"), !device.is_simulated(), "{text}");
}

fn declared_uses_are_counted_and_written_down_once(device: &Device) {
    let stream = Stream::new(device).unwrap();
    let ledger = Arc::new(Ledger::new(device));
    ledger.write_down(10);
    let used = buffer(ManagedResource::new(device).unwrap().tagged(&ledger, "used"), MIB, &stream);
    let address = used.device_use(4096..8192).unwrap().device_address();
    used.sparse_device_use(0..MIB).map(drop).unwrap();
    assert!(used.device_use(0..MIB + 1).is_err());
    let report = ledger.report();
    assert_eq!((row(&report, "used", "", Cause::DeviceUse).calls, address), (2, used.device_address() + 4096));
    assert_eq!(row(&report, "used", "", Cause::DeviceUse).bytes, (4096 + MIB) as u64);
    // On a simulated device the pattern records kernels, so declared uses are not recorded again.
    let written = if device.is_simulated() { 0 } else { 2 };
    assert_eq!(ledger.pattern().steps().len(), written);
}

fn only_what_succeeded_counts(device: &Device) {
    let stream = Stream::new(device).unwrap();
    let ledger = Ledger::new(device);
    let buffer = buffer(ManagedResource::new(device).unwrap(), MIB, &stream);
    let nowhere = device.id().sibling(77);
    assert!(buffer.prefetch(nowhere).is_err());
    assert!(buffer.prefetch_range(0..2 * MIB, device.id()).is_err());
    let _skipped = buffer.prefetch_range(5..5, device.id()).unwrap();
    assert!(buffer.copy_to_slice(&mut [0; 3]).is_err());
    assert_eq!(ledger.report().rows, []);
}

fn a_tag_ends_with_its_block(device: &Device) {
    let stream = Stream::new(device).unwrap();
    let ledger = Arc::new(Ledger::new(device));
    let pool = ManagedResource::new(device).unwrap().pool(PoolOptions::default()).unwrap();
    let first = buffer((&pool).tagged(&ledger, "first"), MIB, &stream);
    let addr = first.block().addr();
    drop(first);
    let again = buffer(&pool, MIB, &stream);
    assert_eq!(again.block().addr(), addr);
    assert_eq!(again.prefetch(device.id()).unwrap(), HintOutcome::Applied);
    let report = ledger.report();
    assert_eq!(row(&report, "", "", Cause::Prefetched).calls, 1);
}

fn several_ledgers_and_none(device: &Device) {
    let stream = Stream::new(device).unwrap();
    let elsewhere = Ledger::new(&simulated());
    let all = Ledger::new(device);
    let buffer = buffer(ManagedResource::new(device).unwrap(), MIB, &stream);
    let some = Ledger::new(device);
    let phase = some.phase("only here");
    buffer.host_read().map(drop).unwrap();
    drop(phase);
    buffer.host_read().map(drop).unwrap();
    assert_eq!(row(&all.report(), "", "", Cause::HostRead).calls, 2);
    assert_eq!(row(&some.report(), "", "only here", Cause::HostRead).calls, 1);
    drop(some);
    buffer.host_read().map(drop).unwrap();
    assert_eq!(row(&all.report(), "", "", Cause::HostRead).calls, 3);
    assert_eq!(elsewhere.report().rows, []);
}

fn bandwidth_of_synchronous_migrations(device: &Device) {
    let stream = Stream::new(device).unwrap();
    let ledger = Ledger::new(device);
    let mut buffer = buffer(ManagedResource::new(device).unwrap(), 16 * MIB, &stream);
    buffer.upload(&vec![1; 16 * MIB]).unwrap();
    assert_eq!(buffer.prefetch(device.id()).unwrap(), HintOutcome::Applied);
    let report = ledger.report();
    let upload = row(&report, "", "", Cause::Upload);
    let (time, rate) = (upload.time.unwrap(), upload.bandwidth().unwrap());
    assert!((rate * time.as_secs_f64() / (16 * MIB) as f64 - 1.0).abs() < 1e-9);
    assert!(report.rows.iter().filter(|row| row.cause == Cause::Prefetched).all(|row| row.bandwidth().is_none()));
}

#[test]
fn each_migration_is_counted_with_its_cause() {
    let device = Device::simulated(Profile::tiny((32 * MIB) as u64)).unwrap();
    let stream = Stream::new(&device).unwrap();
    let ledger = Ledger::new(&device);
    let phase = ledger.phase("fill");
    let mut buffer = buffer(ManagedResource::new(&device).unwrap(), 16 * MIB, &stream);
    buffer.host_write().unwrap().fill(1);
    drop(phase);
    let all = 16 * MIB as u64;
    assert_eq!(moved(&ledger.report(), "fill").faulted_to_host, all);

    let phase = ledger.phase("prefetch");
    assert_eq!(buffer.prefetch_range(0..8 * MIB, device.id()).unwrap(), HintOutcome::Applied);
    stream.synchronize().unwrap();
    drop(phase);
    let phase = ledger.phase("kernel");
    let kernel = HostKernel::new("use", |_| ()).reads(buffer.device_address(), 16 * MIB);
    // SAFETY: the buffer is initialized and outlives the work, because the stream is synchronized.
    unsafe { stream.launch_host(kernel) }.unwrap();
    stream.synchronize().unwrap();
    drop(phase);
    let phase = ledger.phase("evict");
    let other = ManagedResource::new(&device).unwrap();
    let more = other.allocate(&stream, layout::bytes(24 * MIB).unwrap()).unwrap();
    assert_eq!(hints::prefetch(&more, 0..24 * MIB, device.id(), &stream).unwrap(), HintOutcome::Applied);
    stream.synchronize().unwrap();
    drop(phase);

    let report = ledger.report();
    let prefetched = moved(&report, "prefetch");
    assert_eq!((prefetched.prefetched_to_device, prefetched.faults), (all / 2, 0), "{report}");
    let kernel = moved(&report, "kernel");
    assert_eq!((kernel.faulted_to_device, kernel.prefetched_to_device), (all / 2, 0), "{report}");
    assert!(kernel.faults > 0 && kernel.host_faults == 0, "{report}");
    assert_eq!(row(&report, "", "kernel", Cause::KernelRead).bytes, all);
    let evicted = moved(&report, "evict");
    let gone = hints::residency(buffer.block(), 0..16 * MIB, &stream).unwrap().unwrap().on(Location::Host);
    assert_eq!((evicted.evicted_to_host, evicted.prefetched_to_host), (gone, 0), "{report}");
    assert!(gone > 0 && evicted.evictions == gone / (2 * MIB as u64), "{report}");
    free(&other, &stream, more).unwrap();
}

/// Two tags that share a page, and memory without a tag.
#[test]
fn migrations_are_counted_for_each_tag() {
    let device = Device::simulated(Profile::tiny((32 * MIB) as u64)).unwrap();
    let simulator = device.simulator().unwrap();
    let stream = Stream::new(&device).unwrap();
    let mut memory = buffer(ManagedResource::new(&device).unwrap(), 8 * MIB, &stream);
    stream.synchronize().unwrap();
    let ledger = Ledger::new(&device);
    let before = simulator.statistics(device.id()).unwrap();
    let (first, second) = (0..MIB + 2048, MIB + 2048..6 * MIB + 2048);
    let _weights = ledger.tag(memory.device_address(), first.len(), "weights");
    let _results = ledger.tag(memory.device_address() + second.start as u64, second.len(), "results");
    {
        let _load = ledger.phase("load");
        memory.host_write().unwrap().fill(1);
    }
    {
        let _work = ledger.phase("work");
        let _ = memory.prefetch_range(first.clone(), device.id()).unwrap();
        let addr = memory.device_address() + second.start as u64;
        let kernel = HostKernel::new("sum", |_| ()).reads(addr, second.len());
        // SAFETY: the buffer is initialized and outlives the work, because the stream is synchronized.
        unsafe { stream.launch_host(kernel) }.unwrap();
        stream.synchronize().unwrap();
    }
    {
        let _out = ledger.phase("out");
        let big = ManagedResource::new(&device).unwrap();
        let block = big.allocate(&stream, layout::bytes(32 * MIB).unwrap()).unwrap();
        let _ = hints::prefetch(&block, 0..32 * MIB, device.id(), &stream).unwrap();
        stream.synchronize().unwrap();
        free(&big, &stream, block).unwrap();
    }
    memory.copy_from_slice(&vec![2; 8 * MIB]).unwrap();

    let report = ledger.report();
    let of = |tag: &str, phase: &str| report.sum_moved(|row| (&*row.tag, &*row.phase) == (tag, phase)).unwrap();
    let (weighty, all) = ((MIB + 2048) as u64, 5 * MIB as u64);
    assert_eq!(of("weights", "load").faulted_to_host, weighty, "{report}");
    assert_eq!(of("results", "load").faulted_to_host, all, "{report}");
    assert_eq!(of("", "load").faulted_to_host, (8 * MIB) as u64 - weighty - all, "{report}");
    let (moved, rest) = (of("weights", "work"), of("results", "work"));
    assert_eq!((moved.prefetched_to_device, moved.faulted_to_device, moved.faults), (weighty, 0, 0), "{report}");
    // The prefetch moved the whole shared page, so 2048 bytes of it count for the other tag.
    assert_eq!((rest.prefetched_to_device, rest.faulted_to_device), (2048, all - 2048), "{report}");
    assert!(rest.faults > 0, "{report}");
    assert_eq!(
        (of("weights", "out").evicted_to_host, of("results", "out").evicted_to_host),
        (weighty, all),
        "{report}"
    );
    assert_eq!((of("weights", "").copied_to_device, of("results", "").copied_to_device), (weighty, all), "{report}");

    // The sum over all tags and phases equals the count of the simulator.
    let (sum, after) = (report.sum_moved(|_| true).unwrap(), simulator.statistics(device.id()).unwrap());
    assert_eq!(sum.faults, after.faults - before.faults);
    assert_eq!(sum.host_faults, after.host_faults - before.host_faults);
    assert_eq!(sum.evictions, after.evictions - before.evictions);
    assert_eq!(sum.prefetched_to_device, after.prefetched_to_device - before.prefetched_to_device);
    let to_device = sum.prefetched_to_device + sum.faulted_to_device;
    assert_eq!(to_device, after.migrated_to_device - before.migrated_to_device);
    let to_host = sum.prefetched_to_host + sum.faulted_to_host + sum.evicted_to_host;
    assert_eq!(to_host, after.migrated_to_host - before.migrated_to_host);
    assert_eq!(sum.evicted_to_host, after.evicted - before.evicted);
    assert_eq!(sum.copied_to_device, after.copied_to_device - before.copied_to_device);
    assert!(report.to_string().contains("moved (simulated) of results in work: faults"), "{report}");
}

/// Tags that overlap: of a chunk and of a block at its start, an empty tag, and a tag that outlives its block.
#[test]
fn the_innermost_of_overlapping_tags_counts() {
    let device = simulated();
    let stream = Stream::new(&device).unwrap();
    let memory = buffer(ManagedResource::new(&device).unwrap(), 4 * MIB, &stream);
    stream.synchronize().unwrap();
    let ledger = Ledger::new(&device);
    let addr = memory.device_address();
    let chunk = ledger.tag(addr, 4 * MIB, "chunk");
    let block = ledger.tag(addr, MIB, "block");
    let empty = ledger.tag(addr + MIB as u64, 0, "empty");
    let faulted = || memory.host_read().map(drop).unwrap();
    let on_host = |tag: &str| ledger.report().sum_moved(|row| row.tag == tag).unwrap().faulted_to_host;
    let back = || assert_eq!(memory.prefetch(device.id()).unwrap(), HintOutcome::Applied);
    back();
    faulted();
    assert_eq!([on_host("chunk"), on_host("block"), on_host("empty")], [3, 1, 0].map(|n| n * MIB as u64));
    drop(block);
    back();
    faulted();
    assert_eq!([on_host("chunk"), on_host("block")], [7, 1].map(|n| n * MIB as u64));
    // The previous owner drops its tags after the next owner has tagged the memory.
    let next = ledger.tag(addr, 4 * MIB, "next");
    drop((chunk, empty));
    back();
    faulted();
    assert_eq!([on_host("chunk"), on_host("next"), on_host("")], [7, 4, 0].map(|n| n * MIB as u64));
    drop(next);
    assert_eq!(row(&ledger.report(), "next", "", Cause::HostRead).calls, 1);
}

const HERE: DeviceId = DeviceId::cuda(0);

fn advise(pattern: &AccessPattern) -> Vec<Recommendation> {
    recommend(pattern, &Profile::h100_pcie5(), HERE, 0.05).unwrap()
}

/// Adds a pattern in which host and device read the same table in turn, so that the pages migrate each time.
fn thrashing(pattern: &mut AccessPattern, rounds: usize) -> usize {
    let table = pattern.memory("table", 8 * MIB);
    pattern.used(table, 0..8 * MIB, Processor::Host, AccessMode::Write);
    for _ in 0..rounds {
        pattern.used(table, 0..8 * MIB, Processor::Device, AccessMode::Read);
        pattern.used(table, 0..8 * MIB, Processor::Host, AccessMode::Read);
    }
    table
}

#[test]
fn read_mostly_is_recommended_for_a_table_that_host_and_device_read() {
    let mut pattern = AccessPattern::new();
    let table = thrashing(&mut pattern, 16);
    let found = advise(&pattern);
    assert_eq!(found.len(), 1);
    let Recommendation { memory, ref name, ref policy, before, after, .. } = found[0];
    assert_eq!((memory, name.as_str(), policy), (table, "table", &hints::MigrationPolicy::ReadMostly));
    assert!(after < before && found[0].gain() > 0.5, "{}", found[0]);
    assert_eq!(advise(&pattern), found, "the same in every run");
}

#[test]
fn nothing_is_recommended_if_nothing_gains() {
    // Migrates to the device once, and stays there.
    let mut once = AccessPattern::new();
    let memory = once.memory("batch", 8 * MIB);
    once.used(memory, 0..8 * MIB, Processor::Host, AccessMode::Write);
    for _ in 0..20 {
        once.used(memory, 0..8 * MIB, Processor::Device, AccessMode::Read);
    }
    assert_eq!(advise(&once), []);
    // Never leaves the device.
    let mut device_only = AccessPattern::new();
    let memory = device_only.memory("scratch", 8 * MIB);
    device_only.push(Step::Prefetched { memory, range: 0..8 * MIB, to: Processor::Device });
    for _ in 0..5 {
        device_only.used(memory, 0..8 * MIB, Processor::Device, AccessMode::Write);
    }
    assert_eq!(advise(&device_only), []);
    assert_eq!(advise(&AccessPattern::new()), []);
    // A gain below the threshold makes no recommendation.
    let mut pattern = AccessPattern::new();
    thrashing(&mut pattern, 3);
    assert_eq!(recommend(&pattern, &Profile::h100_pcie5(), HERE, 0.999).unwrap(), []);
}

#[test]
fn advice_is_recommended_only_for_memory_that_gains() {
    let mut pattern = AccessPattern::new();
    let batch = pattern.memory("batch", 4 * MIB);
    pattern.used(batch, 0..4 * MIB, Processor::Device, AccessMode::Write);
    let table = thrashing(&mut pattern, 6);
    let found = advise(&pattern);
    assert_eq!(found.iter().map(|r| r.memory).collect::<Vec<_>>(), [table]);
}

#[test]
fn advice_recommended_from_a_ledgers_records_reduces_faults() {
    let run = |policy: &dyn Fn(DeviceId) -> hints::MigrationPolicy| {
        let device = simulated();
        let stream = Stream::new(&device).unwrap();
        let ledger = Arc::new(Ledger::new(&device));
        ledger.write_down(1000);
        let mut table = buffer(ManagedResource::new(&device).unwrap().tagged(&ledger, "table"), 8 * MIB, &stream);
        let applied = table.hints().policy(&policy(device.id())).apply().unwrap();
        assert!(applied.outcomes().iter().all(|(_, outcome)| *outcome == HintOutcome::Applied));
        let simulator = device.simulator().unwrap();
        let start = simulator.clock();
        table.host_write().unwrap().fill(3);
        for _ in 0..6 {
            let kernel = HostKernel::new("read", |_| ()).reads(table.device_address(), 8 * MIB);
            // SAFETY: the table is initialized and outlives the work, because the host guard waits for it.
            unsafe { stream.launch_host(kernel) }.unwrap();
            assert_eq!(table.host_read().unwrap()[5], 3);
        }
        let report = ledger.report();
        (ledger.pattern(), simulator.clock() - start, moved(&report, ""))
    };
    let (pattern, naive, before) = run(&|_| hints::MigrationPolicy::Default);
    assert_eq!((pattern.memories().len(), pattern.steps().len()), (1, 1 + 6 * 2));
    let found = |device| recommend(&pattern, &Profile::h100_pcie5(), device, 0.05).unwrap();
    assert_eq!(found(HERE).len(), 1);
    let (_, advised, after) = run(&|device| found(device)[0].policy.clone());
    assert!(advised < naive, "{advised:?} against {naive:?}");
    assert!(after.host_faults < before.host_faults && after.faulted_to_host < before.faulted_to_host);
}

#[test]
fn a_ledger_records_at_most_the_requested_steps() {
    let device = simulated();
    let stream = Stream::new(&device).unwrap();
    let ledger = Arc::new(Ledger::new(&device));
    ledger.write_down(3);
    let table = buffer(ManagedResource::new(&device).unwrap().tagged(&ledger, "table"), MIB, &stream);
    for _ in 0..10 {
        table.host_read().map(drop).unwrap();
    }
    assert_eq!(ledger.pattern().steps().len(), 3);
    assert_eq!(row(&ledger.report(), "table", "", Cause::HostRead).calls, 10);
}

#[test]
fn a_range_tagged_in_part_is_recorded_in_part() {
    let device = simulated();
    let stream = Stream::new(&device).unwrap();
    let ledger = Ledger::new(&device);
    let memory = buffer(ManagedResource::new(&device).unwrap(), MIB, &stream);
    ledger.write_down(10);
    let _head = ledger.tag(memory.device_address(), 5000, "head");
    memory.host_read().map(drop).unwrap();
    assert_eq!(memory.prefetch_range(4096..MIB, device.id()).unwrap(), HintOutcome::Applied);
    let read = Step::Used { memory: 0, range: 0..5000, by: Processor::Host, mode: AccessMode::Read };
    let prefetched = Step::Prefetched { memory: 0, range: 4096..5000, to: Processor::Device };
    assert_eq!(ledger.pattern().steps(), [read, prefetched]);
    // A tag from before `write_down` is not part of the new pattern.
    ledger.write_down(10);
    memory.host_read().map(drop).unwrap();
    assert_eq!(ledger.pattern(), AccessPattern::new());
}

#[test]
fn a_recommendation_for_a_device_without_managed_memory_is_an_error() {
    let mut profile = Profile::h100_pcie5();
    (profile.managed_memory, profile.concurrent_managed_access) = (false, false);
    let mut pattern = AccessPattern::new();
    thrashing(&mut pattern, 1);
    let error = recommend(&pattern, &profile, HERE, 0.05).unwrap_err();
    assert!(
        matches!(error, cumem::AllocError::Device(DeviceError::Driver(DriverError::NotSupported { .. }))),
        "{error}"
    );
}

#[test]
#[should_panic(expected = "is not within the memory's 10 bytes")]
fn a_use_beyond_the_end_of_the_memory_panics() {
    let mut pattern = AccessPattern::new();
    let memory = pattern.memory("small", 10);
    pattern.used(memory, 5..11, Processor::Host, AccessMode::Read);
}

/// A prefetch is enqueued in one phase and moves its pages in the next one.
#[test]
fn a_request_counts_in_its_phase_and_a_migration_in_the_phase_in_which_it_happens() {
    let device = simulated();
    let stream = Stream::new(&device).unwrap();
    let memory = buffer(ManagedResource::new(&device).unwrap(), 4 * MIB, &stream);
    stream.synchronize().unwrap();
    drop(memory.host_read().unwrap());
    let ledger = Ledger::new(&device);
    let loading = ledger.phase("loading");
    assert_eq!(memory.prefetch(device.id()).unwrap(), HintOutcome::Applied);
    drop(loading);
    let working = ledger.phase("working");
    stream.synchronize().unwrap();
    drop(working);
    let report = ledger.report();
    assert_eq!((report.rows.len(), report.rows[0].phase.as_str()), (1, "loading"), "{report}");
    let moved = |phase| report.sum_moved(|row| row.phase == phase).unwrap().prefetched_to_device;
    assert_eq!((moved("loading"), moved("working")), (0, 4 * MIB as u64), "{report}");
}
