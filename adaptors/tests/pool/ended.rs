//! Memory freed by threads that have ended, and on destroyed streams: all streams can use that memory.

use crate::common::{free, sim, sim_with};
use cumem::device::KeptStream;
use cumem::error::CudaErrorCode;
use cumem::kernel::HostKernel;
use cumem::sim::{FaultCall, Profile};
use cumem::{Buffer, CudaResource, Device, LayerExt, MemoryResource, Stream, layout};
use cumem_adaptors::{Pool, PoolOptions, PoolState, ResourceExt, StackSpec};
use std::thread;

const MIB: usize = 1 << 20;

fn large() -> Device {
    sim_with(Profile::default().with_capacity(16 << 30)).0
}

fn pool(device: &Device) -> Pool<CudaResource> {
    CudaResource::new(device).pool(PoolOptions::new()).unwrap()
}

fn take_and_free(resource: &impl MemoryResource, stream: &Stream, bytes: usize) {
    let block = resource.allocate(stream, layout::bytes(bytes).unwrap()).unwrap();
    free(resource, stream, block).unwrap();
}

/// Enqueues work that takes a while.
fn busy(stream: &Stream) {
    let busy = HostKernel::new("busy", |_| ()).operations(1_000_000_000_000);
    // SAFETY: the kernel touches nothing.
    unsafe { stream.launch_host(busy) }.unwrap();
}

/// Returns how often the host has waited so far.
fn host_waits(device: &Device) -> u64 {
    device.simulator().unwrap().calls(FaultCall::Synchronize)
}

