//! Single elements, fills, and elements of types in which not every bit pattern is a value.

use crate::common;
use cumem::bytemuck::{CheckedBitPattern, NoUninit, Pod, Zeroable};
use cumem::kernel::CaptureMode;
use cumem::{
    Buffer, CudaResource, Device, DeviceError, DriverError, Location, ManagedResource, PinnedResource, Stream,
};
use std::num::NonZero;

on_devices!(
    every_element_can_be_read_and_written,
    elements_on_their_way_own_their_memory,
    fills_of_every_size,
    invalid_elements_are_found,
    types_of_the_program,
    elements_that_do_not_exist,
    a_fill_of_pages_on_the_host_is_seen,
    values_larger_than_a_slot,
    values_of_many_threads,
);

fn every_element_can_be_read_and_written(device: &Device) {
    let stream = Stream::new(device).unwrap();
    let mut buffer = Buffer::from_slice(&[1_u64, 2, 3, 4], &stream, CudaResource::new(device)).unwrap();
    assert_eq!((buffer.first(), buffer.get(2), buffer.last()), (Ok(1), Ok(3), Ok(4)));
    buffer.set(0, u64::MAX).unwrap();
    buffer.set_async(3, 40).unwrap();
    buffer.set_async(1, 20).unwrap();
    assert_eq!(buffer.to_vec().unwrap(), [u64::MAX, 20, 3, 40]);
    let negative_zero = Buffer::from_slice(&[-0.0_f32], &stream, CudaResource::new(device)).unwrap();
    assert!(negative_zero.get(0).unwrap().is_sign_negative());
}

fn elements_on_their_way_own_their_memory(device: &Device) {
    let stream = Stream::new(device).unwrap();
    let mut buffer = Buffer::<u32, _>::zeroed(1, &stream, CudaResource::new(device)).unwrap();
    // More values than the device has slots for. Each read sees the write before it, and no later one.
    let pending: Vec<_> = (0..100_u32)
        .map(|i| {
            buffer.set_async(0, i).unwrap();
            buffer.get_async(0).unwrap()
        })
        .collect();
    drop(buffer);
    for (i, pending) in pending.into_iter().enumerate() {
        match i % 3 {
            0 => drop(pending),
            _ => assert_eq!(pending.wait().unwrap(), i as u32),
        }
    }
    stream.synchronize().unwrap();
    device.trim_staging();
    if let Some(simulator) = device.simulator() {
        assert_eq!(simulator.live_allocations().pinned.bytes, 0);
    }
}

fn fills_of_every_size(device: &Device) {
    let stream = Stream::new(device).unwrap();
    fn filled<T: Pod + PartialEq + std::fmt::Debug>(device: &Device, stream: &Stream, value: T) {
        for len in [0, 1, 2, 3, 255, 1000, 100_003] {
            let mut buffer = Buffer::<T, _>::zeroed(len + 2, stream, CudaResource::new(device)).unwrap();
            buffer.slice_mut(1..=len).unwrap().fill(value).unwrap();
            let mut expected = vec![value; len + 2];
            (expected[0], expected[len + 1]) = (T::zeroed(), T::zeroed());
            assert_eq!(buffer.to_vec().unwrap(), expected, "{len} elements of {}", std::any::type_name::<T>());
            buffer.zero().unwrap();
            assert_eq!(buffer.to_vec().unwrap(), vec![T::zeroed(); len + 2]);
        }
    }
    filled(device, &stream, 7_u8);
    filled(device, &stream, 0x0102_u16);
    filled(device, &stream, 0x0707_0707_u32);
    filled(device, &stream, -1.5_f64);
    filled(device, &stream, [1_u8, 2, 3]);
    filled(device, &stream, [1_u32, 2, 3, 4, 5, 6, 7]);
    let mut units = Buffer::<(), _>::zeroed(1 << 40, &stream, CudaResource::new(device)).unwrap();
    units.fill(()).unwrap();
    units.set_async(7, ()).unwrap();
    assert_eq!(units.get_async(1 << 39).unwrap().wait(), Ok(()));
}

