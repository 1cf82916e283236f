//! Upload and download: every path transfers every byte before it returns, and a failing call leaks nothing.

use crate::common;
use cumem::buffer::TransferPath;
use cumem::error::CudaErrorCode;
use cumem::sim::{FaultCall, Profile};
use cumem::{
    Buffer, CudaResource, Device, DeviceError, Location, ManagedResource, PinnedResource, Stream, UnifiedBuffer,
};
use std::thread;

on_devices!(
    every_path_brings_every_byte,
    a_requested_path_is_used_where_possible,
    pages_are_moved_before_they_are_written,
    pages_on_the_host_are_read_there,
    growth_is_noticed,
    plain_memory_profits_too,
    earlier_work_comes_first,
    many_at_a_time,
    lengths_that_do_not_fit,
    staging_is_freed,
);

/// Sizes around the limits between the paths. Some are no whole number of words.
const SIZES: [usize; 8] = [1, 4096, 8193, 64 << 10, 1_000_003, 3 << 20, (8 << 20) + 1, (33 << 20) + 5];

/// Bytes whose pattern does not repeat at chunk boundaries, so that a chunk in the wrong place shows.
fn bytes(len: usize, seed: usize) -> Vec<u8> {
    let pattern: Vec<u8> = (0..4099).map(|i| (i * 7 + i / 256) as u8).collect();
    let mut bytes = pattern.repeat(len / pattern.len() + 2);
    bytes.drain(..seed);
    bytes.truncate(len);
    bytes
}

fn unified(len: usize, stream: &Stream) -> UnifiedBuffer<u8, ManagedResource> {
    UnifiedBuffer::zeroed(len, stream, ManagedResource::new(stream.device()).unwrap()).unwrap()
}

fn every_path_brings_every_byte(device: &Device) {
    let stream = Stream::new(device).unwrap();
    for len in SIZES {
        let (pageable, mut back) = (bytes(len, 1), vec![0; len]);
        let mut pinned = Buffer::from_slice(&bytes(len, 2), &stream, PinnedResource::new(device)).unwrap();
        let mut buffer = unified(len, &stream);

        let up = buffer.upload(&pageable).unwrap();
        let down = buffer.download(&mut back).unwrap();
        assert!(back == pageable, "{len} bytes from pageable memory, by {up} and back by {down}");
        assert_eq!((up == TransferPath::Ring, down == TransferPath::Ring), (len >= 2 << 20, len >= 1 << 20));

        let up = buffer.upload(&pinned.host_read().unwrap()).unwrap();
        pinned.host_write().unwrap().fill(0);
        let down = buffer.download(&mut pinned.host_write().unwrap()).unwrap();
        assert!(pinned.host_read().unwrap()[..] == bytes(len, 2), "{len} bytes by {up} and back by {down}");
        let expected = match (len, device.is_simulated()) {
            (300_000.., _) => TransferPath::Staged,
            // A simulated device runs host closures only, and the copy kernel is device code.
            (_, true) => TransferPath::Copy,
            (_, false) => TransferPath::Kernel,
        };
        assert_eq!(up, expected, "{len} bytes from pinned memory");
    }
}

