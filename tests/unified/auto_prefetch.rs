//! Automatic prefetch: the ranges that it prefetches, those that it leaves out, and its counters.

use crate::common;
use cumem::error::CudaErrorCode;
use cumem::kernel::HostKernel;
use cumem::sim::{FaultCall, JournalEvent, Profile};
use cumem::unified::{AutoPrefetchOptions, AutoPrefetchReport, HintOutcome, SkipReason};
use cumem::{Device, DeviceError, ManagedResource, Stream, UnifiedBuffer};
use std::time::Duration;

on_devices!(what_was_brought_is_counted, ranges_that_do_not_fit, turning_it_on_and_off);

const SLAB: usize = 4 << 20;
const SLABS: usize = 24;

type Bytes = UnifiedBuffer<u8, ManagedResource>;

/// Creates a buffer whose pages are on the host.
fn on_host(device: &Device) -> Bytes {
    let stream = Stream::new(device).unwrap();
    let mut buffer = UnifiedBuffer::zeroed(SLAB * SLABS, &stream, ManagedResource::new(device).unwrap()).unwrap();
    buffer.host_write().unwrap()[0] = 1;
    buffer
}

/// Enqueues work of 1 ms of virtual time on a slab. That is longer than the transfer of a slab takes.
fn work_on(buffer: &Bytes, slab: usize) {
    work_for(buffer, slab, 67_000_000_000);
}

fn work_for(buffer: &Bytes, slab: usize, operations: u64) {
    let range = slab * SLAB..(slab + 1) * SLAB;
    let part = buffer.device_use(range.clone()).unwrap();
    let kernel = HostKernel::new("slab", |_| ()).reads(part.device_address(), range.len()).operations(operations);
    // SAFETY: the buffer outlives the work, because its stream is synchronized.
    unsafe { buffer.stream().launch_host(kernel) }.unwrap();
}

/// Uses slabs in the given order. Returns the virtual time, the device's page faults, and the report of automatic
/// prefetch if it is on.
fn run(order: &[usize], auto: Option<AutoPrefetchOptions>) -> (Duration, u64, Option<AutoPrefetchReport>) {
    let device = common::simulated();
    let simulator = device.simulator().unwrap();
    let mut buffer = on_host(&device);
    if let Some(options) = auto {
        assert_eq!(buffer.auto_prefetch(options).unwrap(), HintOutcome::Applied);
    }
    let faults = || simulator.statistics(device.id()).unwrap().faults;
    let (start, before) = (simulator.clock(), faults());
    order.iter().for_each(|slab| work_on(&buffer, *slab));
    buffer.stream().synchronize().unwrap();
    (simulator.clock() - start, faults() - before, buffer.stop_auto_prefetch())
}

fn hidden(order: &[usize]) -> (f64, AutoPrefetchReport) {
    let (faulting, faults, _) = run(order, None);
    assert!(faults > 0);
    let (auto, left, report) = run(order, Some(AutoPrefetchOptions::default()));
    let report = report.unwrap();
    assert_eq!((left, report.faults), (0, Some(0)), "all pages arrived before their use");
    let device = common::simulated();
    let buffer = on_host(&device);
    let _ = buffer.prefetch(device.id()).unwrap();
    device.synchronize().unwrap();
    let start = device.simulator().unwrap().clock();
    order.iter().for_each(|slab| work_on(&buffer, *slab));
    device.synchronize().unwrap();
    let resident = device.simulator().unwrap().clock() - start;
    let part = (faulting.as_secs_f64() - auto.as_secs_f64()) / (faulting.as_secs_f64() - resident.as_secs_f64());
    (part, report)
}

#[test]
fn lines_strides_and_phases_are_predicted() {
    let line: Vec<_> = (0..SLABS).collect();
    let strided: Vec<_> = (0..3).flat_map(|first| (first..SLABS).step_by(3)).collect();
    let downwards: Vec<_> = (0..SLABS).rev().collect();
    for (name, order) in [("line", line), ("strided", strided), ("downwards", downwards)] {
        let (hidden, report) = hidden(&order);
        assert!(hidden > 0.9, "{name}: {hidden} hidden, {report}");
        assert!(report.coverage() > Some(0.8), "{name}: {report}");
        assert!(report.accuracy() > Some(0.9), "{name}: {report}");
    }
}

