//! Automatic prefetch learns from prefetches by the user and from page faults, and not only from declared uses
//! (`auto_prefetch.rs`). It also works on all buffers of a stack.

use crate::common;
use cumem::kernel::{HostKernel, Pattern};
use cumem::sim::{FaultCall, FaultPrefetch, Profile, faults};
use cumem::unified::PrefetchPlan;
use cumem::unified::{AutoPrefetchOptions, AutoPrefetchReport, AutoPrefetchState, HintOutcome};
use cumem::{
    Device, DriverError, LayerExt, Location, ManagedResource, MemoryResource, PinnedResource, Stream, UnifiedBuffer,
    kind,
};
use cumem_adaptors::{AnyStack, AutoPrefetch, PoolOptions, ResourceExt, StackSpec};

on_devices!(
    prefetches_by_the_user_predict_the_next_uses,
    builders_and_plans_show_it_too,
    faults_where_they_can_be_read
);

const SLAB: usize = 4 << 20;
const SLABS: usize = 24;

type Bytes<R = ManagedResource> = UnifiedBuffer<u8, R>;

/// Creates a buffer whose pages are on the host.
fn on_host<R: MemoryResource<Kind = kind::Managed>>(stack: R) -> Bytes<R> {
    let stream = Stream::new(stack.device()).unwrap();
    let mut buffer = UnifiedBuffer::zeroed(SLAB * SLABS, &stream, stack).unwrap();
    buffer.host_write().unwrap()[0] = 1;
    buffer
}

fn observed(device: &Device, uses_ahead: usize) -> Bytes {
    let mut buffer = on_host(ManagedResource::new(device).unwrap());
    let _ = buffer.auto_prefetch(AutoPrefetchOptions::default().uses_ahead(uses_ahead)).unwrap();
    buffer
}

fn slab(number: usize) -> std::ops::Range<usize> {
    number * SLAB..(number + 1) * SLAB
}

fn slabs(bytes: u64) -> u64 {
    assert_eq!(bytes % SLAB as u64, 0);
    bytes / SLAB as u64
}

/// Returns the slabs whose last prefetch was to the device.
fn asked_for(buffer: &Bytes) -> Vec<usize> {
    let here = Some(Location::Device(buffer.device().id()));
    let asked = |number: &usize| {
        let attributes =
            cumem::unified::hints::range_attributes(buffer.block(), slab(*number), buffer.stream()).unwrap();
        attributes.last_prefetch_location == here
    };
    (0..SLABS).filter(asked).collect()
}

fn prefetches_by_the_user_predict_the_next_uses(device: &Device) {
    let buffer = observed(device, 2);
    for number in [3, 6] {
        let _ = buffer.prefetch_range(slab(number), device.id()).unwrap();
    }
    assert_eq!(asked_for(&buffer), [3, 6], "two that do not touch are no line yet");
    let _ = buffer.prefetch_range(slab(9), device.id()).unwrap();
    assert_eq!(asked_for(&buffer), [3, 6, 9, 12, 15]);
    let report = buffer.auto_prefetch_report().unwrap();
    assert_eq!((report.uses, slabs(report.ahead), report.on_demand, report.coverage()), (0, 2, 0, None));
    assert!(report.to_string().starts_with("0 uses, coverage -"), "{report}");
    assert!(AutoPrefetchReport::default().to_string().starts_with("no use was declared"), "{report}");

    // Uses of slabs that the user has prefetched count as neither on demand nor ahead, and are not observed again.
    [3, 6, 9].into_iter().for_each(|number| drop(buffer.device_use(slab(number)).unwrap()));
    let report = buffer.auto_prefetch_report().unwrap();
    assert_eq!((report.on_demand, report.ahead_used, report.wasted, report.coverage()), (0, 0, 0, None));
    assert_eq!(asked_for(&buffer), [3, 6, 9, 12, 15]);

    // The user prefetches slab 12, which was prefetched ahead. Slab 15 is used as foreseen.
    let _ = buffer.prefetch_range(slab(12), device.id()).unwrap();
    drop(buffer.device_use(slab(15)).unwrap());
    let report = buffer.auto_prefetch_report().unwrap();
    assert_eq!((slabs(report.left_to_user), slabs(report.ahead_used), report.wasted), (1, 1, 0), "{report:?}");
    assert_eq!((report.coverage(), report.accuracy()), (Some(1.0), Some(1.0)));

    // Pages that the user prefetches to the host are no longer ahead. This does not count as a use by the host.
    let _ = buffer.prefetch_range(slab(18), Location::Host).unwrap();
    drop(buffer.device_use(slab(18)).unwrap());
    drop(buffer.device_use(slab(21)).unwrap());
    let report = buffer.auto_prefetch_report().unwrap();
    assert_eq!((slabs(report.wasted), slabs(report.on_demand), slabs(report.ahead_used)), (1, 1, 2), "{report:?}");
}

