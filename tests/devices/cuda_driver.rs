//! The real driver through the public API. Each test queries the driver's state afterwards.
//!
//! Tests that need a GPU are ignored by default. `cargo test --test devices cuda_driver -- --include-ignored` runs
//! them.

mod context;
mod launch;
mod memory;
mod order;
mod unified;

use cumem::error::CudaErrorCode;
use cumem::kernel::{Function, KernelArg, LaunchConfig, Module};
use cumem::{Device, DeviceError, DriverError, Stream};
use std::sync::OnceLock;
use std::time::Duration;

const PTX: &str = include_str!("cuda_driver/kernels.ptx");

/// Opens device 0 and creates a stream on it.
fn gpu() -> (Device, Stream) {
    let device = Device::open(0).expect("these tests need a CUDA device");
    let stream = Stream::new(&device).unwrap();
    (device, stream)
}

/// Returns a kernel of a module that stays loaded, because unloading would wait for running kernels.
fn kernel(device: &Device, name: &str) -> Function {
    static MODULE: OnceLock<Module> = OnceLock::new();
    MODULE.get_or_init(|| Module::from_ptx(device, PTX).unwrap()).function(name).unwrap()
}

/// Enqueues a kernel that writes `value` to the `n` numbers at `address`.
fn fill(stream: &Stream, address: u64, n: u32, value: u32) {
    let args = [KernelArg::new(address), KernelArg::new(n), KernelArg::new(value)];
    let kernel = kernel(stream.device(), "fill");
    // SAFETY: these are the kernel's parameters; the callers keep room for `n` numbers.
    unsafe { stream.launch_kernel(&kernel, LaunchConfig::for_elements(n, 128), &args) }.unwrap();
}

/// Enqueues a kernel that runs for about `time`.
fn spin(stream: &Stream, time: Duration) {
    let args = [KernelArg::new(time.as_nanos() as u64)];
    let kernel = kernel(stream.device(), "spin");
    // SAFETY: this is the kernel's parameter; it touches no memory.
    unsafe { stream.launch_kernel(&kernel, LaunchConfig::for_elements(1, 1), &args) }.unwrap();
}

/// Returns the driver's code of an error. Panics if there is no error or if it has no code.
fn code<T: std::fmt::Debug>(result: Result<T, impl Into<DeviceError>>) -> CudaErrorCode {
    let error = result.map_err(Into::<DeviceError>::into).unwrap_err();
    error.code().unwrap_or_else(|| panic!("no code of the driver: {error}"))
}

/// Runs on every machine: `open` returns a device, or an error that names the missing part.
#[test]
fn opening_answers_on_every_machine() {
    match Device::count() {
        Ok(count) => {
            assert!(count > 0);
            let device = Device::open(0).unwrap();
            assert!(!device.is_simulated());
            assert_eq!(device.id().to_string(), "cuda:0");
            let missing = Device::open(count).unwrap_err();
            assert_eq!(missing, DriverError::NoSuchDevice { ordinal: count, count });
        }
        Err(reason) => {
            let error = Device::open(0).unwrap_err();
            assert_eq!(error, reason, "every call gives the same answer");
            assert!(matches!(error, DriverError::NoDriver { .. }), "{error:?}");
            let text = error.to_string();
            assert!(text.starts_with("no CUDA driver: "), "{text}");
            assert!(text.contains("libcuda") || text.contains("the driver"), "{text}");
        }
    }
}

#[test]
#[ignore = "needs a CUDA device"]
fn facts_come_from_the_driver() {
    let (device, _) = gpu();
    let facts = device.attributes();
    assert!(!facts.name.is_empty());
    assert!(facts.compute_capability.0 >= 5 && facts.multiprocessors > 0, "{facts:?}");
    let memory = device.memory_info().unwrap();
    assert!(memory.free <= memory.total && memory.total <= facts.total_memory, "{memory:?} {facts:?}");
    assert!(memory.total > facts.total_memory / 2, "{memory:?} {facts:?}");
    assert!(device.simulator().is_none());
}