#[test]
fn threads_that_follow_each_other_share_their_streams_memory() {
    let mut wrong = Vec::new();
    for leaf in ["device", "async", "virtual", "managed", "pinned"] {
        let device = large();
        let stack = StackSpec::parse(&format!("{leaf} | pool")).unwrap().build(&device).unwrap();
        let before = host_waits(&device);
        for n in 0..300 {
            let work = || {
                let stream = Stream::per_thread_default(&device);
                take_and_free(&stack, &stream, 40 * MIB);
                take_and_free(&stack, &stream, 1000 + n);
                stream.synchronize().unwrap();
            };
            thread::scope(|scope| scope.spawn(work).join().unwrap());
        }
        let (stats, waits) = (stack.find::<PoolState>().unwrap().stats(), host_waits(&device) - before - 300);
        if stats.touched > 64 * MIB || waits > 0 || stats.streams > 2 {
            wrong.push(format!("{leaf}: {waits} waits of the host, {stats}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// The threads are alive, but idle.
#[test]
fn threads_that_take_turns_share_their_streams_memory() {
    let device = large();
    let pool = pool(&device);
    let barrier = std::sync::Barrier::new(8);
    thread::scope(|scope| {
        for turn in 0..8 {
            let (device, pool, barrier) = (&device, &pool, &barrier);
            scope.spawn(move || {
                for now in 0..16 {
                    barrier.wait();
                    if now % 8 == turn {
                        let stream = Stream::per_thread_default(device);
                        take_and_free(pool, &stream, 64 * MIB);
                        stream.synchronize().unwrap();
                    }
                }
            });
        }
    });
    assert_eq!(pool.stats().reserved, 64 * MIB);
    assert_eq!(host_waits(&device), 16, "only the threads wait");
}

#[test]
fn memory_of_destroyed_foreign_streams_is_reused() {
    let device = large();
    let pool = pool(&device);
    for _ in 0..600 {
        let owner = Stream::new(&device).unwrap();
        // SAFETY: the stream is idle when it is destroyed, after its last handle is dropped.
        let stream = unsafe { Stream::from_raw(&device, owner.as_raw()) };
        take_and_free(&pool, &stream, 8 * MIB);
        stream.synchronize().unwrap();
    }
    assert_eq!(pool.stats().reserved, 8 * MIB);
    assert_eq!(host_waits(&device), 600);
}

/// The unfinished work of such a stream is waited for, in the order of the device.
#[test]
fn streams_wait_for_the_work_of_a_thread_that_has_ended() {
    for (pending, foreign) in [(true, false), (true, true), (false, false), (false, true)] {
        let (device, stream) = sim();
        let pool = CudaResource::new(&device).pool(PoolOptions::new().maximum(8 * MIB).step(8 * MIB)).unwrap();
        let mut kept = Buffer::<u8, _>::zeroed(8 * MIB, &stream, CudaResource::new(&device)).unwrap();
        stream.synchronize().unwrap();
        let owner = Stream::new(&device).unwrap();
        let copy = |kept: &mut Buffer<u8, CudaResource>| {
            // SAFETY: the owner lives longer.
            let foreign = foreign.then(|| unsafe { Stream::from_raw(&device, owner.as_raw()) });
            let own = foreign.unwrap_or_else(|| Stream::per_thread_default(&device));
            kept.set_stream(&own).unwrap();
            let source = Buffer::from_slice(&vec![7_u8; 8 * MIB], &own, &pool).unwrap();
            busy(&own);
            kept.copy_from_buffer(&source).unwrap();
            if !pending {
                own.synchronize().unwrap();
            }
            drop(source);
            kept.set_stream(&stream).unwrap();
        };
        thread::scope(|scope| scope.spawn(|| copy(&mut kept)).join().unwrap());
        let (waits, other) = (host_waits(&device), Stream::new(&device).unwrap());
        let overwritten = Buffer::<u8, _>::zeroed(8 * MIB, &other, &pool).unwrap();
        assert_eq!(host_waits(&device), waits, "the host does not wait");
        assert!(kept.to_vec().unwrap().iter().all(|&byte| byte == 7), "pending: {pending}, foreign: {foreign}");
        drop(overwritten);
    }
}

/// A driver without an event of the device: the host waits, and nothing is lost.
#[test]
fn the_host_waits_if_the_driver_has_no_device_events() {
    let (device, stream) = sim();
    let pool = CudaResource::new(&device).pool(PoolOptions::new().maximum(8 * MIB)).unwrap();
    thread::scope(|scope| {
        let work = || take_and_free(&pool, &Stream::per_thread_default(&device), 8 * MIB);
        scope.spawn(work).join().unwrap();
    });
    let simulator = device.simulator().unwrap();
    (1..100).for_each(|n| simulator.fail_nth(FaultCall::RecordEvent, n, CudaErrorCode::NOT_SUPPORTED));
    let waits = host_waits(&device);
    take_and_free(&pool, &stream, 8 * MIB);
    assert!(host_waits(&device) > waits);
    assert_eq!(pool.stats().reserved, 8 * MIB);
}

/// A pool's handle to a stream does not count as a use of it, so two pools do not keep each other's streams.
#[test]
fn memory_of_dropped_streams_is_reused_by_both_of_two_pools() {
    let device = large();
    let pools = [pool(&device), pool(&device)];
    for _ in 0..300 {
        let stream = Stream::new(&device).unwrap();
        pools.iter().for_each(|pool| take_and_free(pool, &stream, 8 * MIB));
        assert_eq!(stream.handles(), 1);
    }
    let stats = pools.each_ref().map(Pool::stats);
    assert!(stats.iter().all(|stats| stats.reserved == 8 * MIB && stats.streams <= 1), "{stats:?}");
    let destroyed = device.simulator().unwrap().calls(FaultCall::Destroy);
    assert!(destroyed >= 298, "{destroyed} streams are destroyed");
}

/// A program behind a C interface has no handle to keep.
#[test]
fn one_handle_is_one_stream_however_often_it_is_named() {
    let device = large();
    let pool = pool(&device);
    let owners = [(); 12].map(|()| Stream::new(&device).unwrap());
    // SAFETY: the streams outlive their handles.
    let named = |owner: &Stream| unsafe { Stream::from_raw(&device, owner.as_raw()) };
    let handles = owners.iter().map(Stream::as_raw).chain([0, 1, 2]);
    for handle in handles.flat_map(|handle| [handle; 100]) {
        // SAFETY: the streams outlive their handles.
        let named = || unsafe { Stream::from_raw(&device, handle) };
        let block = pool.allocate(&named(), layout::bytes(MIB).unwrap()).unwrap();
        free(&pool, &named(), block).unwrap();
    }
    let stats = pool.stats();
    assert_eq!((stats.streams, stats.reserved), (14, 2 * MIB), "{stats}");
    let ids: Vec<_> = owners.iter().map(|owner| named(owner).id()).collect();
    let elsewhere = thread::scope(|scope| {
        let ids = || owners.iter().map(|owner| named(owner).id()).collect::<Vec<_>>();
        scope.spawn(ids).join().unwrap()
    });
    assert_eq!(ids, elsewhere, "in every thread");
    let other = large();
    // SAFETY: 1 is the handle of the legacy default stream.
    let legacy = |device| unsafe { Stream::from_raw(device, 1) };
    assert_ne!(legacy(&device), legacy(&other), "streams of two devices");
    let kept: KeptStream = named(&owners[0]).keep();
    assert!(!kept.is_abandoned() && kept.usable().is_none());
}
