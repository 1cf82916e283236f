//! Views of buffers: ranges, halves, other streams, other types, and copies between them.

use crate::common;
use cumem::buffer::{BufferView, BufferViewMut};
use cumem::sim::Profile;
use cumem::unified::PrefetchPlan;
use cumem::{Buffer, CudaResource, Device, DeviceError, Location, ManagedResource, PinnedResource, Stream};
use cumem_adaptors::{PoolOptions, ResourceExt};
use std::ops::Bound;

on_devices!(
    every_form_of_range,
    ranges_that_do_not_fit,
    copies_of_parts_between_all_kinds,
    halves_are_written_independently,
    views_on_other_streams_keep_the_order,
    views_of_other_types,
    hints_and_guards_of_parts,
    copies_within_a_buffer,
    copies_of_buffers,
);

const DATA: [u32; 6] = [1, 2, 3, 4, 5, 6];

fn every_form_of_range(device: &Device) {
    let stream = Stream::new(device).unwrap();
    let buffer = Buffer::from_slice(&DATA, &stream, CudaResource::new(device)).unwrap();
    let read = |view: Result<BufferView<'_, u32, _>, DeviceError>| view.unwrap().to_vec().unwrap();
    assert_eq!(read(buffer.slice(..)), DATA);
    assert_eq!(read(buffer.slice(2..)), DATA[2..]);
    assert_eq!(read(buffer.slice(..2)), DATA[..2]);
    assert_eq!(read(buffer.slice(..=2)), DATA[..=2]);
    assert_eq!(read(buffer.slice(1..=2)), DATA[1..=2]);
    assert_eq!(read(buffer.slice((Bound::Excluded(1), Bound::Unbounded))), DATA[2..]);
    assert!(read(buffer.slice(6..6)).is_empty());
    let inner = buffer.slice(1..5).unwrap().slice(1..3).unwrap();
    assert_eq!((inner.to_vec().unwrap(), inner.device_address()), (vec![3, 4], buffer.device_address() + 8));
    assert_eq!((inner.first().unwrap(), inner.get(1).unwrap(), inner.size_bytes()), (3, 4, 8));
}

fn ranges_that_do_not_fit(device: &Device) {
    let stream = Stream::new(device).unwrap();
    let mut buffer = Buffer::from_slice(&DATA, &stream, CudaResource::new(device)).unwrap();
    let outside = |start, end| Some(DeviceError::OutOfRange { start, end, size: 6 });
    assert_eq!(buffer.slice(2..7).err(), outside(2, 7));
    assert_eq!(buffer.slice(7..).err(), outside(7, 6));
    #[expect(clippy::reversed_empty_ranges, reason = "the range is wrong on purpose")]
    let reversed = buffer.slice(4..2).err();
    assert_eq!(reversed, outside(4, 2));
    assert_eq!(buffer.slice(..=usize::MAX).err(), outside(0, usize::MAX));
    assert_eq!(buffer.slice_mut(..9).err(), outside(0, 9));
    assert_eq!(buffer.split_at(7).err(), outside(0, 7));
    assert_eq!(buffer.split_at_mut(8).err(), outside(0, 8));
    let mut part = buffer.slice_mut(1..3).unwrap();
    assert_eq!(part.slice_mut(1..3).err(), Some(DeviceError::OutOfRange { start: 1, end: 3, size: 2 }));
    assert_eq!(part.copy_from_slice(&[0; 3]), Err(DeviceError::WrongLength { expected: 2, found: 3 }));
    let other = Buffer::from_slice(&DATA, &stream, CudaResource::new(device)).unwrap();
    assert_eq!(part.copy_from_view(other.as_view()), Err(DeviceError::WrongLength { expected: 2, found: 6 }));
    assert_eq!(buffer.to_vec().unwrap(), DATA);
}

fn copies_of_parts_between_all_kinds(device: &Device) {
    let [one, two] = [(), ()].map(|()| Stream::new(device).unwrap());
    let plain = Buffer::from_slice(&DATA, &one, CudaResource::new(device)).unwrap();
    let managed = Buffer::from_slice(&DATA, &two, ManagedResource::new(device).unwrap()).unwrap();
    let pinned = Buffer::from_slice(&DATA, &one, PinnedResource::new(device)).unwrap();
    let sources = [plain.as_view().erase_kind(), managed.as_view().erase_kind(), pinned.as_view().erase_kind()];
    let check = |mut target: BufferViewMut<'_, u32>| {
        for (i, source) in sources.iter().enumerate() {
            target.zero().unwrap();
            target.slice_mut(1..3).unwrap().copy_from_view(source.slice(i..i + 2).unwrap()).unwrap();
            assert_eq!(target.as_view().to_vec().unwrap(), [0, DATA[i], DATA[i + 1], 0]);
        }
    };
    check(Buffer::zeroed(4, &two, CudaResource::new(device)).unwrap().as_view_mut().erase_kind());
    check(Buffer::zeroed(4, &one, ManagedResource::new(device).unwrap()).unwrap().as_view_mut().erase_kind());
    check(Buffer::zeroed(4, &two, PinnedResource::new(device)).unwrap().as_view_mut().erase_kind());
}

