//! Buffers on the default stream of one thread, used by another thread.

use crate::common;
use cumem::error::take_drop_errors;
use cumem::sim::Profile;
use cumem::unified::HintOutcome;
use cumem::{AnyResource, Buffer, Device, DeviceError, Location, ManagedResource, Stream, UnifiedBuffer, kind};
use cumem_adaptors::StackSpec;
use std::thread;

const LEN: usize = 1 << 20;

// This test reads the recorded errors of drops, which the whole process shares.
on_devices!(alone: each_use_by_another_thread);

const STACKS: [&str; 9] = [
    "async",
    "virtual",
    "pinned",
    "device",
    "managed",
    "device | pool",
    "async | pool",
    "virtual | pool",
    "pinned | pool | statistics",
];

fn stack(text: &str, device: &Device) -> AnyResource<kind::Erased> {
    StackSpec::parse(text).unwrap().build(device).unwrap().into_device_accessible().unwrap()
}

/// Makes a buffer on the default stream of a thread that ends.
fn made(text: &str, device: &Device) -> Buffer<u8, AnyResource<kind::Erased>> {
    let work = || {
        let stream = Stream::per_thread_default(device);
        let mut buffer = Buffer::<u8, _>::zeroed(LEN, &stream, stack(text, device)).unwrap();
        buffer.copy_from_slice(&vec![7; LEN]).unwrap();
        buffer
    };
    thread::scope(|scope| scope.spawn(work).join().unwrap())
}

fn each_use_by_another_thread(device: &Device) {
    let all = |buffer: &Buffer<u8, _>, value| buffer.to_vec().unwrap().iter().all(|byte| *byte == value);
    for text in STACKS {
        drop(made(text, device));

        let mut buffer = made(text, device);
        assert!(all(&buffer, 7), "{text}");
        buffer.copy_from_slice(&vec![9; LEN]).unwrap();
        assert!(all(&buffer, 9), "{text}");

        // Elements, fills and views: each operation comes after the work of the other thread, and before the next one.
        let mut buffer = made(text, device);
        let before = buffer.get_async(1).unwrap();
        buffer.set_async(1, 8).unwrap();
        let view = made(text, device);
        let other = Stream::new(device).unwrap();
        let after = view.as_view().on(&other).unwrap().get_async(1).unwrap();
        buffer.slice_mut(2..4).unwrap().copy_from_view(view.slice(..2).unwrap()).unwrap();
        drop(view);
        buffer.slice_mut(4..).unwrap().fill(5).unwrap();
        assert_eq!((before.wait().unwrap(), after.wait().unwrap()), (7, 7), "{text}");
        assert_eq!(buffer.slice(..5).unwrap().to_vec().unwrap(), [7, 8, 7, 7, 5], "{text}");
        let mut elsewhere = made(text, device);
        elsewhere.as_view_mut().set_async(0, 1).unwrap(); // the buffer stays on the other thread's stream
        assert_eq!(elsewhere.try_clone_on(&other, elsewhere.resource().clone()).unwrap().first().unwrap(), 1, "{text}");

        let mut buffer = made(text, device);
        buffer.resize(2 * LEN).unwrap();
        let bytes = buffer.to_vec().unwrap();
        assert!(bytes[..LEN].iter().all(|byte| *byte == 7) && bytes[LEN..].iter().all(|byte| *byte == 0), "{text}");
        buffer.resize(1).unwrap();
        buffer.shrink_to_fit().unwrap();
        assert_eq!(buffer.to_vec().unwrap(), [7], "{text}");

        let mut buffer = made(text, device);
        let stream = Stream::new(device).unwrap();
        buffer.set_stream(&stream).unwrap();
        assert_eq!(buffer.stream().id(), stream.id());
        assert!(all(&buffer, 7), "{text}");

        let source = made(text, device);
        let mut copy = made(text, device);
        copy.copy_from_slice(&vec![1; LEN]).unwrap();
        copy.copy_from_buffer(&source).unwrap();
        drop(source);
        assert!(all(&copy, 7), "{text}");
    }
    assert_eq!(take_drop_errors(), [""; 0]);
}

#[test]
fn nothing_stays_allocated() {
    for text in STACKS {
        let device = common::simulated();
        let mut buffer = made(text, &device);
        buffer.resize(3 * LEN).unwrap();
        drop(made(text, &device));
        drop(buffer);
        device.trim_staging();
        let live = device.simulator().unwrap().live_allocations();
        assert_eq!(live.bytes(), 0, "{text}: {live}");
    }
}

#[test]
fn managed_memory_of_another_threads_stream() {
    let device = Device::simulated(Profile::default()).unwrap();
    let work = || {
        let stream = Stream::per_thread_default(&device);
        UnifiedBuffer::from_slice(&[7_u32; 1000], &stream, ManagedResource::new(&device).unwrap()).unwrap()
    };
    let mut buffer = thread::scope(|scope| scope.spawn(work).join().unwrap());
    assert_eq!(buffer.prefetch(Location::Host), Ok(HintOutcome::Applied));
    assert_eq!(buffer.host_read().unwrap()[..], [7; 1000]);
    buffer.host_write().unwrap().fill(8);
    assert!(buffer.hints().read_mostly().prefetch(device.id()).apply().is_ok());
    let mut data = [0; 1000];
    buffer.download(&mut data).unwrap();
    assert_eq!(data, [8; 1000]);
    buffer.upload(&[9; 1000]).unwrap();
    assert_eq!(buffer.to_vec().unwrap(), [9; 1000]);
}

#[test]
fn a_stream_waits_for_another_threads_stream_and_the_reverse() {
    let device = common::simulated();
    let theirs = thread::scope(|scope| scope.spawn(|| Stream::per_thread_default(&device)).join().unwrap());
    let mine = Stream::new(&device).unwrap();
    let _busy = Buffer::<u8, _>::zeroed(64 << 20, &mine, stack("device", &device)).unwrap();
    assert_eq!(mine.is_idle(), Ok(false));
    theirs.wait_for(&mine).unwrap();
    assert_eq!(mine.is_idle(), Ok(true), "the host has waited, because it cannot enqueue a wait on their stream");
    mine.wait_for(&theirs).unwrap();
    assert_eq!(theirs.synchronize(), Err(DeviceError::WrongThread { device: device.id() }));
}