fn invalid_elements_are_found(device: &Device) {
    let stream = Stream::new(device).unwrap();
    let mut flags = Buffer::from_slice(&[true, false, true], &stream, ManagedResource::new(device).unwrap()).unwrap();
    assert_eq!(flags.to_vec().unwrap(), [true, false, true]);
    flags.host_write().unwrap()[1] = true;
    assert_eq!(flags.host_read().unwrap()[..], [true; 3]);

    flags.as_bytes_mut().set(2, 2).unwrap();
    let invalid = |index| DeviceError::InvalidElement { index, element: "bool" };
    assert_eq!(flags.to_vec(), Err(invalid(2)));
    assert_eq!(flags.get(2), Err(invalid(2)));
    assert_eq!(flags.get_async(2).unwrap().wait(), Err(invalid(2)));
    assert_eq!(flags.slice(1..).unwrap().to_vec(), Err(invalid(1)));
    assert_eq!(flags.host_read().map(drop), Err(invalid(2)));
    assert_eq!(flags.host_write().map(drop), Err(invalid(2)));
    let mut data = [true; 3];
    assert_eq!(flags.copy_to_slice(&mut data), Err(invalid(2)));
    assert_eq!(flags.download(&mut data), Err(invalid(2)));
    assert_eq!(data, [true; 3], "unchanged");
    assert_eq!(invalid(2).to_string(), "the bytes of element 2 are not a value of `bool`");
    assert_eq!(flags.slice(..2).unwrap().to_vec().unwrap(), [true, true], "the others are valid");
    flags.set(2, false).unwrap();
    assert_eq!(flags.to_vec().unwrap(), [true, true, false]);
    // On a device without concurrent managed access, the guards that failed keep no work away.
    flags.zero().unwrap();
}

#[derive(Debug, Clone, Copy, PartialEq, Pod, Zeroable)]
#[bytemuck(crate = "cumem::bytemuck")]
#[repr(C)]
struct Particle {
    position: [f32; 3],
    charge: i32,
}

#[derive(Debug, Clone, Copy, PartialEq, NoUninit, CheckedBitPattern)]
#[bytemuck(crate = "cumem::bytemuck")]
#[repr(u8)]
enum State {
    Free = 1,
    Taken = 2,
}

fn types_of_the_program(device: &Device) {
    let stream = Stream::new(device).unwrap();
    let memory = CudaResource::new(device);
    let particle = Particle { position: [0.0, 1.0, 2.0], charge: -1 };
    let mut particles = Buffer::<Particle, _>::zeroed(3, &stream, &memory).unwrap();
    particles.fill(particle).unwrap();
    assert_eq!(particles.last().unwrap(), particle);
    let mut states = Buffer::from_slice(&[State::Free; 3], &stream, &memory).unwrap();
    states.set_async(1, State::Taken).unwrap();
    assert_eq!(states.to_vec().unwrap(), [State::Free, State::Taken, State::Free]);
    states.as_bytes_mut().fill(0).unwrap();
    assert!(
        matches!(states.first(), Err(DeviceError::InvalidElement { index: 0, element }) if element.ends_with("State"))
    );
    let letters = Buffer::from_slice(&['a', 'ß', '🦀'], &stream, &memory).unwrap();
    assert_eq!(letters.to_vec().unwrap(), ['a', 'ß', '🦀']);
    let seven = NonZero::new(7_u32).unwrap();
    let ids = Buffer::from_slice(&[seven; 2], &stream, &memory).unwrap();
    assert_eq!(ids.try_clone().unwrap().to_vec().unwrap(), [seven; 2]);
}

fn elements_that_do_not_exist(device: &Device) {
    let stream = Stream::new(device).unwrap();
    let mut buffer = Buffer::from_slice(&[1_u32, 2, 3], &stream, CudaResource::new(device)).unwrap();
    let outside = |start| DeviceError::OutOfRange { start, end: start + 1, size: 3 };
    assert_eq!(buffer.get(3), Err(outside(3)));
    assert_eq!(buffer.get_async(4).map(drop), Err(outside(4)));
    assert_eq!(buffer.set(5, 0), Err(outside(5)));
    assert_eq!(buffer.set_async(6, 0), Err(outside(6)));
    let last = usize::MAX;
    assert_eq!(buffer.get(last), Err(DeviceError::OutOfRange { start: last, end: last, size: 3 }));
    let nothing = Buffer::<u32, _>::zeroed(0, &stream, CudaResource::new(device)).unwrap();
    assert_eq!(nothing.first(), Err(DeviceError::OutOfRange { start: 0, end: 1, size: 0 }));
    assert_eq!(nothing.last(), Err(DeviceError::OutOfRange { start: 0, end: 1, size: 0 }));
    assert_eq!(buffer.to_vec().unwrap(), [1, 2, 3]);
}

