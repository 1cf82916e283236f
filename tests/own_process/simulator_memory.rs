//! The host memory that a simulated device takes, measured as the resident size of the process.

use cumem::kernel::HostKernel;
use cumem::sim::Profile;
use cumem::{Buffer, CudaResource, Device, ManagedResource, Stream};
use cumem_test_support::own_process;

const GIB: usize = 1 << 30;
const LIMIT: u64 = 64 << 20;

own_process!(a_device_of_80_gib_costs_under_64_mib);

/// Returns the resident size of this process in bytes.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

fn a_device_of_80_gib_costs_under_64_mib() {
    let before = resident();
    let device = Device::simulated(Profile::h100_pcie5()).unwrap();
    let stream = Stream::new(&device).unwrap();
    let plain = Buffer::<u8, _>::with_capacity(40 * GIB, &stream, CudaResource::new(&device)).unwrap();
    let unified = Buffer::<u8, _>::with_capacity(40 * GIB, &stream, ManagedResource::new(&device).unwrap()).unwrap();
    let untouched = resident() - before;
    println!("80 GiB allocated, nothing touched: {} KiB", untouched >> 10);
    assert!(untouched < LIMIT, "{untouched} bytes");

    // All pages of the managed memory migrate to the device. No byte of them is written.
    let kernel = HostKernel::new("touch", |_| ()).writes(unified.device_address(), 40 * GIB);
    // SAFETY: the buffer is alive until the end.
    unsafe { stream.launch_host(kernel) }.unwrap();
    stream.synchronize().unwrap();
    let simulator = device.simulator().unwrap();
    assert_eq!(simulator.residency(unified.as_ptr(), 40 * GIB).unwrap().on(device.id()), 40 << 30);
    let touched = resident() - before;
    println!("40 GiB of it on the device, page by page: {} KiB", touched >> 10);
    assert!(touched < LIMIT, "{touched} bytes");
    drop(plain);
}