/// The reported timeliness is compared with the simulator's records of the prefetches and the work.
#[test]
fn timeliness_is_what_the_device_did_not_wait_for() {
    // The work on a slab takes less time than its transfer, then more.
    for (operations, between) in [(3_000_000_000, 0.2..0.9), (67_000_000_000, 1.0..1.1)] {
        let device = common::simulated();
        let simulator = device.simulator().unwrap();
        let mut buffer = on_host(&device);
        let _ = buffer.auto_prefetch(AutoPrefetchOptions::default().uses_ahead(1)).unwrap();
        device.synchronize().unwrap();
        simulator.record(true);
        (0..SLABS).for_each(|slab| work_for(&buffer, slab, operations));
        assert!(buffer.auto_prefetch_report().unwrap().ahead_undecided > 0, "the device has not come to all");
        device.synchronize().unwrap();
        let report = buffer.stop_auto_prefetch().unwrap();

        let (mut begun, mut transfers, mut worked) = (Duration::ZERO, Vec::new(), Vec::new());
        for record in simulator.take_records() {
            match record.event {
                JournalEvent::Started { operation: "cuMemPrefetchAsync", .. } => begun = record.at,
                JournalEvent::Ended { operation: "cuMemPrefetchAsync", .. } => transfers.push((begun, record.at)),
                JournalEvent::Ended { operation: "slab", .. } => worked.push(record.at),
                _ => {}
            }
        }
        assert_eq!((transfers.len(), worked.len()), (SLABS, SLABS));
        let (mut in_time, mut waited) = (0.0, Duration::ZERO);
        // The first two slabs were prefetched at their declared use. Work on a slab can begin after the work before it.
        for (&(begun, done), &free) in transfers[2..].iter().zip(&worked[1..]) {
            let late = done.saturating_sub(free);
            in_time += 1.0 - (late.as_secs_f64() / (done - begun).as_secs_f64()).min(1.0);
            waited += late;
        }
        let timeliness = report.timeliness().unwrap();
        assert!((timeliness - in_time / (SLABS - 2) as f64).abs() < 0.01, "{timeliness}: {report:?}");
        assert!(between.contains(&timeliness), "{timeliness}: {report:?}");
        assert_eq!((report.ahead_undecided, report.waited), (0, waited));
    }
}

#[test]
fn phases_are_predicted_once_they_repeat() {
    let device = common::simulated();
    let mut buffer = on_host(&device);
    let _ = buffer.auto_prefetch(AutoPrefetchOptions::default()).unwrap();
    let phase = [7, 2, 19, 11, 5, 23, 0, 14];
    let mut ahead = Vec::new();
    for _ in 0..4 {
        phase.iter().for_each(|slab| work_on(&buffer, *slab));
        ahead.push(buffer.auto_prefetch_report().unwrap().ahead_used / SLAB as u64);
        // The host's write moves all pages back to the host.
        drop(buffer.host_write().unwrap());
    }
    // Automatic prefetch recognizes the phase by two uses. The host's write counts as one of them.
    assert_eq!(ahead, [0, 6, 13, 20]);
    assert_eq!(buffer.auto_prefetch_report().unwrap().wasted, 0, "nothing is brought for the host to take back");
}

#[test]
fn without_an_order_nothing_is_brought_ahead() {
    let order = [3, 17, 8, 0, 21, 12, 5, 19, 1, 10, 23, 6];
    let (faulting, _, _) = run(&order, None);
    let (auto, _, report) = run(&order, Some(AutoPrefetchOptions::default()));
    let report = report.unwrap();
    assert_eq!((report.ahead, report.wasted), (0, 0), "{report}");
    assert_eq!(report.on_demand, (order.len() * SLAB) as u64);
    assert!(auto <= faulting, "what a use needs comes at once: {auto:?}, fault by fault {faulting:?}");
}

