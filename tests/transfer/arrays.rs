//! One function over every kind of array.

use cumem::buffer::DeviceArray;
use cumem::kernel::{HostKernel, KernelArg, LaunchConfig, Module};
use cumem::portable::{PortableBuffer, unified_or_pinned};
use cumem::sim::Profile;
use cumem::sim::faults::enumerate;
use cumem::{
    AllocError, Buffer, CudaResource, Device, DeviceError, Location, ManagedResource, PinnedResource, Stream, current,
};
use cumem_adaptors::{PoolOptions, ResourceExt};

on_devices!(all_arrays_behave_alike);

const FILL: &str = include_str!("../devices/cuda_driver/kernels.ptx");

/// Launches a kernel that sets all elements to `value`.
fn launch_fill(array: &mut dyn DeviceArray<u32>, value: u32) -> Result<(), AllocError> {
    let (address, count, bytes) = (array.device_write()?, array.len() as u32, array.size_bytes());
    let stream = array.stream();
    if stream.device().is_simulated() {
        let fill = HostKernel::new("fill", move |memory| memory.write::<u32>(0).fill(value)).writes(address, bytes);
        // SAFETY: the kernel writes the elements only, and the array's later operations come after it.
        unsafe { stream.launch_host(fill) }?;
    } else {
        let fill = Module::from_ptx(stream.device(), FILL)?.function("fill")?;
        let arguments = [KernelArg::new(address), KernelArg::new(count), KernelArg::new(value)];
        // SAFETY: these are the kernel's arguments, and it writes the elements only.
        unsafe { stream.launch_kernel(&fill, LaunchConfig::for_elements(count, 128), &arguments) }?;
        // The module is unloaded at the end of this block, which waits for the kernel.
        stream.synchronize()?;
    }
    Ok(())
}

/// Every function of the trait, with host and device in turns.
fn exercise(array: &mut dyn DeviceArray<u32>) -> Result<(), AllocError> {
    let len = array.len();
    assert!(len >= 4 && !array.is_empty() && array.size_bytes() == 4 * len);
    array.copy_from_slice(&vec![1; len])?;
    launch_fill(array, 7)?;
    array.set(1, 10)?;
    assert_eq!((array.get(0)?, array.get(1)?), (7, 10));
    array.copy_from_slice_at(2, &[20, 30])?;
    let mut part = [0; 3];
    array.copy_to_slice_at(1, &mut part)?;
    assert_eq!(part, [10, 20, 30]);
    // What the host wrote reaches a kernel that reads, and the copies after it.
    let _address = array.device_read()?;
    assert_eq!(array.get(2)?, 20);
    array.fill(0x0102_0304)?;
    array.set(0, 5)?;
    let mut all = vec![0; len];
    array.copy_to_slice(&mut all)?;
    assert_eq!((all[0], all[len - 1]), (5, 0x0102_0304));
    launch_fill(array, 9)?;
    assert_eq!(array.to_vec()?, vec![9; len]);

    let size = len;
    assert_eq!(array.get(len), Err(DeviceError::OutOfRange { start: len, end: len + 1, size }));
    assert_eq!(array.set(len, 0), Err(DeviceError::OutOfRange { start: len, end: len + 1, size }));
    assert_eq!(array.copy_from_slice(&[0]), Err(DeviceError::WrongLength { expected: len, found: 1 }));
    assert_eq!(array.copy_to_slice(&mut [0]), Err(DeviceError::WrongLength { expected: len, found: 1 }));
    let outside = DeviceError::OutOfRange { start: len - 1, end: len + 1, size };
    assert_eq!(array.copy_from_slice_at(len - 1, &[0; 2]), Err(outside.clone()));
    assert_eq!(array.copy_to_slice_at(len - 1, &mut [0; 2]), Err(outside));
    Ok(())
}

fn all_arrays_behave_alike(device: &Device) {
    let stream = Stream::new(device).unwrap();
    let len = 1000;
    let mut plain = Buffer::<u32, _>::zeroed(len, &stream, CudaResource::new(device)).unwrap();
    let pool = ManagedResource::new(device).unwrap().pool(PoolOptions::default()).unwrap();
    let mut managed = Buffer::<u32, _>::zeroed(len, &stream, &pool).unwrap();
    let mut pinned = Buffer::<u32, _>::zeroed(len, &stream, PinnedResource::new(device)).unwrap();
    let mut default = Buffer::<u32, _>::zeroed(len, &stream, current::get(device)).unwrap();
    let mut portable = PortableBuffer::<u32>::zeroed(len, &stream, &unified_or_pinned(device).unwrap()).unwrap();
    let mut parts = Buffer::<u32, _>::zeroed(len, &stream, &pool).unwrap();
    let (mut left, mut right) = parts.split_at_mut(4).unwrap();
    let arrays: [&mut dyn DeviceArray<u32>; 7] =
        [&mut plain, &mut managed, &mut pinned, &mut default, &mut portable, &mut left, &mut right];
    for array in arrays {
        exercise(array).unwrap();
    }
    assert_eq!(parts.to_vec().unwrap(), vec![9; len]);
}

#[test]
fn pages_are_on_the_device_when_the_kernel_runs() {
    let device = crate::common::simulated();
    let stream = Stream::new(&device).unwrap();
    let mut managed = Buffer::<u32, _>::zeroed(1 << 20, &stream, ManagedResource::new(&device).unwrap()).unwrap();
    assert!(managed.prefetch(Location::Host).unwrap().is_applied());
    let array: &mut dyn DeviceArray<u32> = &mut managed;
    let _address = array.device_read().unwrap();
    assert_eq!(managed.range_attributes().unwrap().last_prefetch_location, Some(device.id().into()));
    let mut data = vec![1; 1 << 20];
    assert_ne!(
        managed.download(&mut data).unwrap(),
        cumem::buffer::TransferPath::HostPages,
        "not from the host's pages"
    );
}

#[test]
fn each_call_fails_in_turn_on_every_kind_of_device() {
    for profile in [Profile::default(), Profile::wsl()] {
        enumerate(&profile, |device| {
            let stream = Stream::new(device)?;
            let choice = unified_or_pinned(device)?;
            let mut portable = PortableBuffer::from_slice(&[1_u32; 8], &stream, &choice)?;
            exercise(&mut portable)?;
            let mut managed = Buffer::<u32, _>::zeroed(8, &stream, ManagedResource::new(device)?)?;
            exercise(&mut managed)
        })
        .assert();
    }
}