fn builders_and_plans_show_it_too(device: &Device) {
    let buffer = observed(device, 1);
    let outcome = buffer.hints().range(slab(0)).unwrap().prefetch(device.id()).apply().unwrap();
    assert_eq!(outcome.outcomes()[0].1, HintOutcome::Applied);
    let mut plan = PrefetchPlan::new(buffer.stream()).budget(SLAB);
    plan.add_buffer(&buffer, slab(1), device.id()).unwrap().add_buffer(&buffer, slab(2), device.id()).unwrap();
    assert_eq!(plan.execute().unwrap().bytes(), SLAB);
    assert_eq!(asked_for(&buffer), [0, 1, 2], "the third is what comes next: the plan's budget ended before");
    assert_eq!(slabs(buffer.auto_prefetch_report().unwrap().ahead), 1);
    let _ = buffer.prefetch(Location::Host).unwrap();
    assert_eq!(slabs(buffer.auto_prefetch_report().unwrap().wasted), 1);
}

#[test]
fn a_prefetch_by_the_user_ends_the_predictions_behind_it() {
    let buffer = observed(&common::simulated(), 1);
    // Each line breaks off right after its first prediction, so every prediction is wrong.
    for number in [0, 1, 12, 13, 5, 6, 18, 19, 9, 10, 22, 23, 3, 4, 15, 16] {
        let _ = buffer.prefetch_range(slab(number), buffer.device().id()).unwrap();
    }
    let report = buffer.auto_prefetch_report().unwrap();
    assert_eq!((report.left_to_user, report.backed_off), (0, 1), "{report:?}");
    assert!(report.wasted > 0 && slabs(report.ahead) <= 4, "{report:?}");
}

fn faults_where_they_can_be_read(device: &Device) {
    let buffer = observed(device, 1);
    drop(buffer.sparse_device_use(0..buffer.len()).unwrap());
    let report = buffer.auto_prefetch_report().unwrap();
    assert_eq!((report.faults, report.uses), (device.is_simulated().then_some(0), 1));
}

/// Launches a kernel that reads a slab without a declared use of the slab, and waits for it.
fn touch<R: MemoryResource<Kind = kind::Managed>>(buffer: &Bytes<R>, number: usize) {
    drop(buffer.sparse_device_use(0..buffer.len()).unwrap());
    let addr = buffer.device_address() + slab(number).start as u64;
    let kernel = HostKernel::new("slab", |_| ()).reads(addr, SLAB).operations(67_000_000_000);
    // SAFETY: the buffer outlives the work, because its stream is synchronized.
    unsafe { buffer.stream().launch_host(kernel) }.unwrap();
    buffer.stream().synchronize().unwrap();
}