/// Each line of the order breaks off right after its first prediction.
#[test]
fn wrong_predictions_stop_prefetches_until_predictions_are_right() {
    let device = common::simulated();
    let mut buffer = on_host(&device);
    let _ = buffer.auto_prefetch(AutoPrefetchOptions::default().uses_ahead(1)).unwrap();
    for slab in [0, 1, 12, 13, 5, 6, 18, 19, 9, 10, 22, 23, 3, 4, 15, 16] {
        work_on(&buffer, slab);
    }
    let report = buffer.auto_prefetch_report().unwrap();
    assert_eq!((report.ahead_used, report.backed_off), (0, 1), "{report:?}");
    assert!(report.ahead <= 4 * SLAB as u64, "{report:?}");
    drop(buffer.host_write().unwrap());
    (0..SLABS).for_each(|slab| work_on(&buffer, slab));
    let report = buffer.auto_prefetch_report().unwrap();
    assert!(report.ahead_used >= 8 * SLAB as u64, "{report:?}");
}

#[test]
fn the_budget_holds() {
    let device = common::simulated();
    let simulator = device.simulator().unwrap();
    let mut buffer = on_host(&device);
    let options = AutoPrefetchOptions::default().budget(2 * SLAB + 1).uses_ahead(8);
    let _ = buffer.auto_prefetch(options).unwrap();
    for slab in 0..6 {
        work_on(&buffer, slab);
        device.synchronize().unwrap();
        let there = simulator.residency(buffer.as_ptr(), buffer.size_bytes()).unwrap().on(device.id());
        let ahead = if slab == 0 { 0 } else { 2 };
        assert_eq!(there, ((slab + 1 + ahead) * SLAB) as u64, "after slab {slab}");
    }
    let none = AutoPrefetchOptions::default().budget(0);
    let (_, _, report) = run(&[0, 1, 2, 3], Some(none));
    assert_eq!(report.unwrap().ahead, 0);
}

#[test]
fn a_refused_automatic_prefetch_is_an_error_of_that_use_only() {
    for n in 1..8 {
        let device = common::simulated();
        let mut buffer = on_host(&device);
        let _ = buffer.auto_prefetch(AutoPrefetchOptions::default().uses_ahead(1)).unwrap();
        work_on(&buffer, 0);
        device.simulator().unwrap().fail_nth(FaultCall::PrefetchAsync, n, CudaErrorCode::UNKNOWN);
        let mut refused = 0;
        for slab in 1..8 {
            match buffer.device_use(slab * SLAB..(slab + 1) * SLAB) {
                Ok(part) => drop(part),
                Err(error) => {
                    assert_eq!(error.code(), Some(CudaErrorCode::UNKNOWN));
                    refused += 1;
                }
            }
        }
        let report = buffer.auto_prefetch_report().unwrap();
        assert_eq!(refused + report.failed, 1, "{n}: {report:?}");
        assert_eq!(buffer.host_read().unwrap()[0], 1);
    }
}

#[test]
fn a_use_is_valid_with_and_without_its_time() {
    let mut unknown = 0;
    for (call, n) in
        [FaultCall::CreateEvent, FaultCall::RecordEvent].into_iter().flat_map(|call| (1..16).map(move |n| (call, n)))
    {
        let device = common::simulated();
        let mut buffer = on_host(&device);
        let _ = buffer.auto_prefetch(AutoPrefetchOptions::default().uses_ahead(1)).unwrap();
        device.simulator().unwrap().fail_nth(call, n, CudaErrorCode::UNKNOWN);
        // The work is short, so a prefetch is still running when the use of its range is declared.
        (0..SLABS).for_each(|slab| work_for(&buffer, slab, 3_000_000_000));
        device.synchronize().unwrap();
        let report = buffer.stop_auto_prefetch().unwrap();
        assert_eq!(report.failed + report.ahead_undecided / SLAB as u64, 1, "{call} {n}: {report:?}");
        assert!(report.timeliness().is_some(), "the others are known: {report:?}");
        unknown += report.ahead_undecided / SLAB as u64;
    }
    assert!(unknown > 0);
}

