//! Single values on a device.

use cumem::sim::Profile;
use cumem::sim::faults::enumerate;
use cumem::{AllocError, Buffer, CudaResource, Device, ManagedResource, PinnedResource, Scalar, Stream};
use cumem_adaptors::{PoolOptions, ResourceExt};

on_devices!(values_of_every_kind_of_memory, a_thousand_values_on_their_way, scalars_and_buffers);

fn values_of_every_kind_of_memory(device: &Device) {
    let [stream, other] = [(), ()].map(|()| Stream::new(device).unwrap());
    let mut plain = Scalar::new(-0.0_f64, &stream, CudaResource::new(device)).unwrap();
    assert!(plain.get().unwrap().is_sign_negative());
    plain.set(1.5).unwrap();
    assert_eq!(plain.get(), Ok(1.5));
    plain.zero().unwrap();
    assert_eq!(plain.get_async().unwrap().wait(), Ok(0.0));
    let mut flag = Scalar::new(true, &stream, ManagedResource::new(device).unwrap()).unwrap();
    flag.set_async(false).unwrap();
    flag.set_stream(&other).unwrap();
    assert_eq!((flag.get(), flag.stream()), (Ok(false), &other));
    let pinned = Scalar::<[u16; 3], _>::zeroed(&stream, PinnedResource::new(device)).unwrap();
    assert_eq!(pinned.get(), Ok([0; 3]));
}

fn a_thousand_values_on_their_way(device: &Device) {
    let stream = Stream::new(device).unwrap();
    let pool = CudaResource::new(device).pool(PoolOptions::default()).unwrap();
    let scalars: Vec<_> = (0..1000_u64).map(|i| Scalar::new(i, &stream, &pool).unwrap()).collect();
    let pending: Vec<_> = scalars.iter().map(|scalar| scalar.get_async().unwrap()).collect();
    drop(scalars);
    for (i, pending) in pending.into_iter().enumerate() {
        assert_eq!(pending.wait().unwrap(), i as u64);
    }
}

fn scalars_and_buffers(device: &Device) {
    let stream = Stream::new(device).unwrap();
    let memory = CudaResource::new(device);
    let mut scalar = Scalar::new(7_u32, &stream, &memory).unwrap();
    let mut buffer = Buffer::from_slice(&[1_u32, 2, 3], &stream, &memory).unwrap();
    buffer.slice_mut(..1).unwrap().copy_from_view(scalar.as_view()).unwrap();
    scalar.as_view_mut().copy_from_view(buffer.slice(2..).unwrap()).unwrap();
    assert_eq!((buffer.to_vec().unwrap(), scalar.get().unwrap()), (vec![7, 2, 3], 3));
    assert_eq!(scalar.into_buffer().to_vec().unwrap(), [3]);
}

#[test]
fn each_call_of_a_scalar_fails_in_turn() {
    enumerate(&Profile::default(), |device| {
        let stream = Stream::new(device)?;
        let mut scalar = Scalar::new(7_u32, &stream, CudaResource::new(device))?;
        let pending = scalar.get_async()?;
        scalar.set_async(8)?;
        assert_eq!((pending.wait()?, scalar.get()?), (7, 8));
        Ok::<_, AllocError>(())
    })
    .assert();
}

#[test]
fn values_that_are_not_waited_for_outlive_the_device_handle() {
    let device = crate::common::simulated();
    let stream = Stream::new(&device).unwrap();
    let simulator = device.simulator().unwrap().clone();
    let mut scalar = Scalar::new(7_u32, &stream, CudaResource::new(&device)).unwrap();
    let pending = scalar.get_async().unwrap();
    scalar.set_async(8).unwrap();
    drop((scalar, stream, device));
    assert_eq!(pending.wait(), Ok(7));
    assert_eq!(simulator.live_allocations(), Default::default(), "nothing is left");
}
