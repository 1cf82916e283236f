//! Modules and launches, of this library and of cust.

use super::{PTX, code, fill, gpu, kernel, spin};
use cumem::error::CudaErrorCode;
use cumem::kernel::{HostKernel, KernelArg, LaunchConfig, Module};
use cumem::{Buffer, CudaResource, DeviceError, DriverError, ManagedResource, PinnedResource, Stream};
use cust::launch;
use std::time::Duration;

#[test]
#[ignore = "needs a CUDA device"]
fn kernels_reach_all_memory() {
    let (device, stream) = gpu();
    let on_device = Buffer::<u32, _>::zeroed(1000, &stream, CudaResource::new(&device)).unwrap();
    let managed = Buffer::<u32, _>::zeroed(1000, &stream, ManagedResource::new(&device).unwrap()).unwrap();
    let pinned = Buffer::<u32, _>::zeroed(1000, &stream, PinnedResource::new(&device)).unwrap();
    for (value, address) in
        [on_device.device_address(), managed.device_address(), pinned.device_address()].into_iter().enumerate()
    {
        // The kernel must leave the last of the 1000 numbers zero.
        fill(&stream, address, 999, value as u32 + 1);
    }
    let expected = |value| [vec![value; 999], vec![0]].concat();
    assert_eq!(on_device.to_vec().unwrap(), expected(1));
    assert_eq!(managed.host_read().unwrap()[..], expected(2));
    assert_eq!(pinned.host_read().unwrap()[..], expected(3));
}

#[test]
#[ignore = "needs a CUDA device"]
fn cust_launches_on_our_streams() {
    let (device, stream) = gpu();
    device.bind_to_thread().unwrap();
    let module = cust::module::Module::from_ptx(PTX, &[]).unwrap();
    let numbers = Buffer::<u32, _>::zeroed(1000, &stream, CudaResource::new(&device)).unwrap();
    // SAFETY: these are the kernel's parameters, and there is room for 1000 numbers.
    unsafe { launch!(module.fill<<<4, 256, 0, stream>>>(numbers.as_device_pointer(), 1000_u32, 7_u32)) }.unwrap();
    assert_eq!(numbers.to_vec().unwrap(), [7; 1000]);

    let function = module.get_function("fill").unwrap();
    // SAFETY: the driver rejects a block of this size before anything runs.
    let refused = unsafe { launch!(function<<<1, 4096, 0, stream>>>(numbers.as_device_pointer(), 1000_u32, 8_u32)) };
    assert_eq!(refused, Err(cust::error::CudaError::InvalidValue));
    assert!(module.get_function("none").is_err());
}

#[test]
#[ignore = "needs a CUDA device"]
fn bad_ptx_is_an_error_with_the_compilers_words() {
    let (device, _) = gpu();
    match Module::from_ptx(&device, &PTX.replace("mad.lo.s32", "mad.no.s32")).unwrap_err() {
        DriverError::Compile { code, log, .. } => {
            assert_eq!(code, CudaErrorCode::INVALID_PTX);
            assert!(log.contains("mad") || log.contains("line"), "{log}");
        }
        other => panic!("{other}"),
    }
    assert_eq!(code(Module::from_ptx(&device, "no ptx\0")), CudaErrorCode::INVALID_PTX);
    let module = Module::from_ptx(&device, PTX).unwrap();
    assert_eq!(code(module.function("none")), CudaErrorCode::NOT_FOUND);
    assert_eq!(code(module.function("fi\0ll")), CudaErrorCode::NOT_FOUND);
    // A kernel keeps its module loaded.
    let fill = module.function("fill").unwrap();
    drop(module);
    assert_eq!(fill.device(), &device);
}

#[test]
#[ignore = "needs a CUDA device"]
fn launches_that_cannot_be() {
    let (device, stream) = gpu();
    let spin = kernel(&device, "spin");
    let config = LaunchConfig::new((1, 1, 1), (4096, 1, 1));
    // SAFETY: the driver rejects a block of this size before anything runs.
    let refused = unsafe { stream.launch_kernel(&spin, config, &[KernelArg::new(0_u64)]) };
    assert_eq!(code(refused), CudaErrorCode::INVALID_VALUE);

    // SAFETY: the driver refuses the kernel, so it does not run.
    let refused = unsafe { stream.launch_host(HostKernel::new("nothing", |_| ())) };
    assert_eq!(refused.unwrap_err(), DriverError::NotSupported { what: "host kernels", device: device.id() }.into());
}

#[test]
#[ignore = "needs a CUDA device"]
fn default_streams() {
    let (device, stream) = gpu();
    let numbers = Buffer::<u32, _>::zeroed(10, &stream, CudaResource::new(&device)).unwrap();
    stream.synchronize().unwrap();
    for (value, stream) in [(1, Stream::legacy_default(&device)), (2, Stream::per_thread_default(&device))] {
        fill(&stream, numbers.device_address(), 10, value);
        stream.synchronize().unwrap();
        assert!(stream.is_idle().unwrap());
        assert_eq!(numbers.to_vec().unwrap(), [value; 10]);
    }
    // The legacy stream waits for blocking streams, and for no other streams.
    let (legacy, blocking) = (Stream::legacy_default(&device), Stream::blocking(&device).unwrap());
    spin(&stream, Duration::from_millis(50));
    assert!(legacy.is_idle().unwrap());
    spin(&blocking, Duration::from_millis(50));
    assert!(!legacy.is_idle().unwrap());
    legacy.synchronize().unwrap();
    assert!(blocking.is_idle().unwrap());

    let of_this_thread = Stream::per_thread_default(&device);
    let elsewhere = std::thread::spawn(move || of_this_thread.synchronize().unwrap_err()).join().unwrap();
    assert_eq!(elsewhere, DeviceError::WrongThread { device: device.id() });
}
