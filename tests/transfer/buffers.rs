//! Buffers: contents, length and capacity, streams, host access, and deallocation.

use crate::common;
use cumem::device::MemoryType;
use cumem::error::CudaErrorCode;
use cumem::error::InvalidLayout;
use cumem::kernel::{HostKernel, KernelMemory};
use cumem::sim::{FaultCall, Profile};
use cumem::{
    AllocError, Buffer, CudaAsyncResource, CudaResource, Device, DeviceError, ManagedResource, PinnedResource, Stream,
    UnifiedBuffer,
};
use cumem_adaptors::{PoolOptions, ResourceExt, StatisticsState};
use std::sync::{Arc, mpsc};
use std::time::Duration;

on_devices!(
    contents_of_every_kind,
    zeroed_uninit_and_lengths,
    growing_and_shrinking_keep_the_elements,
    nothing_and_zero_sized_elements_take_no_memory,
    copies_between_buffers_and_streams,
    host_access,
    lengths_that_do_not_fit,
    overflow_is_an_error,
    streams_of_another_device_are_refused,
);

// This test reads the recorded errors of drops, which the whole process shares.
on_devices!(alone: all_memory_is_freed);

fn numbers(n: u32) -> Vec<u32> {
    (0..n).map(|i| i.wrapping_mul(2_654_435_761)).collect()
}

fn contents_of_every_kind(device: &Device) {
    let stream = Stream::new(device).unwrap();
    let data = numbers(100_000);
    let on_device = Buffer::from_slice(&data, &stream, CudaResource::new(device)).unwrap();
    let pooled = Buffer::from_slice(&data, &stream, CudaAsyncResource::new(device).unwrap()).unwrap();
    let managed = Buffer::from_slice(&data, &stream, ManagedResource::new(device).unwrap()).unwrap();
    let pinned = Buffer::from_slice(&data, &stream, PinnedResource::new(device)).unwrap();
    assert_eq!(on_device.to_vec().unwrap(), data);
    assert_eq!(pooled.to_vec().unwrap(), data);
    assert_eq!(managed.to_vec().unwrap(), data);
    assert_eq!(pinned.to_vec().unwrap(), data);
    assert_eq!(device.pointer_info(on_device.as_ptr().cast()).unwrap().memory_type, MemoryType::Device);
    assert_eq!(device.pointer_info(managed.as_ptr().cast()).unwrap().memory_type, MemoryType::Unified);
    assert_eq!(device.pointer_info(pinned.as_ptr().cast()).unwrap().memory_type, MemoryType::Host);
}

fn zeroed_uninit_and_lengths(device: &Device) {
    let stream = Stream::new(device).unwrap();
    let zeroed = Buffer::<u64, _>::zeroed(1000, &stream, CudaResource::new(device)).unwrap();
    assert_eq!(zeroed.to_vec().unwrap(), vec![0; 1000]);
    assert_eq!((zeroed.len(), zeroed.size_bytes(), zeroed.is_empty()), (1000, 8000, false));

    let empty = Buffer::<u64, _>::with_capacity(1000, &stream, CudaResource::new(device)).unwrap();
    assert_eq!((empty.len(), empty.capacity(), empty.is_empty()), (0, 1000, true));
    assert_eq!(empty.to_vec().unwrap(), []);

    // SAFETY: the elements are written before they are read.
    let mut uninit = unsafe { Buffer::<u32, _>::uninit(10, &stream, CudaResource::new(device)) }.unwrap();
    uninit.copy_from_slice(&[7; 10]).unwrap();
    assert_eq!(uninit.to_vec().unwrap(), [7; 10]);
}

