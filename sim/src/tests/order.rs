//! Stream order and virtual time.

use super::{MIB, Rig};
use cumem_driver::{CudaErrorCode, Driver, HostKernel, RawStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

#[test]
fn an_event_is_reached_when_virtual_time_gets_there() {
    let rig = Rig::h100();
    let (device, host) = (rig.device(64 * MIB), rig.pinned(64 * MIB));
    rig.copy(device.as_ptr(), host.as_ptr(), 64 * MIB, rig.stream).unwrap();
    let event = rig.sim.create_event(0, true).unwrap();
    // SAFETY: event and stream are live.
    unsafe { rig.sim.record_event(0, event, rig.stream) }.unwrap();
    // SAFETY: the event is live.
    let reached = || unsafe { rig.sim.query_event(0, event) }.unwrap();
    assert!(!reached());
    rig.sim.pass_time(Duration::from_micros(1200));
    assert!(!reached(), "64 MiB take 1.23 ms on this link");
    rig.sim.pass_time(Duration::from_micros(100));
    assert!(reached());
    let waited = rig.time(|| rig.sync(rig.stream).unwrap());
    assert!(waited < 10_000, "nothing is left to wait for: {waited} ns");
}

#[test]
fn events_record_the_time_of_the_device() {
    let rig = Rig::h100();
    let (device, host) = (rig.device(64 * MIB), rig.pinned(64 * MIB));
    let events = [(); 2].map(|()| rig.sim.create_event(0, true).unwrap());
    // SAFETY: event and stream are live.
    unsafe { rig.sim.record_event(0, events[0], rig.stream) }.unwrap();
    rig.copy(device.as_ptr(), host.as_ptr(), 64 * MIB, rig.stream).unwrap();
    // SAFETY: event and stream are live.
    unsafe { rig.sim.record_event(0, events[1], rig.stream) }.unwrap();
    // SAFETY: both events are live.
    let elapsed = || unsafe { rig.sim.elapsed(0, events[0], events[1]) };
    assert_eq!(elapsed().unwrap_err().code(), Some(CudaErrorCode::NOT_READY));
    rig.sync(rig.stream).unwrap();
    let micros = elapsed().unwrap().as_micros();
    assert!((1220..1240).contains(&micros), "{micros} us");
    let untimed = rig.sim.create_event(0, false).unwrap();
    // SAFETY: both events are live.
    let error = unsafe { rig.sim.elapsed(0, untimed, events[1]) }.unwrap_err();
    assert_eq!(error.code(), Some(CudaErrorCode::INVALID_HANDLE));
}

#[test]
fn a_pinned_source_reused_too_early_corrupts_the_copy() {
    let rig = Rig::h100();
    let (device, host) = (rig.device(MIB), rig.pinned(MIB));
    host.fill(1);
    rig.copy(device.as_ptr(), host.as_ptr(), MIB, rig.stream).unwrap();
    host.fill(2);
    assert_eq!(rig.bytes(device, MIB), vec![2; MIB]);

    host.fill(3);
    rig.copy(device.as_ptr(), host.as_ptr(), MIB, rig.stream).unwrap();
    rig.sync(rig.stream).unwrap();
    host.fill(4);
    assert_eq!(rig.bytes(device, MIB), vec![3; MIB]);
}

#[test]
fn an_ordinary_source_may_be_reused_at_once() {
    let rig = Rig::h100();
    let device = rig.device(MIB);
    let mut host = vec![1; MIB];
    rig.copy(device.as_ptr(), host.as_ptr(), MIB, rig.stream).unwrap();
    host.fill(2);
    assert_eq!(rig.bytes(device, MIB), vec![1; MIB]);
}

#[test]
fn the_two_directions_overlap_and_one_direction_does_not() {
    let rig = Rig::h100();
    let other = rig.second_stream();
    let (a, b) = (rig.device(64 * MIB), rig.device(64 * MIB));
    let (up, down) = (rig.pinned(64 * MIB), rig.pinned(64 * MIB));
    let run = |both_up: bool| {
        rig.time(|| {
            rig.copy(a.as_ptr(), up.as_ptr(), 64 * MIB, rig.stream).unwrap();
            match both_up {
                true => rig.copy(b.as_ptr(), down.as_ptr(), 64 * MIB, other).unwrap(),
                false => rig.copy(down.as_ptr().cast_mut(), b.as_ptr(), 64 * MIB, other).unwrap(),
            }
            rig.sync(rig.stream).unwrap();
            rig.sync(other).unwrap();
        })
    };
    let (overlapping, serial) = (run(false), run(true));
    assert!(overlapping < 1_300_000, "{overlapping}");
    assert!(serial > 2_450_000, "{serial}");
}

/// A kernel that takes one millisecond and checks its turn: it increments the counter if the counter is `expected`, and
/// panics otherwise.
fn step(order: &Arc<AtomicU32>, expected: u32) -> HostKernel {
    let order = order.clone();
    let work = move |_: &cumem_driver::KernelMemory<'_>| {
        order.compare_exchange(expected, expected + 1, Ordering::Relaxed, Ordering::Relaxed).expect("its turn");
    };
    HostKernel::new("step", work).operations(67_000_000_000)
}