#[test]
fn faults_of_undeclared_work_predict_the_next_uses() {
    let device = common::simulated();
    let simulator = device.simulator().unwrap();
    let clock = |buffer: &Bytes, order: &[usize]| {
        let start = simulator.clock();
        order.iter().for_each(|number| touch(buffer, *number));
        simulator.clock() - start
    };
    let line: Vec<_> = (0..SLABS).collect();
    let strided: Vec<_> = (0..3).flat_map(|first| (first..SLABS).step_by(3)).collect();
    for order in [line, strided] {
        let faulting = clock(&on_host(ManagedResource::new(&device).unwrap()), &order);
        let buffer = observed(&device, 4);
        let before = simulator.statistics(device.id()).unwrap();
        let auto = clock(&buffer, &order);
        let after = simulator.statistics(device.id()).unwrap();
        // The faults are read at the next declared use.
        drop(buffer.sparse_device_use(0..1).unwrap());
        let report = buffer.auto_prefetch_report().unwrap();
        assert_eq!(report.faults, Some(after.faults - before.faults));
        let faulted = after.migrated_to_device - after.prefetched_to_device;
        assert_eq!(report.faulted, faulted - (before.migrated_to_device - before.prefetched_to_device));
        assert!(report.coverage() >= Some(0.5) && report.wasted == 0, "{report:?}");
        let resident = on_host(ManagedResource::new(&device).unwrap());
        let _ = resident.prefetch(device.id()).unwrap();
        device.synchronize().unwrap();
        let stall = faulting - clock(&resident, &order);
        assert!(faulting - auto > stall.mul_f64(0.4), "{auto:?} against {faulting:?}, {stall:?} to hide, {report:?}");
    }
}

#[test]
fn scattered_faults_prefetch_nothing() {
    let mut profile = Profile::default();
    profile.fault_prefetch = FaultPrefetch::BigPage;
    let device = Device::simulated(profile).unwrap();
    let buffer = observed(&device, 4);
    for turn in 0..8 {
        drop(buffer.sparse_device_use(0..buffer.len()).unwrap());
        let addr = buffer.device_address() + turn * (64 << 10);
        let order = Pattern::Strided { stride: 2 << 20 };
        let kernel = HostKernel::new("columns", |_| ()).reads(addr, buffer.len() - SLAB).in_order(order);
        // SAFETY: the buffer outlives the work, because its stream is synchronized.
        unsafe { buffer.stream().launch_host(kernel) }.unwrap();
        buffer.stream().synchronize().unwrap();
    }
    let report = buffer.auto_prefetch_report().unwrap();
    assert!(report.ahead == 0 && report.faulted > 0, "{report:?}");
}

#[test]
fn faults_without_a_pattern_prefetch_nothing() {
    let device = common::simulated();
    let buffer = observed(&device, 4);
    [3, 17, 8, 0, 21, 12, 5, 19, 1, 10, 23, 6].into_iter().for_each(|number| touch(&buffer, number));
    let report = buffer.auto_prefetch_report().unwrap();
    assert_eq!((report.ahead, report.coverage()), (0, Some(0.0)), "{report:?}");
}

#[test]
fn each_buffer_of_a_stack_is_observed_and_they_share_the_budget() {
    let device = common::simulated();
    let options = AutoPrefetchOptions::default().uses_ahead(4).budget(5 * SLAB);
    let stack = ManagedResource::new(&device).unwrap().pool(PoolOptions::default()).unwrap();
    let stack = stack.auto_prefetch(options).unwrap().limit(1 << 30).statistics();
    let (one, two) = (on_host(&stack), on_host(&stack));
    for number in [0, 1] {
        drop(one.device_use(slab(number)).unwrap());
        drop(two.device_use(slab(number)).unwrap());
    }
    let ahead = |buffer: &Bytes<_>| slabs(UnifiedBuffer::auto_prefetch_report(buffer).unwrap().ahead);
    assert_eq!((ahead(&one), ahead(&two)), (4, 1), "five in all");
    let found = stack.find::<AutoPrefetchState>().unwrap();
    let report = found.report();
    assert_eq!((report.uses, slabs(report.ahead), slabs(report.on_demand)), (4, 5, 4));
    drop(one);
    drop(two.device_use(slab(2)).unwrap());
    assert_eq!(ahead(&two), 5, "the budget of the dropped buffer is available again");
    let report = found.report();
    assert_eq!((report.uses, slabs(report.ahead), slabs(report.ahead_used)), (5, 9, 1), "including the dropped buffer");
    drop(two);
    assert_eq!(found.report().uses, 5);
}