fn growing_and_shrinking_keep_the_elements(device: &Device) {
    let stream = Stream::new(device).unwrap();
    let stack = CudaResource::new(device).statistics();
    let data = numbers(1000);
    let mut buffer = Buffer::from_slice(&data, &stream, &stack).unwrap();

    buffer.reserve(5000).unwrap();
    assert_eq!((buffer.len(), buffer.capacity()), (1000, 6000));
    let address = buffer.device_address();
    buffer.resize(3000).unwrap();
    assert_eq!(buffer.device_address(), address, "there was room");
    let mut expected = data.clone();
    expected.resize(3000, 0);
    assert_eq!(buffer.to_vec().unwrap(), expected);

    buffer.resize(10).unwrap();
    buffer.shrink_to_fit().unwrap();
    assert_eq!((buffer.len(), buffer.capacity()), (10, 10));
    assert_eq!(buffer.to_vec().unwrap(), data[..10]);
    // SAFETY: the first 5 elements have been written.
    unsafe { buffer.set_len(5) };
    assert_eq!(buffer.to_vec().unwrap(), data[..5]);
    assert_eq!(stack.state().counts().current_bytes, 40);
}

fn nothing_and_zero_sized_elements_take_no_memory(device: &Device) {
    let stream = Stream::new(device).unwrap();
    let stack = ManagedResource::new(device).unwrap().statistics();
    let mut nothing = Buffer::<u32, _>::from_slice(&[], &stream, &stack).unwrap();
    assert!(nothing.host_read().unwrap().is_empty());
    assert!(nothing.host_write().unwrap().is_empty());
    nothing.copy_from_slice(&[]).unwrap();
    nothing.shrink_to_fit().unwrap();

    let mut units = Buffer::<(), _>::from_slice(&[(); 77], &stream, &stack).unwrap();
    assert_eq!((units.len(), units.size_bytes()), (77, 0));
    units.resize(1 << 40).unwrap();
    assert_eq!(units.host_read().unwrap().len(), 1 << 40);
    assert_eq!(stack.state().counts().total_bytes, 0);
    assert_eq!(stack.state().counts().current_blocks, 2);
}

fn copies_between_buffers_and_streams(device: &Device) {
    let (one, two) = (Stream::new(device).unwrap(), Stream::new(device).unwrap());
    let data = numbers(1 << 20);
    let source = Buffer::from_slice(&data, &one, CudaResource::new(device)).unwrap();
    let mut copy = Buffer::zeroed(data.len(), &two, ManagedResource::new(device).unwrap()).unwrap();
    copy.copy_from_buffer(&source).unwrap();
    drop(source); // freed on its own stream, which waits for the copy
    assert_eq!(copy.to_vec().unwrap(), data);

    copy.set_stream(&one).unwrap();
    assert_eq!(copy.stream(), &one);
    assert_eq!(copy.host_read().unwrap()[..], data[..]);
}

fn host_access(device: &Device) {
    let stream = Stream::new(device).unwrap();
    let stack = cumem::AnyResource::new(ManagedResource::new(device).unwrap());
    let mut buffer: UnifiedBuffer<u32> = UnifiedBuffer::zeroed(4096, &stream, stack).unwrap();
    // The fill is only enqueued here. The host guard waits for it.
    for (i, element) in buffer.host_write().unwrap().iter_mut().enumerate() {
        assert_eq!(*element, 0);
        *element = i as u32;
    }
    assert_eq!(buffer.to_vec().unwrap(), (0..4096).collect::<Vec<_>>());
    assert_eq!(buffer.host_read().unwrap()[17], 17);
}

fn lengths_that_do_not_fit(device: &Device) {
    let stream = Stream::new(device).unwrap();
    let mut buffer = Buffer::from_slice(&[1, 2, 3], &stream, ManagedResource::new(device).unwrap()).unwrap();
    let longer = Buffer::from_slice(&[0; 4], &stream, CudaResource::new(device)).unwrap();
    let expected = Err(DeviceError::WrongLength { expected: 3, found: 4 });
    assert_eq!(buffer.copy_from_slice(&[0; 4]), expected);
    assert_eq!(buffer.copy_to_slice(&mut [0; 4]), expected);
    assert_eq!(buffer.copy_from_buffer(&longer), expected);
    assert_eq!(buffer.prefetch_range(1..9, device.id()), Err(DeviceError::OutOfRange { start: 1, end: 9, size: 3 }));
    assert_eq!(buffer.to_vec().unwrap(), [1, 2, 3]);
}

