//! Pools of streams, priorities, and allocation without a stream.

use crate::common::simulated;
use cumem::device::StreamOptions;
use cumem::error::CudaErrorCode;
use cumem::kernel::HostKernel;
use cumem::sim::{FaultCall, Profile, faults};
use cumem::{
    AnyResource, Buffer, CudaAsyncResource, CudaResource, Device, DeviceError, LayerExt, ManagedResource,
    PinnedResource, Stream, StreamPool, SyncExt, kind, layout,
};
use cumem_adaptors::{PoolOptions, PoolState, ResourceExt};
use std::collections::HashMap;
use std::sync::Mutex;
use std::thread;

on_devices!(
    a_pool_returns_its_streams_in_turn,
    priorities_are_accepted,
    a_block_is_ready_on_every_stream,
    threads_take_streams_in_turn
);

fn a_pool_returns_its_streams_in_turn(device: &Device) {
    let streams = StreamPool::new(device, 3).unwrap();
    let turns: Vec<Stream> = (0..7).map(|_| streams.get().clone()).collect();
    assert_eq!(turns[..3], *streams.streams());
    assert_eq!((&turns[3..6], &turns[6]), (&turns[..3], &turns[0]));
    assert!(turns[0] != turns[1] && turns[1] != turns[2] && turns[0] != turns[2]);
    assert_eq!((streams.at(4), streams.at(usize::MAX)), (&turns[1], &turns[usize::MAX % 3]));
    assert_eq!((streams.len(), streams.get()), (3, &turns[1]), "`at` takes no turn");
    // A stream outlives its pool.
    let kept = streams.get().clone();
    drop((streams, turns));
    let buffer = Buffer::from_slice(&[1_u8, 2, 3], &kept, CudaResource::new(device)).unwrap();
    assert_eq!((buffer.to_vec().unwrap(), kept.handles()), (vec![1, 2, 3], 2));
}

fn priorities_are_accepted(device: &Device) {
    let range = device.stream_priorities().unwrap();
    assert!(range.start() <= range.end() && *range.end() >= 0, "{range:?}");
    for priority in [*range.start(), *range.end(), i32::MIN, i32::MAX] {
        for blocking in [false, true] {
            let options = StreamOptions::new().priority(priority).blocking(blocking);
            let streams = StreamPool::with_options(device, 2, options).unwrap();
            let buffer = Buffer::from_slice(&[7_u8; 100], streams.get(), CudaResource::new(device)).unwrap();
            assert_eq!(buffer.to_vec().unwrap(), [7; 100]);
        }
    }
}

fn a_block_is_ready_on_every_stream(device: &Device) {
    let stacks: [AnyResource<kind::Erased>; 4] = [
        AnyResource::erase_kind(CudaAsyncResource::new(device).unwrap()),
        AnyResource::erase_kind(CudaResource::new(device).pool(PoolOptions::new()).unwrap()),
        AnyResource::erase_kind(ManagedResource::new(device).unwrap()),
        AnyResource::erase_kind(PinnedResource::new(device).statistics()),
    ];
    for stack in stacks {
        for size in [0, 1000, 5 << 20] {
            let block = stack.allocate_sync(layout::bytes(size).unwrap()).unwrap();
            assert!(Stream::legacy_default(device).is_idle().unwrap());
            assert_eq!(block.size(), size);
            // SAFETY: nothing uses the block.
            unsafe { stack.deallocate_sync(block) }.unwrap();
        }
    }
}

fn threads_take_streams_in_turn(device: &Device) {
    let streams = StreamPool::new(device, 4).unwrap();
    let taken = Mutex::new(HashMap::new());
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..50 {
                    *taken.lock().unwrap().entry(streams.get().as_raw()).or_insert(0) += 1;
                }
            });
        }
    });
    let counts: Vec<u32> = taken.into_inner().unwrap().into_values().collect();
    assert_eq!(counts, [100; 4]);
}

#[test]
fn synchronize_waits_for_every_stream_and_returns_an_error() {
    let device = simulated();
    let streams = StreamPool::new(&device, 3).unwrap();
    let buffers: Vec<_> =
        (0..3).map(|_| Buffer::<u8, _>::zeroed(64 << 20, streams.get(), CudaResource::new(&device)).unwrap()).collect();
    assert!(streams.streams().iter().any(|stream| !stream.is_idle().unwrap()));
    streams.synchronize().unwrap();
    assert!(streams.streams().iter().all(|stream| stream.is_idle().unwrap()));
    drop(buffers);
    device.simulator().unwrap().fail_nth(FaultCall::Synchronize, 1, CudaErrorCode::UNKNOWN);
    assert!(streams.synchronize().is_err());
}

#[test]
fn a_pool_of_no_streams_is_an_error() {
    let device = simulated();
    let error = StreamPool::new(&device, 0).unwrap_err();
    assert_eq!(error, DeviceError::NoStreams { device: device.id() });
    assert_eq!(error.to_string(), format!("a pool of streams of {} needs at least one stream", device.id()));
}

/// The block is ready on another stream without a wait, and its memory is reused by another stream without a race.
#[test]
fn blocks_without_a_stream_have_no_race() {
    let device = simulated();
    let simulator = device.simulator().unwrap();
    simulator.detect_races(true);
    let stack = CudaResource::new(&device).pool(PoolOptions::new()).unwrap();
    let streams = StreamPool::new(&device, 4).unwrap();
    for _ in 0..8 {
        let block = stack.allocate_sync(layout::bytes(1 << 20).unwrap()).unwrap();
        let write = HostKernel::new("write", |_| ()).writes(block.addr(), 1 << 20);
        // SAFETY: the block lives until the wait below.
        unsafe { streams.get().launch_host(write) }.unwrap();
        streams.synchronize().unwrap();
        // SAFETY: the wait was for all work that uses the block.
        unsafe { stack.deallocate_sync(block) }.unwrap();
    }
    assert!(simulator.take_races().is_empty());
    assert_eq!(stack.find::<PoolState>().unwrap().stats().blocks, 0);
}

#[test]
fn nothing_is_lost_when_a_driver_call_fails() {
    let report = faults::enumerate(&Profile::default(), |device| {
        let streams = StreamPool::new(device, 3)?;
        let stack = CudaResource::new(device).pool(PoolOptions::new()).map_err(Box::<dyn std::error::Error>::from)?;
        let block = stack.allocate_sync(layout::bytes(1000)?)?;
        // SAFETY: nothing uses the block.
        unsafe { stack.deallocate_sync(block) }?;
        streams.synchronize()?;
        Ok::<_, Box<dyn std::error::Error>>(())
    });
    report.assert();
}