#[test]
fn a_stack_from_text_has_automatic_prefetch_over_managed_memory_only() {
    let device = common::simulated();
    let text = "managed | auto_prefetch(budget=64MiB, ahead=2) | limit(1GiB) | prefetch";
    let stack = StackSpec::parse(text).unwrap().build(&device).unwrap();
    let options = stack.find::<AutoPrefetchState>().unwrap().options();
    assert_eq!(options, AutoPrefetchOptions::default().budget(64 << 20).uses_ahead(2));
    let stream = Stream::new(&device).unwrap();
    let stack = stack.into_device_accessible().unwrap();
    let buffer = cumem::Buffer::<u8, _>::zeroed(SLAB, &stream, &stack).unwrap();
    assert_eq!(buffer.auto_prefetch_report().unwrap().uses, 0);

    // The first buffer is managed memory, the second one is spilled to pinned memory.
    let managed = ManagedResource::new(&device).unwrap().auto_prefetch(AutoPrefetchOptions::default()).unwrap();
    let spill = managed.limit(SLAB).spill_to(PinnedResource::new(&device)).unwrap();
    let first = cumem::Buffer::<u8, _>::zeroed(SLAB, &stream, &spill).unwrap();
    let second = cumem::Buffer::<u8, _>::zeroed(SLAB, &stream, &spill).unwrap();
    assert!(first.auto_prefetch_report().is_some() && second.auto_prefetch_report().is_none());
    drop(second.device_use(0..SLAB).unwrap());
}

#[test]
fn a_stack_without_concurrent_access_is_refused_or_passes_through() {
    for profile in [Profile::wsl(), Profile::maxwell()] {
        let device = Device::simulated(profile).unwrap();
        let (managed, options) = (ManagedResource::new(&device).unwrap(), AutoPrefetchOptions::default());
        let refused = managed.auto_prefetch(options).unwrap_err();
        assert!(matches!(refused, DriverError::NotSupported { .. }), "{refused}");

        let text = "managed | auto_prefetch(pass_through, ahead=2)";
        let stack = StackSpec::parse(text).unwrap().build(&device).unwrap();
        let shown = format!("auto_prefetch(budget=256MiB, ahead=2, passing through) over managed on {}", device.id());
        assert_eq!(stack.to_string(), shown);
        let AnyStack::OverManaged(stack) = stack else { panic!("{stack} is over managed memory") };
        let buffer = on_host(&stack);
        drop(buffer.device_use(slab(0)).unwrap());
        device.synchronize().unwrap();
        let found = stack.find::<AutoPrefetchState>().unwrap();
        assert!(found.passes_through());
        assert_eq!((found.report(), buffer.auto_prefetch_report()), (AutoPrefetchReport::default(), None));
        assert_eq!(device.simulator().unwrap().calls(FaultCall::PrefetchAsync), 0);
    }
    let (device, options) = (common::simulated(), AutoPrefetchOptions::default());
    let stack = AutoPrefetch::or_pass_through(ManagedResource::new(&device).unwrap(), options).unwrap();
    assert!(!stack.state().passes_through() && on_host(&stack).auto_prefetch_report().is_some());
}

#[test]
fn every_driver_call_may_fail() {
    let report = faults::enumerate(&Profile::default(), |device| -> Result<(), Box<dyn std::error::Error>> {
        let stack = ManagedResource::new(device)?.auto_prefetch(AutoPrefetchOptions::default())?;
        let stream = Stream::new(device)?;
        let mut buffer = UnifiedBuffer::<u8, _>::zeroed(4 * SLAB, &stream, &stack)?;
        buffer.host_write()?[0] = 1;
        let _ = buffer.prefetch_range(slab(0), device.id())?;
        let mut plan = PrefetchPlan::new(&stream);
        plan.add_buffer(&buffer, slab(1), device.id())?;
        assert_eq!(plan.execute()?.bytes(), SLAB);
        for number in 0..4 {
            let part = buffer.device_use(slab(number))?;
            let kernel = HostKernel::new("slab", |_| ()).reads(part.device_address(), SLAB);
            // SAFETY: the buffer is deallocated in the order of this stream.
            unsafe { stream.launch_host(kernel) }?;
        }
        drop(buffer.sparse_device_use(0..SLAB)?);
        buffer.reserve(SLAB)?;
        stream.synchronize()?;
        assert_eq!(buffer.host_read()?[0], 1);
        assert_eq!(stack.state().report().uses, 5);
        Ok(())
    });
    report.assert();
}