fn overflow_is_an_error(device: &Device) {
    let stream = Stream::new(device).unwrap();
    let make = |len| Buffer::<u64, _>::zeroed(len, &stream, CudaResource::new(device)).map(drop);
    assert!(matches!(make(usize::MAX), Err(AllocError::InvalidLayout(InvalidLayout { size: usize::MAX, .. }))));
    assert!(matches!(make(usize::MAX / 8), Err(AllocError::InvalidLayout { .. })));
    assert!(make(1 << 47).unwrap_err().is_out_of_memory(), "1 PiB");

    let mut buffer = Buffer::from_slice(&[1_u64], &stream, CudaResource::new(device)).unwrap();
    assert!(matches!(buffer.reserve(usize::MAX), Err(AllocError::InvalidLayout { .. })));
    assert!(buffer.resize(1 << 47).unwrap_err().is_out_of_memory());
    assert_eq!((buffer.len(), buffer.capacity(), buffer.to_vec().unwrap()), (1, 1, vec![1]));
}

fn all_memory_is_freed(device: &Device) {
    let stream = Stream::new(device).unwrap();
    let stack = cumem::AnyResource::new(CudaAsyncResource::new(device).unwrap().statistics());
    {
        let mut buffer = Buffer::from_slice(&numbers(100), &stream, stack.clone()).unwrap();
        buffer.resize(100_000).unwrap();
        let early_return = || -> Result<(), AllocError> {
            let _other = Buffer::<u8, _>::zeroed(1000, &stream, stack.clone())?;
            Buffer::<u8, _>::zeroed(1 << 50, &stream, stack.clone()).map(drop)
        };
        assert!(early_return().is_err());
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let _other = Buffer::<u8, _>::zeroed(1000, &stream, stack.clone()).unwrap();
            std::panic::resume_unwind(Box::new(()));
        }));
        assert!(panicked.is_err());
    }
    use cumem::LayerExt;
    assert_eq!(stack.find::<StatisticsState>().unwrap().counts().current_blocks, 0);
    assert_eq!(cumem::error::take_drop_errors(), Vec::<String>::new());
}

fn streams_of_another_device_are_refused(device: &Device) {
    let other = common::simulated();
    let (here, there) = (Stream::new(device).unwrap(), Stream::new(&other).unwrap());
    let result = Buffer::<u8, _>::zeroed(10, &there, CudaResource::new(device)).map(drop);
    assert!(
        matches!(result, Err(AllocError::Device(DeviceError::WrongDevice { found, expected, .. }))
            if found == other.id() && expected == device.id()),
        "{result:?}"
    );
    let mut buffer = Buffer::<u8, _>::zeroed(10, &here, CudaResource::new(device)).unwrap();
    assert!(matches!(buffer.set_stream(&there), Err(DeviceError::WrongDevice { .. })));
    assert_eq!(buffer.stream(), &here);
}

/// A device whose `n`-th call of a kind fails, and a stream on it.
fn failing(kind: FaultCall, n: u64) -> (Device, Stream) {
    let device = common::simulated();
    let stream = Stream::new(&device).unwrap();
    device.simulator().unwrap().fail_nth(kind, n, CudaErrorCode::UNKNOWN);
    (device, stream)
}

#[test]
fn a_copy_never_outlives_its_borrow() {
    // The copy engine writes pinned memory at any time until the copy ends.
    let (device, stream) = failing(FaultCall::Synchronize, 3);
    let source = Buffer::from_slice(&[7_u8; 1 << 20], &stream, CudaResource::new(&device)).unwrap();
    let other = Stream::new(&device).unwrap();
    let mut pinned = Buffer::<u8, _>::zeroed(1 << 20, &other, PinnedResource::new(&device)).unwrap();
    let copied = source.copy_to_slice(&mut pinned.host_write().unwrap());
    assert!(copied.is_err(), "the synchronisation was made to fail");
    let guard = pinned.host_write().unwrap();
    let before = guard.to_vec();
    device.synchronize().unwrap();
    assert_eq!(before[..], guard[..], "nothing was written any more");
}