#[test]
fn a_stream_waits_for_an_event_of_another() {
    let rig = Rig::h100();
    let other = rig.second_stream();
    let order = Arc::new(AtomicU32::new(0));
    let device = rig.device(64 * MIB);
    let host = rig.pinned(64 * MIB);
    rig.copy(device.as_ptr(), host.as_ptr(), 64 * MIB, rig.stream).unwrap();
    rig.launch(step(&order, 0), rig.stream).unwrap();
    let event = rig.sim.create_event(0, false).unwrap();
    // SAFETY: event and stream are live.
    unsafe { rig.sim.record_event(0, event, rig.stream) }.unwrap();
    // SAFETY: stream and event are live.
    unsafe { rig.sim.wait_event(0, other, event) }.unwrap();
    // SAFETY: the event is live. The enqueued wait does not need it any more.
    unsafe { rig.sim.destroy_event(0, event) }.unwrap();
    rig.launch(step(&order, 1), other).unwrap();
    rig.sync(other).unwrap();
    assert_eq!(order.load(Ordering::Relaxed), 2);
}

#[test]
fn the_legacy_stream_waits_for_blocking_streams_and_they_for_it() {
    let rig = Rig::h100();
    let blocking = rig.sim.create_stream(0, true).unwrap();
    let order = Arc::new(AtomicU32::new(0));
    rig.launch(step(&order, 0), blocking).unwrap();
    rig.launch(step(&order, 1), RawStream::LEGACY).unwrap();
    rig.launch(step(&order, 2), blocking).unwrap();
    rig.launch(step(&order, 3), RawStream::LEGACY).unwrap();
    rig.launch(step(&order, 4), RawStream::PER_THREAD).unwrap();
    rig.sync(RawStream::PER_THREAD).unwrap();
    assert_eq!(order.load(Ordering::Relaxed), 5);
    rig.sim.synchronize_device(0).unwrap();

    // A non-blocking stream does not wait for the legacy stream: its short copy is done while the long kernel runs.
    rig.launch(step(&order, 5), RawStream::LEGACY).unwrap();
    let (device, host) = (rig.device(4096), rig.pinned(4096));
    rig.launch(step(&order, 6), RawStream::LEGACY).unwrap();
    rig.copy(device.as_ptr(), host.as_ptr(), 4096, rig.stream).unwrap();
    rig.sync(rig.stream).unwrap();
    // SAFETY: the legacy stream is always live.
    assert!(!unsafe { rig.sim.query_stream(0, RawStream::LEGACY) }.unwrap());
    rig.sim.synchronize_device(0).unwrap();
    assert_eq!(order.load(Ordering::Relaxed), 7);
}

/// A GPU does the same: see `tests/cuda_driver/launch.rs`.
#[test]
fn the_legacy_stream_is_idle_when_the_blocking_ones_are() {
    let rig = Rig::h100();
    let order = Arc::new(AtomicU32::new(0));
    // SAFETY: the legacy stream is always live.
    let idle = || unsafe { rig.sim.query_stream(0, RawStream::LEGACY) }.unwrap();
    rig.launch(step(&order, 0), rig.stream).unwrap();
    assert!(idle());
    rig.sync(rig.stream).unwrap();
    for blocking in [rig.sim.create_stream(0, true).unwrap(), RawStream::PER_THREAD] {
        rig.launch(step(&order, order.load(Ordering::Relaxed)), blocking).unwrap();
        assert!(!idle());
        rig.sync(blocking).unwrap();
        assert!(idle());
    }
}

#[test]
fn each_thread_has_its_own_default_stream() {
    let rig = Rig::h100();
    let order = Arc::new(AtomicU32::new(0));
    rig.launch(step(&order, 0), RawStream::PER_THREAD).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // SAFETY: the per-thread default stream is always live.
            assert!(unsafe { rig.sim.query_stream(0, RawStream::PER_THREAD) }.unwrap(), "another, idle stream");
        });
    });
    // SAFETY: the per-thread default stream is always live.
    assert!(!unsafe { rig.sim.query_stream(0, RawStream::PER_THREAD) }.unwrap());
}

