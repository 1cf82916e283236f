//! Managed memory, or pinned memory with copies: the same program has the same results on every kind of device.

use cumem::error::CudaErrorCode;
use cumem::kernel::HostKernel;
use cumem::portable::{PinnedReason, PortableBuffer, unified_or_pinned};
use cumem::sim::{FaultCall, JournalEvent, Profile};
use cumem::{AllocError, AnyResource, CudaResource, Device, DeviceError, PinnedResource, Stream};
use cumem_adaptors::{PoolOptions, ResourceExt};
use std::time::Duration;

const LEN: usize = 1 << 20;

/// Returns the profile with a change applied.
fn changed(mut profile: Profile, change: impl FnOnce(&mut Profile)) -> Profile {
    change(&mut profile);
    profile
}

fn devices() -> [(Device, Option<PinnedReason>); 5] {
    let without = changed(Profile::maxwell(), |profile| profile.managed_memory = false);
    let device = |profile| Device::simulated(profile).unwrap();
    [
        (device(Profile::default()), None),
        (device(Profile::maxwell()), Some(PinnedReason::NoConcurrentManagedAccess)),
        (device(Profile::wsl()), Some(PinnedReason::NoConcurrentManagedAccess)),
        (device(Profile::integrated()), Some(PinnedReason::NoConcurrentManagedAccess)),
        (device(without), Some(PinnedReason::NoManagedMemory)),
    ]
}

/// A kernel that adds `by` to each element.
fn add(address: u64, len: usize, by: u32, operations: u64) -> HostKernel {
    let kernel = HostKernel::new("add", move |memory| memory.write::<u32>(0).iter_mut().for_each(|x| *x += by));
    kernel.writes(address, len * 4).operations(operations)
}

fn launch(stream: &Stream, kernel: HostKernel) -> Result<(), DeviceError> {
    // SAFETY: the kernels use a buffer whose work is waited for before it is dropped.
    unsafe { stream.launch_host(kernel) }
}

/// Lets host and device write a buffer in turn, and returns its final contents.
fn in_turns(device: &Device) -> Vec<u32> {
    let stream = Stream::new(device).unwrap();
    let choice = unified_or_pinned(device).unwrap();
    let data: Vec<u32> = (0..LEN as u32).collect();
    let mut buffer = PortableBuffer::from_slice(&data, &stream, &choice).unwrap();
    launch(&stream, add(buffer.device_write().unwrap(), LEN, 1, 0)).unwrap();
    assert_eq!(buffer.host_read().unwrap()[7], 8);
    buffer.host_write().unwrap()[7] = 100;
    launch(&stream, add(buffer.device_write().unwrap(), LEN, 10, 0)).unwrap();
    let reader = HostKernel::new("read", |memory| assert_eq!(memory.read::<u32>(0)[7], 110));
    launch(&stream, reader.reads(buffer.device_read().unwrap(), LEN * 4)).unwrap();
    let mut first = vec![0; LEN];
    buffer.download(&mut first).unwrap();
    buffer.upload(&vec![5; LEN]).unwrap();
    assert!(buffer.host_read().unwrap().iter().all(|x| *x == 5), "the copy on the device is older now");
    buffer.upload(&first).unwrap();
    launch(&stream, add(buffer.device_write().unwrap(), LEN, 1, 0)).unwrap();
    buffer.host_read().unwrap().to_vec()
}

#[test]
fn every_device_gives_the_same() {
    let expected: Vec<u32> = (0..LEN as u32).map(|i| if i == 7 { 111 } else { i + 12 }).collect();
    for (device, reason) in devices() {
        let choice = unified_or_pinned(&device).unwrap();
        assert_eq!((choice.is_unified(), choice.reason()), (reason.is_none(), reason), "{choice}");
        assert!(in_turns(&device) == expected, "{choice}");
        assert!(choice.to_string().contains(device.attributes().name.as_str()), "{choice}");
    }
}