fn a_fill_of_pages_on_the_host_is_seen(device: &Device) {
    let stream = Stream::new(device).unwrap();
    let mut buffer = Buffer::from_slice(&[1_u32; 1000], &stream, ManagedResource::new(device).unwrap()).unwrap();
    let _outcome = buffer.prefetch(Location::Host).unwrap();
    buffer.fill(0x0102_0304).unwrap();
    let mut data = [0; 1000];
    let _path = buffer.download(&mut data).unwrap();
    assert_eq!(data, [0x0102_0304; 1000]);
}

fn values_larger_than_a_slot(device: &Device) {
    let stream = Stream::new(device).unwrap();
    let value = [7_u64; 1000];
    let value: [u64; 1000] = std::array::from_fn(|i| value[i] + i as u64);
    let mut buffer = Buffer::from_slice(&[[0_u64; 500]; 4], &stream, PinnedResource::new(device)).unwrap();
    let half: [u64; 500] = value[500..].try_into().unwrap();
    buffer.set_async(1, half).unwrap();
    assert_eq!(buffer.get_async(1).unwrap().wait().unwrap(), half);
    buffer.fill(half).unwrap();
    assert_eq!(buffer.to_vec().unwrap(), [half; 4]);
}

/// Threads share the slots of the device. No value of one reaches another.
fn values_of_many_threads(device: &Device) {
    std::thread::scope(|scope| {
        for thread in 0..4_u64 {
            scope.spawn(move || {
                let stream = Stream::new(device).unwrap();
                let mut buffer = Buffer::<u64, _>::zeroed(8, &stream, CudaResource::new(device)).unwrap();
                for i in 0..200_u64 {
                    let (at, value) = (i as usize % 8, thread << 32 | i);
                    buffer.set_async(at, value).unwrap();
                    let pending = buffer.get_async(at).unwrap();
                    match i % 5 {
                        0 => drop(pending),
                        _ => assert_eq!(pending.wait().unwrap(), value),
                    }
                }
            });
        }
    });
}

#[test]
fn a_host_that_enqueues_does_not_wait() {
    let device = common::simulated();
    let stream = Stream::new(&device).unwrap();
    let mut buffer = Buffer::<u32, _>::zeroed(64 << 20, &stream, CudaResource::new(&device)).unwrap();
    // The first value allocates the pinned memory, which takes longer than a fill.
    buffer.set_async(7, 0).unwrap();
    assert_eq!(buffer.get_async(7).unwrap().wait().unwrap(), 0);
    buffer.zero().unwrap();
    buffer.set_async(7, 1).unwrap();
    let pending = buffer.get_async(7).unwrap();
    buffer.fill(0x0102_0304).unwrap();
    buffer.copy_within(..10, 10).unwrap();
    assert!(!stream.is_idle().unwrap() && !pending.is_done().unwrap());
    assert_eq!(pending.wait().unwrap(), 1);
    assert!(!stream.is_idle().unwrap(), "the wait was for the element, not for the fill");
}

#[test]
fn values_are_refused_on_a_captured_stream() {
    let device = common::simulated();
    let stream = Stream::new(&device).unwrap();
    let mut buffer = Buffer::<u32, _>::zeroed(4, &stream, CudaResource::new(&device)).unwrap();
    // SAFETY: the captured work is discarded.
    let capture = unsafe { stream.begin_capture(CaptureMode::Relaxed) }.unwrap();
    let what = "a copy of a single value on a captured stream";
    let refused = DeviceError::Driver(DriverError::NotSupported { what, device: device.id() });
    assert_eq!(buffer.set_async(0, 1), Err(refused.clone()));
    assert_eq!(buffer.get_async(0).map(drop), Err(refused.clone()));
    assert_eq!(buffer.as_view_mut().cast_mut::<u64>().unwrap().fill(1), Err(refused), "its start comes from the host");
    buffer.fill(0x0102).unwrap();
    drop(capture);
    buffer.set_async(0, 1).unwrap();
    assert_eq!(buffer.to_vec().unwrap(), [1, 0, 0, 0]);
}