fn a_requested_path_is_used_where_possible(device: &Device) {
    use TransferPath::{Copy, Kernel, Ring, Staged};
    let stream = Stream::new(device).unwrap();
    for len in SIZES {
        let mut buffer = unified(len, &stream);
        let mut pinned = Buffer::from_slice(&bytes(len, 1), &stream, PinnedResource::new(device)).unwrap();
        let (mut pageable, mut back) = (bytes(len, 1), vec![0; len]);
        for path in [Copy, Kernel, Staged, Ring] {
            // A simulated device cannot run the copy kernel, so it takes the plain copy.
            let kernel = !device.is_simulated();
            let expected = |of_pinned: bool| match path {
                Kernel if kernel && (of_pinned || len <= 8 << 10) => Kernel,
                Staged if of_pinned => Staged,
                Ring => Ring,
                _ => Copy,
            };
            pageable.fill(2);
            assert_eq!(buffer.upload_by(path, &pinned.host_read().unwrap()), Ok(expected(true)), "{len} bytes");
            assert_eq!(buffer.download_by(path, &mut pageable), Ok(expected(false)), "{len} bytes");
            assert!(pageable == bytes(len, 1), "{len} bytes by {path}");
            pageable.rotate_left(len / 2);
            assert_eq!(buffer.upload_by(path, &pageable), Ok(expected(false)), "{len} bytes");
            assert_eq!(buffer.download_by(path, &mut pinned.host_write().unwrap()), Ok(expected(true)), "{len} bytes");
            pinned.copy_to_slice(&mut back).unwrap();
            assert!(back == pageable, "{len} bytes by {path}");
            pinned.copy_from_slice(&bytes(len, 1)).unwrap();
            pageable.clear();
            pageable.extend(bytes(len, 1));
        }
    }
}

fn pages_are_moved_before_they_are_written(device: &Device) {
    let stream = Stream::new(device).unwrap();
    let mut buffer = unified(1 << 20, &stream);
    let told = |buffer: &UnifiedBuffer<u8, _>| buffer.range_attributes().unwrap().last_prefetch_location;
    buffer.upload(&bytes(1 << 20, 0)).unwrap();
    assert_eq!(told(&buffer), Some(device.id().into()));
    // A second upload prefetches nothing ...
    let asked = || device.simulator().map(|simulator| simulator.calls(FaultCall::PrefetchAsync));
    let before = asked();
    buffer.upload(&bytes(1 << 20, 1)).unwrap();
    assert_eq!(asked(), before);
    // ... unless the host has touched the pages.
    buffer.host_write().unwrap()[0] = 1;
    buffer.upload(&bytes(1 << 20, 2)).unwrap();
    assert_eq!(asked(), before.map(|calls| calls + 1));
    assert_eq!(told(&buffer), Some(device.id().into()));
    assert!(buffer.to_vec().unwrap() == bytes(1 << 20, 2));
}

fn pages_on_the_host_are_read_there(device: &Device) {
    let stream = Stream::new(device).unwrap();
    let mut buffer = unified(20 << 20, &stream);
    buffer.upload(&bytes(20 << 20, 3)).unwrap();
    let mut back = vec![0; 20 << 20];
    let _ = buffer.prefetch(Location::Host).unwrap();
    assert_eq!(buffer.download(&mut back).unwrap(), TransferPath::HostPages);
    assert!(back == bytes(20 << 20, 3));
    // After a copy by the device, the pages may be on the device.
    buffer.copy_from_slice(&back).unwrap();
    assert_ne!(buffer.download(&mut back).unwrap(), TransferPath::HostPages);
}

fn growth_is_noticed(device: &Device) {
    let stream = Stream::new(device).unwrap();
    let mut buffer = unified(4096, &stream);
    buffer.upload(&bytes(4096, 0)).unwrap();
    buffer.resize(8 << 20).unwrap();
    buffer.upload(&bytes(8 << 20, 1)).unwrap();
    assert_eq!(buffer.range_attributes().unwrap().last_prefetch_location, Some(device.id().into()));
    assert!(buffer.to_vec().unwrap() == bytes(8 << 20, 1));
}

fn plain_memory_profits_too(device: &Device) {
    let stream = Stream::new(device).unwrap();
    for len in SIZES {
        let buffer = Buffer::from_slice(&bytes(len, 4), &stream, CudaResource::new(device)).unwrap();
        assert!(buffer.to_vec().unwrap() == bytes(len, 4), "{len} bytes");
    }
}