/// The buffer is copied only if the other side has written it since the last copy.
#[test]
fn nothing_is_copied_twice() {
    for profile in [Profile::maxwell(), Profile::wsl()] {
        let device = Device::simulated(profile).unwrap();
        let stream = Stream::new(&device).unwrap();
        let choice = unified_or_pinned(&device).unwrap();
        let mut buffer = PortableBuffer::<u32>::zeroed(LEN, &stream, &choice).unwrap();
        let copies = || {
            device.synchronize().unwrap();
            let statistics = device.simulator().unwrap().statistics(device.id()).unwrap();
            (statistics.copied_to_device / 4 / LEN as u64, statistics.copied_to_host / 4 / LEN as u64)
        };
        assert_eq!(device.simulator().unwrap().live_allocations().device.bytes, 0, "no shadow before it is needed");
        buffer.device_read().unwrap();
        buffer.device_read().unwrap();
        assert_eq!(copies(), (1, 0));
        drop(buffer.host_read().unwrap());
        buffer.device_write().unwrap();
        assert_eq!(copies(), (1, 0));
        drop(buffer.host_read().unwrap());
        drop(buffer.host_write().unwrap());
        assert_eq!(copies(), (1, 1));
        buffer.device_read().unwrap();
        assert_eq!(copies(), (2, 1));
    }
}

/// Returns the time of all copies, the time of all kernels, and the time from the first start to the last end.
fn busy(device: &Device, work: impl FnOnce()) -> (Duration, Duration, Duration) {
    let simulator = device.simulator().unwrap();
    simulator.record(true);
    work();
    let (mut copies, mut kernels, mut open) = (Duration::ZERO, Duration::ZERO, Vec::new());
    let (mut first, mut last) = (Duration::MAX, Duration::ZERO);
    for record in simulator.take_records() {
        match record.event {
            JournalEvent::Started { operation, .. } => {
                first = first.min(record.at);
                open.push((operation, record.at));
            }
            JournalEvent::Ended { operation, .. } => {
                last = last.max(record.at);
                let index = open.iter().position(|(name, _)| *name == operation).unwrap();
                let (_, start) = open.swap_remove(index);
                *if operation == "add" { &mut kernels } else { &mut copies } += record.at - start;
            }
            _ => {}
        }
    }
    (copies, kernels, last - first)
}

#[test]
fn the_link_and_the_kernels_are_busy_at_once() {
    const CHUNK: usize = LEN / 8 + 5; // the last is shorter
    for (device, _) in devices() {
        let stream = Stream::new(&device).unwrap();
        let choice = unified_or_pinned(&device).unwrap();
        let mut buffer = PortableBuffer::from_slice(&vec![1_u32; LEN], &stream, &choice).unwrap();
        // The host's write makes a copy to the device necessary.
        buffer.host_write().unwrap()[3] = 2;
        let mut covered = Vec::new();
        let (copies, kernels, total) = busy(&device, || {
            let worked = buffer.for_each_chunk(CHUNK, |chunk| {
                covered.push(chunk.elements());
                launch(chunk.stream(), add(chunk.device_address(), chunk.elements().len(), 1, 2_000_000_000))?;
                Ok::<_, AllocError>(())
            });
            worked.unwrap();
        });
        assert_eq!(covered.len(), 8);
        assert_eq!(covered.iter().flat_map(Clone::clone).collect::<Vec<_>>(), (0..LEN).collect::<Vec<_>>());
        assert!(copies > Duration::ZERO && total < copies + kernels, "{choice}: {total:?} of {copies:?} + {kernels:?}");
        let read = buffer.host_read().unwrap();
        assert!(read.iter().enumerate().all(|(i, x)| *x == if i == 3 { 3 } else { 2 }), "{choice}");
    }
}

/// A buffer four times as large as the device's memory is processed through two chunks on the device.
#[test]
fn a_transfer_in_chunks_needs_memory_for_two_chunks() {
    let device =
        Device::simulated(changed(Profile::tiny(8 << 20), |profile| profile.concurrent_managed_access = false))
            .unwrap();
    let stream = Stream::new(&device).unwrap();
    let choice = unified_or_pinned(&device).unwrap();
    let mut buffer = PortableBuffer::<u32>::zeroed(8 << 20, &stream, &choice).unwrap();
    let work = |chunk: cumem::portable::Chunk<'_>| {
        launch(chunk.stream(), add(chunk.device_address(), chunk.elements().len(), 3, 0)).map_err(AllocError::from)
    };
    buffer.for_each_chunk(512 << 10, work).unwrap();
    assert!(buffer.host_read().unwrap().iter().all(|x| *x == 3));
    assert!(buffer.device_read().unwrap_err().is_out_of_memory(), "a whole shadow does not fit");
    assert!(buffer.host_read().unwrap().iter().all(|x| *x == 3), "and nothing was lost");
}