#[test]
fn a_failed_query_of_an_event_time_loses_only_that_time() {
    let device = common::simulated();
    let simulator = device.simulator().unwrap();
    let mut buffer = on_host(&device);
    let _ = buffer.auto_prefetch(AutoPrefetchOptions::default().uses_ahead(1)).unwrap();
    (0..2).for_each(|slab| work_for(&buffer, slab, 3_000_000_000));
    // The query whether a prefetch has ended fails.
    simulator.fail_nth(FaultCall::Query, 1, CudaErrorCode::UNKNOWN);
    (2..SLABS).for_each(|slab| work_for(&buffer, slab, 3_000_000_000));
    device.synchronize().unwrap();
    assert_eq!(buffer.auto_prefetch_report().unwrap().ahead_undecided, 0);

    drop(buffer.host_write().unwrap());
    (0..SLABS).for_each(|slab| work_for(&buffer, slab, 3_000_000_000));
    device.synchronize().unwrap();
    simulator.fail_nth(FaultCall::Query, 1, CudaErrorCode::UNKNOWN);
    assert_eq!(buffer.auto_prefetch_report().unwrap().ahead_undecided, SLAB as u64);
}

#[test]
fn automatic_prefetch_stays_off_without_concurrent_access() {
    for profile in [Profile::wsl(), Profile::maxwell(), Profile::integrated()] {
        let device = Device::simulated(profile).unwrap();
        let mut buffer = on_host(&device);
        let outcome = buffer.auto_prefetch(AutoPrefetchOptions::default()).unwrap();
        assert_eq!(outcome, HintOutcome::Skipped(SkipReason::NoConcurrentManagedAccess(device.id())));
        work_on(&buffer, 0);
        assert_eq!(buffer.auto_prefetch_report(), None);
    }
}

/// Runs on a GPU too, because it launches no kernel and checks only the counters.
fn what_was_brought_is_counted(device: &Device) {
    let mut buffer = on_host(device);
    let _ = buffer.auto_prefetch(AutoPrefetchOptions::default().uses_ahead(2)).unwrap();
    for slab in 0..SLABS {
        drop(buffer.device_use(slab * SLAB..(slab + 1) * SLAB).unwrap());
        device.synchronize().unwrap();
    }
    let slabs = |bytes: u64| bytes / SLAB as u64;
    let report = buffer.stop_auto_prefetch().unwrap();
    assert_eq!((report.uses, slabs(report.on_demand)), (SLABS as u64, 2), "{report}");
    assert_eq!((slabs(report.ahead), slabs(report.ahead_used)), (SLABS as u64 - 2, SLABS as u64 - 2));
    assert_eq!((report.accuracy(), report.timeliness()), (Some(1.0), Some(1.0)));
    assert_eq!(buffer.range_attributes().unwrap().last_prefetch_location, Some(device.id().into()));
    drop(buffer.sparse_device_use(0..10).unwrap());
    assert_eq!(buffer.host_read().unwrap()[0], 1);
}

fn ranges_that_do_not_fit(device: &Device) {
    let mut buffer = on_host(device);
    let _ = buffer.auto_prefetch(AutoPrefetchOptions::default()).unwrap();
    let size = SLAB * SLABS;
    let refused = |start: usize, end: usize| DeviceError::OutOfRange { start, end, size };
    assert_eq!(buffer.device_use(1..size + 1).map(drop), Err(refused(1, size + 1)));
    assert_eq!(buffer.sparse_device_use(size + 1..size + 2).map(drop), Err(refused(size + 1, size + 2)));
    drop(buffer.device_use(5..5).unwrap());
    assert_eq!(buffer.auto_prefetch_report().unwrap().uses, 0);
}

fn turning_it_on_and_off(device: &Device) {
    let mut buffer = on_host(device);
    assert_eq!(buffer.stop_auto_prefetch(), None);
    let address = buffer.device_use(100..200).unwrap().device_address();
    assert_eq!(address, buffer.device_address() + 100);
    let _ = buffer.auto_prefetch(AutoPrefetchOptions::default()).unwrap();
    assert_eq!(buffer.device_use(100..200).unwrap().device_address(), address);
    assert_eq!(buffer.stop_auto_prefetch().unwrap().uses, 1);
    assert_eq!(buffer.auto_prefetch_report(), None);
}