/// A transfer is ordered after the stream's earlier work and before its later work.
fn earlier_work_comes_first(device: &Device) {
    let stream = Stream::new(device).unwrap();
    for len in SIZES {
        let mut buffer = unified(len, &stream);
        let other = Buffer::from_slice(&vec![7; len], &stream, CudaResource::new(device)).unwrap();
        buffer.copy_from_buffer(&other).unwrap();
        let mut back = vec![0; len];
        buffer.download(&mut back).unwrap();
        assert!(back.iter().all(|byte| *byte == 7), "{len} bytes");
        buffer.copy_from_buffer(&other).unwrap();
        buffer.upload(&bytes(len, 5)).unwrap();
        assert!(buffer.to_vec().unwrap() == bytes(len, 5), "{len} bytes");
    }
}

/// More concurrent transfers than the device has rings, staging buffers and copy kernels.
fn many_at_a_time(device: &Device) {
    thread::scope(|scope| {
        for thread in 0..12 {
            scope.spawn(move || {
                let stream = Stream::new(device).unwrap();
                for len in [100, 9 << 20, 4096] {
                    let mut buffer = unified(len, &stream);
                    buffer.upload(&bytes(len, thread)).unwrap();
                    let mut back = vec![0; len];
                    buffer.download(&mut back).unwrap();
                    assert!(back == bytes(len, thread), "{len} bytes of thread {thread}");
                }
            });
        }
    });
}

fn lengths_that_do_not_fit(device: &Device) {
    let stream = Stream::new(device).unwrap();
    let mut buffer = unified(3, &stream);
    let expected = DeviceError::WrongLength { expected: 3, found: 4 };
    assert_eq!(buffer.upload(&[0; 4]), Err(expected.clone()));
    assert_eq!(buffer.download(&mut [0; 4]), Err(expected));
    assert_eq!(buffer.to_vec().unwrap(), [0; 3], "nothing was done");
    let mut none = unified(0, &stream);
    assert_eq!(none.upload(&[]), Ok(TransferPath::Nothing));
    assert_eq!(none.download(&mut []), Ok(TransferPath::Nothing));
}

fn staging_is_freed(device: &Device) {
    let stream = Stream::new(device).unwrap();
    let mut buffer = unified(20 << 20, &stream);
    let pinned = Buffer::from_slice(&bytes(20 << 20, 6), &stream, PinnedResource::new(device)).unwrap();
    for _ in 0..3 {
        buffer.upload(&bytes(20 << 20, 6)).unwrap();
        buffer.upload(&pinned.host_read().unwrap()).unwrap();
        device.trim_staging();
        if let Some(simulator) = device.simulator() {
            let live = simulator.live_allocations();
            assert_eq!((live.pinned.blocks, live.device.blocks, live.streams, live.events), (1, 0, 1, 0));
        }
    }
    assert!(buffer.to_vec().unwrap() == bytes(20 << 20, 6));
}

#[test]
fn a_device_keeps_at_most_its_documented_limit() {
    let device = common::simulated();
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let stream = Stream::new(&device).unwrap();
                unified(9 << 20, &stream).upload(&bytes(9 << 20, 0)).unwrap();
            });
        }
    });
    let kept = device.simulator().unwrap().live_allocations().pinned;
    assert!(kept.bytes > 0 && kept.bytes <= 65 << 20, "{kept:?}");
    let simulator = device.simulator().unwrap().clone();
    drop(device);
    assert!(simulator.live_allocations().no_memory(), "the last handle frees all of the memory");
}

