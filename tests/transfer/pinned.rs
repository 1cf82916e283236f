//! Host guards over pinned memory on devices without concurrent managed access: they keep no work away.

use cumem::buffer::Buffer;
use cumem::sim::Profile;
use cumem::{CudaResource, Device, DeviceError, ManagedResource, PinnedResource, Stream, UnifiedBuffer};

const LEN: usize = 1000;

/// Devices without concurrent managed access.
fn devices() -> Vec<Device> {
    [Profile::wsl(), Profile::maxwell(), Profile::integrated()].map(|p| Device::simulated(p).unwrap()).into()
}

fn pinned(device: &Device, stream: &Stream) -> Buffer<u32, PinnedResource> {
    let mut buffer = Buffer::zeroed(LEN, stream, PinnedResource::new(device)).unwrap();
    buffer.host_write().unwrap().fill(7);
    buffer
}

#[test]
fn the_elements_are_copied_through_the_guard() {
    for device in devices() {
        let stream = Stream::new(&device).unwrap();
        let mut pinned = pinned(&device, &stream);
        let mut plain = Buffer::<u32, _>::zeroed(LEN, &stream, CudaResource::new(&device)).unwrap();
        plain.copy_from_slice(&pinned.host_read().unwrap()).unwrap();
        assert_eq!(plain.to_vec().unwrap(), [7; LEN], "{device}");
        plain.copy_from_slice(&[9; LEN]).unwrap();
        plain.copy_to_slice(&mut pinned.host_write().unwrap()).unwrap();
        assert_eq!(pinned.host_read().unwrap()[..], [9; LEN], "{device}");
    }
}

#[test]
fn managed_memory_is_uploaded_and_downloaded_through_the_guard() {
    for device in devices() {
        let stream = Stream::new(&device).unwrap();
        let mut pinned = pinned(&device, &stream);
        let Ok(managed) = ManagedResource::new(&device) else { continue };
        let mut managed = UnifiedBuffer::<u32, _>::zeroed(LEN, &stream, managed).unwrap();
        managed.upload(&pinned.host_read().unwrap()).unwrap();
        pinned.host_write().unwrap().fill(0);
        managed.download(&mut pinned.host_write().unwrap()).unwrap();
        assert_eq!(pinned.host_read().unwrap()[..], [7; LEN], "{device}");
    }
}

#[test]
fn a_forgotten_guard_keeps_no_work_away() {
    for device in devices() {
        let stream = Stream::new(&device).unwrap();
        let pinned = pinned(&device, &stream);
        std::mem::forget(pinned.host_read().unwrap());
        let other = Stream::new(&device).unwrap();
        let plain = Buffer::from_slice(&[1_u32, 2, 3], &other, CudaResource::new(&device)).unwrap();
        assert_eq!(plain.to_vec().unwrap(), [1, 2, 3], "{device}");
    }
}

#[test]
fn a_guard_over_managed_memory_still_keeps_work_away() {
    let device = Device::simulated(Profile::wsl()).unwrap();
    let stream = Stream::new(&device).unwrap();
    let managed = ManagedResource::new(&device).unwrap();
    let managed = UnifiedBuffer::<u32, _>::zeroed(LEN, &stream, managed).unwrap();
    let mut plain = Buffer::<u32, _>::zeroed(LEN, &stream, CudaResource::new(&device)).unwrap();
    let guard = managed.host_read().unwrap();
    let refused = plain.copy_from_slice(&guard);
    assert_eq!(refused, Err(DeviceError::HostAccess { device: device.id(), guards: 1 }));
}