fn halves_are_written_independently(device: &Device) {
    let [stream, other] = [(), ()].map(|()| Stream::new(device).unwrap());
    let mut buffer = Buffer::from_slice(&DATA, &stream, CudaResource::new(device)).unwrap();
    let (left, mut right) = buffer.split_at_mut(2).unwrap();
    let mut left = left.on(&other).unwrap();
    left.fill(9).unwrap();
    right.set_async(0, 30).unwrap();
    right.slice_mut(2..).unwrap().copy_from_view(left.as_view()).unwrap();
    assert_eq!(buffer.to_vec().unwrap(), [9, 9, 30, 4, 9, 9]);
    let (left, right) = buffer.split_at(5).unwrap();
    assert_eq!((left.last().unwrap(), right.len()), (9, 1));
}

fn views_on_other_streams_keep_the_order(device: &Device) {
    if let Some(simulator) = device.simulator() {
        simulator.detect_races(true);
    }
    let [stream, other] = [(), ()].map(|()| Stream::new(device).unwrap());
    let pool = CudaResource::new(device).pool(PoolOptions::default()).unwrap();
    let source = Buffer::from_slice(&vec![7_u32; 1 << 20], &other, &pool).unwrap();
    let mut buffer = Buffer::<u32, _>::zeroed(1 << 20, &stream, &pool).unwrap();
    buffer.as_view_mut().on(&other).unwrap().set_async(5, 50).unwrap();
    assert_eq!(buffer.get(5).unwrap(), 50);
    let pending = buffer.as_view().on(&other).unwrap().get_async(5).unwrap();
    buffer.fill(3).unwrap();
    assert_eq!(pending.wait().unwrap(), 50, "the fill waits for the copy on the other stream");
    let third = Stream::new(device).unwrap();
    buffer.as_view_mut().on(&third).unwrap().copy_from_view(source.as_view()).unwrap();
    drop(source);
    assert_eq!(buffer.slice(1..3).unwrap().on(&other).unwrap().to_vec().unwrap(), [7, 7]);
    buffer.slice_mut(..2).unwrap().on(&third).unwrap().copy_from_slice(&[1, 2]).unwrap();
    // The next user of the memory comes after the work on the other stream.
    buffer.as_view_mut().on(&other).unwrap().fill(9).unwrap();
    drop(buffer);
    assert_eq!(Buffer::<u32, _>::zeroed(1 << 20, &stream, &pool).unwrap().last().unwrap(), 0);
    if let Some(simulator) = device.simulator() {
        assert_eq!(simulator.take_races().len(), 0);
    }
    let elsewhere = common::simulated();
    let there = Stream::new(&elsewhere).unwrap();
    let buffer = Buffer::<u32, _>::zeroed(1, &stream, &pool).unwrap();
    let (found, expected) = (elsewhere.id(), device.id());
    let wrong = DeviceError::WrongDevice { what: "the stream", found, expected };
    assert_eq!(buffer.as_view().on(&there).err(), Some(wrong));
}

fn views_of_other_types(device: &Device) {
    let stream = Stream::new(device).unwrap();
    let mut buffer = Buffer::from_slice(&DATA, &stream, CudaResource::new(device)).unwrap();
    let bytes = buffer.as_bytes();
    assert_eq!((bytes.len(), bytes.get(4).unwrap()), (24, 2));
    assert_eq!(bytes.cast::<[u32; 3]>().unwrap().get(1).unwrap(), [4, 5, 6]);
    assert_eq!(bytes.slice(4..12).unwrap().cast::<u32>().unwrap().to_vec().unwrap(), [2, 3]);
    let addr = buffer.device_address();
    let misfit = |bytes, addr, size| Some(DeviceError::Misfit { bytes, addr, size, alignment: size });
    assert_eq!(bytes.slice(..7).unwrap().cast::<u32>().err(), misfit(7, addr, 4));
    assert_eq!(bytes.slice(1..9).unwrap().cast::<u64>().err(), misfit(8, addr + 1, 8));
    assert_eq!(bytes.cast::<()>().err(), Some(DeviceError::Misfit { bytes: 24, addr, size: 0, alignment: 1 }));
    assert_eq!(bytes.slice(..0).unwrap().cast::<()>().unwrap().len(), 0);
    buffer.as_view_mut().cast_mut::<[u32; 2]>().unwrap().set(1, [30, 40]).unwrap();
    assert_eq!(buffer.to_vec().unwrap(), [1, 2, 30, 40, 5, 6]);
}