#[test]
fn a_source_is_not_reused_before_its_copy() {
    let (device, one) = failing(FaultCall::RecordEvent, 2);
    let two = Stream::new(&device).unwrap();
    let pool = PinnedResource::new(&device).pool(PoolOptions::default()).unwrap();
    let source = Buffer::from_slice(&[1_u8; 1 << 20], &one, &pool).unwrap();
    let mut copy = Buffer::<u8, _>::zeroed(1 << 20, &two, CudaResource::new(&device)).unwrap();
    assert!(copy.copy_from_buffer(&source).is_err(), "the second event was made to fail");
    drop(source);
    let mut next = Buffer::<u8, _>::zeroed(1 << 20, &one, &pool).unwrap();
    next.host_write().unwrap().fill(9);
    assert_eq!(copy.to_vec().unwrap(), vec![1; 1 << 20]);
}

#[test]
fn host_guards_keep_work_away_where_they_must() {
    let device = Device::simulated(Profile::wsl()).unwrap();
    let stream = Stream::new(&device).unwrap();
    let mut unified = Buffer::from_slice(&[1_u8, 2, 3], &stream, ManagedResource::new(&device).unwrap()).unwrap();
    let mut plain = Buffer::<u8, _>::zeroed(3, &stream, CudaResource::new(&device)).unwrap();
    {
        let guard = unified.host_read().unwrap();
        let refused = DeviceError::HostAccess { device: device.id(), guards: 1 };
        assert_eq!(plain.copy_from_slice(&[4, 5, 6]), Err(refused.clone()));
        let other = Buffer::<u8, _>::zeroed(3, &stream, CudaResource::new(&device)).map(drop);
        assert_eq!(other, Err(AllocError::Device(refused)));
        assert_eq!(guard[..], [1, 2, 3]);
    }
    unified.host_write().unwrap()[0] = 9;
    plain.copy_from_buffer(&unified).unwrap();
    assert_eq!(plain.to_vec().unwrap(), [9, 2, 3]);
}

/// A host kernel that launches a kernel or reads managed memory itself, whichever call of the host runs it.
#[test]
fn kernels_work_may_come_to_the_gate_again() {
    let device = Device::simulated(Profile::wsl()).unwrap();
    let stream = Stream::new(&device).unwrap();
    let managed = ManagedResource::new(&device).unwrap();
    let unified = Arc::new(Buffer::from_slice(&[1_u8, 2, 3], &stream, managed).unwrap());
    // SAFETY: the kernels of this test use no memory.
    let launch = |stream: &Stream, kernel| unsafe { stream.launch_host(kernel) };
    let (tell, told) = mpsc::channel();
    let launch_first = || {
        let (on, unified, tell) = (stream.clone(), unified.clone(), tell.clone());
        let work = move |_: &KernelMemory<'_>| {
            let launched = launch(&on, HostKernel::new("second", |_| ()));
            tell.send((launched, unified.host_read().map(drop))).unwrap();
        };
        launch(&stream, HostKernel::new("first", work)).unwrap();
    };
    let not_permitted =
        |answer: Result<(), DeviceError>| answer.unwrap_err().code() == Some(CudaErrorCode::NOT_PERMITTED);

    launch_first();
    assert_eq!(unified.host_read().unwrap()[..], [1, 2, 3]);
    let (launched, read) = told.recv().unwrap();
    assert_eq!(launched, Err(DeviceError::HostAccess { device: device.id(), guards: 1 }));
    assert!(not_permitted(read));

    launch_first();
    device.simulator().unwrap().pass_time(Duration::from_secs(1));
    launch(&stream, HostKernel::new("next", |_| ())).unwrap();
    let (launched, read) = told.recv().unwrap();
    assert_eq!(launched, Ok(()));
    assert!(not_permitted(read));
    device.synchronize().unwrap();
}