#[test]
fn work_of_a_destroyed_stream_is_still_done() {
    let rig = Rig::h100();
    let stream = rig.second_stream();
    let order = Arc::new(AtomicU32::new(0));
    rig.launch(step(&order, 0), stream).unwrap();
    // SAFETY: the stream is live. It is used afterwards only in a call that is rejected.
    unsafe { rig.sim.destroy_stream(0, stream) }.unwrap();
    assert_eq!(rig.sync(stream).unwrap_err().code(), Some(CudaErrorCode::INVALID_HANDLE));
    rig.sim.synchronize_device(0).unwrap();
    assert_eq!(order.load(Ordering::Relaxed), 1);
}

#[test]
fn an_event_of_the_device_comes_after_the_work_of_all_its_streams() {
    let rig = Rig::h100();
    let order = Arc::new(AtomicU32::new(0));
    let event = rig.sim.create_event(0, false).unwrap();
    // SAFETY: the event is live.
    let record = || unsafe { rig.sim.record_event_on_device(0, event) }.unwrap();
    // SAFETY: the event is live.
    let reached = || unsafe { rig.sim.query_event(0, event) }.unwrap();
    record();
    assert!(reached(), "the device is idle");

    let gone = rig.second_stream();
    rig.launch(step(&order, 0), gone).unwrap();
    // SAFETY: the stream is live, and is not used afterwards.
    unsafe { rig.sim.destroy_stream(0, gone) }.unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| rig.launch(step(&order, 1), RawStream::PER_THREAD).unwrap());
    });
    record();
    rig.launch(step(&order, 2), rig.stream).unwrap();
    assert!(!reached());
    let waiting = rig.second_stream();
    // SAFETY: stream and event are live.
    unsafe { rig.sim.wait_event(0, waiting, event) }.unwrap();
    rig.sync(waiting).unwrap();
    assert!(reached());
    assert_eq!(order.load(Ordering::Relaxed), 2, "work that was enqueued later is not waited for");
    rig.sync(rig.stream).unwrap();

    let timed = rig.sim.create_event(0, true).unwrap();
    // SAFETY: the event is live.
    let refused = unsafe { rig.sim.record_event_on_device(0, timed) }.unwrap_err();
    assert_eq!(refused.code(), Some(CudaErrorCode::INVALID_HANDLE));
}

#[test]
fn kernels_do_real_work_on_declared_ranges() {
    let rig = Rig::h100();
    let (a, b) = (rig.device(4 * MIB), rig.device(4 * MIB));
    rig.fill(a, 3, 4 * MIB);
    let kernel = HostKernel::new("double", |memory| {
        for (out, x) in memory.write::<u8>(1).iter_mut().zip(memory.read::<u8>(0)) {
            *out = x * 2;
        }
    });
    let kernel = kernel.reads(a.as_ptr() as u64, 4 * MIB).writes(b.as_ptr() as u64, 4 * MIB);
    rig.launch(kernel, rig.stream).unwrap();
    assert_eq!(rig.bytes(b, 4 * MIB), vec![6; 4 * MIB]);
}

#[test]
fn two_runs_are_the_same_to_the_nanosecond() {
    let run = || {
        let rig = Rig::h100();
        let other = rig.second_stream();
        let (device, managed, host) = (rig.device(8 * MIB), rig.managed(32 * MIB), rig.pinned(8 * MIB));
        for i in 0..50 {
            rig.copy(device.as_ptr(), host.as_ptr(), 8 * MIB - i, rig.stream).unwrap();
            let kernel = HostKernel::new("touch", |_| ()).writes(managed.as_ptr() as u64, 32 * MIB - i * 4096);
            rig.launch(kernel, other).unwrap();
            rig.sim.host_access(0, managed.as_ptr(), MIB * (i + 1) / 2, i % 2 == 0).unwrap();
        }
        rig.sim.synchronize_device(0).unwrap();
        rig.free(device).unwrap();
        (rig.sim.digest(), rig.nanos(), rig.sim.statistics(rig.sim.device_id(0)))
    };
    let (first, second) = (run(), run());
    assert_eq!((first.0, first.1), (second.0, second.1));
    assert!(first.2.is_some() && first.2 == second.2);
}

#[test]
fn threads_can_share_a_machine() {
    let rig = Rig::h100();
    std::thread::scope(|scope| {
        for thread in 0..4_u8 {
            let rig = &rig;
            scope.spawn(move || {
                let stream = rig.second_stream();
                let memory = rig.device(MIB);
                for i in 0..20 {
                    let value = thread * 20 + i;
                    let kernel = HostKernel::new("fill", move |memory| memory.write::<u8>(0).fill(value));
                    rig.launch(kernel.writes(memory.as_ptr() as u64, MIB), stream).unwrap();
                    let mut out = vec![0; MIB];
                    rig.copy(out.as_mut_ptr(), memory.as_ptr(), MIB, stream).unwrap();
                    assert!(out.iter().all(|byte| *byte == value));
                }
                rig.free(memory).unwrap();
            });
        }
    });
    assert!(rig.sim.live_allocations().no_memory());
}