#[test]
fn stacks_are_used() {
    let (device, _) = &devices()[1];
    let stream = Stream::new(device).unwrap();
    let pool = |resource| AnyResource::new(resource);
    let host = pool(PinnedResource::new(device).pool(PoolOptions::default()).unwrap());
    let memory = AnyResource::new(CudaResource::new(device).limit(1 << 20));
    let choice = unified_or_pinned(device).unwrap().with_pinned(host, memory);
    let mut buffer = PortableBuffer::<u32>::zeroed(LEN, &stream, &choice).unwrap();
    assert!(matches!(buffer.device_read(), Err(AllocError::LimitExceeded { limit: 1_048_576, .. })));
    assert!(choice.to_string().contains("pool over pinned"), "{choice}");
}

#[test]
fn bad_input_and_empty_buffers() {
    for (device, _) in devices() {
        let stream = Stream::new(&device).unwrap();
        let choice = unified_or_pinned(&device).unwrap();
        let mut buffer = PortableBuffer::from_slice(&[1_u32, 2], &stream, &choice).unwrap();
        let nothing = |_: cumem::portable::Chunk<'_>| Ok::<_, AllocError>(());
        let refused = AllocError::Device(DeviceError::OutOfRange { start: 0, end: 0, size: 2 });
        assert_eq!(buffer.for_each_chunk(0, nothing), Err(refused));
        assert_eq!(buffer.upload(&[0; 3]), Err(DeviceError::WrongLength { expected: 2, found: 3 }));
        assert_eq!(buffer.download(&mut [0; 1]), Err(DeviceError::WrongLength { expected: 2, found: 1 }));
        buffer.for_each_chunk(usize::MAX, nothing).unwrap();
        assert_eq!(buffer.host_read().unwrap()[..], [1, 2]);
        let mut empty = PortableBuffer::<u32>::zeroed(0, &stream, &choice).unwrap();
        assert!(empty.is_empty());
        empty.for_each_chunk(10, |_| -> Result<(), AllocError> { panic!("there is no chunk") }).unwrap();
        empty.device_write().unwrap();
        assert!(empty.host_read().unwrap().is_empty());
    }
}

#[test]
fn failures_leave_nothing_behind() {
    for kind in
        [FaultCall::Copy, FaultCall::RecordEvent, FaultCall::WaitEvent, FaultCall::Launch, FaultCall::AllocateDevice]
    {
        for n in 1..20 {
            let device = Device::simulated(Profile::maxwell()).unwrap();
            let simulator = device.simulator().unwrap().clone();
            let stream = Stream::new(&device).unwrap();
            let choice = unified_or_pinned(&device).unwrap();
            let mut buffer = PortableBuffer::<u32>::zeroed(1 << 10, &stream, &choice).unwrap();
            simulator.fail_nth(kind, n, CudaErrorCode::UNKNOWN);
            let worked = buffer.for_each_chunk(300, |chunk| {
                launch(chunk.stream(), add(chunk.device_address(), chunk.elements().len(), 1, 0))
                    .map_err(AllocError::from)
            });
            simulator.clear_faults();
            let read = buffer.host_read().unwrap();
            if worked.is_ok() {
                assert!(read.iter().all(|x| *x == 1), "{kind:?} {n}");
            }
            // The kernel has processed each chunk completely or not at all.
            for chunk in read.chunks(300) {
                assert!(chunk.iter().all(|x| *x == chunk[0] && *x <= 1), "{kind:?} {n}");
            }
            drop(read);
            drop((buffer, stream));
            let live = simulator.live_allocations();
            assert!(live.no_memory() && live.streams == 0 && live.events == 0, "{kind:?} {n}: {live:?}");
        }
    }
}