/// Whichever call fails, a transfer returns an error or falls back to a plain copy. It leaks nothing, and the device
/// does not write after the return.
#[test]
fn failures_leave_nothing_behind() {
    const LEN: usize = 17 << 20;
    let data = bytes(LEN, 1);
    for kind in [
        FaultCall::Copy,
        FaultCall::AllocatePinned,
        FaultCall::AllocateDevice,
        FaultCall::CreateEvent,
        FaultCall::RecordEvent,
        FaultCall::WaitEvent,
        FaultCall::CreateStream,
        FaultCall::Synchronize,
        FaultCall::PrefetchAsync,
    ] {
        for n in [1, 2, 5, 13, 39] {
            let device = common::simulated();
            let simulator = device.simulator().unwrap().clone();
            let stream = Stream::new(&device).unwrap();
            let mut pinned = Buffer::from_slice(&data, &stream, PinnedResource::new(&device)).unwrap();
            let mut buffer = unified(LEN, &stream);
            device.trim_staging();
            let mut back = vec![0; LEN];
            let mut target = Buffer::<u8, _>::zeroed(LEN, &stream, PinnedResource::new(&device)).unwrap();
            let mut into = target.host_write().unwrap();
            simulator.fail_nth(kind, n, CudaErrorCode::UNKNOWN);
            let outcomes = [
                buffer.upload(&back).map(|_| ()),
                buffer.upload(&pinned.host_read().unwrap_or_else(|_| pinned.host_read().unwrap())).map(|_| ()),
                buffer.download(&mut back).map(|_| ()),
                buffer.download(&mut into).map(|_| ()),
            ];
            simulator.clear_faults();
            if outcomes.iter().all(Result::is_ok) && !matches!(kind, FaultCall::AllocatePinned) {
                assert!(back == data, "{kind:?} {n}");
            }
            let before = (back.clone(), into.to_vec());
            device.synchronize().unwrap();
            assert!(before.0 == back && before.1 == into[..], "{kind:?} {n}: nothing is written after the return");
            buffer.upload(&pinned.host_read().unwrap()).unwrap();
            buffer.download(&mut pinned.host_write().unwrap()).unwrap();
            assert!(pinned.host_read().unwrap()[..] == data[..], "{kind:?} {n}: the next one is sound");
            drop(into);
            drop((buffer, pinned, stream, target));
            device.trim_staging();
            let live = simulator.live_allocations();
            assert!(live.no_memory() && live.streams == 0 && live.events == 0, "{kind:?} {n}: {live:?}");
            if outcomes.iter().all(Result::is_ok) && simulator.calls(kind) < n {
                break;
            }
        }
    }
}

#[test]
fn without_concurrent_access_transfers_do_without_prefetch() {
    for profile in [Profile::wsl(), Profile::maxwell()] {
        let device = Device::simulated(profile).unwrap();
        let stream = Stream::new(&device).unwrap();
        let mut buffer = unified(9 << 20, &stream);
        buffer.upload(&bytes(9 << 20, 1)).unwrap();
        let mut back = vec![0; 9 << 20];
        buffer.download(&mut back).unwrap();
        assert!(back == bytes(9 << 20, 1));
        let guard = buffer.host_read().unwrap();
        let mut plain = Buffer::<u8, _>::zeroed(0, &stream, CudaResource::new(&device)).unwrap();
        assert_eq!(plain.copy_from_slice(&[]), Ok(()));
        let mut other = untouched(&stream);
        assert_eq!(other.upload(&[1; 100]), Err(DeviceError::HostAccess { device: device.id(), guards: 1 }));
        assert!(guard[..] == back[..]);
    }
}

/// A buffer that is created without work on the stream, because an open host guard would refuse the work.
fn untouched(stream: &Stream) -> UnifiedBuffer<u8, ManagedResource> {
    let resource = ManagedResource::new(stream.device()).unwrap();
    let mut buffer = UnifiedBuffer::with_capacity(100, stream, resource).unwrap();
    // SAFETY: the elements are not read.
    unsafe { buffer.set_len(100) };
    buffer
}

/// A simulated device sees the same calls in every run, however the host's threads are scheduled.
#[test]
fn transfers_are_deterministic() {
    let digest = || {
        let device = common::simulated();
        let stream = Stream::new(&device).unwrap();
        let mut buffer = unified(34 << 20, &stream);
        let mut data = bytes(34 << 20, 9);
        buffer.upload(&data).unwrap();
        buffer.download(&mut data).unwrap();
        let simulator = device.simulator().unwrap();
        (simulator.digest(), simulator.clock())
    };
    assert_eq!(digest(), digest());
}