fn hints_and_guards_of_parts(device: &Device) {
    let stream = Stream::new(device).unwrap();
    let memory = ManagedResource::new(device).unwrap();
    let mut buffer = Buffer::<u32, _>::zeroed(1 << 20, &stream, &memory).unwrap();
    let half = buffer.slice(..1 << 19).unwrap();
    let applied = half.prefetch(Location::Host).unwrap().is_applied();
    assert_eq!(applied, device.attributes().concurrent_managed_access);
    if applied {
        assert_eq!(half.range_attributes().unwrap().last_prefetch_location, Some(Location::Host));
        assert_eq!(buffer.range_attributes().unwrap().last_prefetch_location, None, "only half was prefetched");
        let mut plan = PrefetchPlan::new(&stream);
        let (left, right) = buffer.split_at(1000).unwrap();
        plan.add_view(&left, device.id()).unwrap().add_view(&right, device.id()).unwrap();
        assert_eq!(plan.execute().unwrap().bytes(), 4 << 20);
    }
    let other = Stream::new(device).unwrap();
    let mut part = buffer.slice_mut(10..13).unwrap().on(&other).unwrap();
    part.host_write().unwrap().copy_from_slice(&[1, 2, 3]);
    assert_eq!(part.as_view().host_read().unwrap()[..], [1, 2, 3]);
    assert_eq!(buffer.slice(9..14).unwrap().to_vec().unwrap(), [0, 1, 2, 3, 0]);
}

fn copies_within_a_buffer(device: &Device) {
    let stream = Stream::new(device).unwrap();
    let mut buffer = Buffer::from_slice(&DATA, &stream, CudaResource::new(device)).unwrap();
    buffer.copy_within(4.., 0).unwrap();
    assert_eq!(buffer.to_vec().unwrap(), [5, 6, 3, 4, 5, 6]);
    assert_eq!(buffer.copy_within(0..3, 2), Err(DeviceError::Overlap { from: 0, to: 2, len: 3 }));
    assert_eq!(buffer.copy_within(2..5, 0), Err(DeviceError::Overlap { from: 2, to: 0, len: 3 }));
    assert_eq!(buffer.copy_within(1..2, 1), Err(DeviceError::Overlap { from: 1, to: 1, len: 1 }));
    assert_eq!(buffer.copy_within(0..3, 4), Err(DeviceError::OutOfRange { start: 4, end: 7, size: 6 }));
    buffer.copy_within(3..3, 3).unwrap();
    buffer.copy_within(0..3, 3).unwrap();
    assert_eq!(buffer.to_vec().unwrap(), [5, 6, 3, 5, 6, 3]);
}

fn copies_of_buffers(device: &Device) {
    let [stream, other] = [(), ()].map(|()| Stream::new(device).unwrap());
    let pool = CudaResource::new(device).pool(PoolOptions::default()).unwrap();
    let mut buffer = Buffer::<u32, _>::with_capacity_aligned(100, 4096, &stream, &pool).unwrap();
    buffer.resize(6).unwrap();
    buffer.copy_from_slice(&DATA).unwrap();
    let copy = buffer.try_clone().unwrap();
    let elsewhere = buffer.try_clone_on(&other, ManagedResource::new(device).unwrap()).err();
    assert!(elsewhere.is_some_and(|error| error.to_string().contains("aligns to at most 256 bytes")));
    let unaligned = Buffer::from_view(buffer.slice(2..4).unwrap(), &other, CudaResource::new(device)).unwrap();
    buffer.zero().unwrap();
    drop(buffer);
    assert_eq!((copy.to_vec().unwrap(), copy.capacity(), copy.device_address() % 4096), (DATA.to_vec(), 6, 0));
    assert_eq!((unaligned.to_vec().unwrap(), unaligned.stream()), (vec![3, 4], &other));
}

#[test]
fn guards_of_parts_keep_work_away_where_they_must() {
    let device = Device::simulated(Profile::wsl()).unwrap();
    let stream = Stream::new(&device).unwrap();
    let buffer = Buffer::from_slice(&DATA, &stream, ManagedResource::new(&device).unwrap()).unwrap();
    let mut plain = Buffer::<u32, _>::zeroed(1, &stream, CudaResource::new(&device)).unwrap();
    let (view, refused) = (buffer.slice(1..2).unwrap(), DeviceError::HostAccess { device: device.id(), guards: 1 });
    let guard = view.host_read().unwrap();
    assert_eq!(plain.fill(0x0102), Err(refused.clone()));
    assert_eq!(plain.set_async(0, 1), Err(refused.clone()));
    assert_eq!(plain.get_async(0).map(drop), Err(refused));
    drop(guard);
    plain.set_async(0, 1).unwrap();
    assert_eq!(plain.first().unwrap(), 1);
}
