//! A working set three times as large as the device's memory, streamed through a small simulated device in four ways.
//!
//! ```console
//! $ cargo run --release --example larger_than_vram
//! ```
//!
//! On a simulated device only: more unified memory than a real GPU has can hang it (NVIDIA/open-gpu-kernel-modules#1223). All
//! times are simulated.

use clap::Parser;
use cumem::sim::{DeviceStatistics, Profile};
use cumem::{
    AllocError, AutoPrefetchOptions, Device, HostKernel, ManagedResource, PortableBuffer, Stream, UnifiedBuffer,
    unified_or_pinned,
};
use std::error::Error;
use std::time::Duration;

/// Bytes of the device.
const CAPACITY: usize = 64 << 20;
/// Elements of the working set.
const LEN: usize = 3 * CAPACITY / size_of::<u32>();
/// Elements that are worked on at a time.
const CHUNK: usize = CAPACITY / 16 / size_of::<u32>();
const PASSES: u32 = 2;

#[derive(Parser)]
struct Args {
    /// The device; there is one choice.
    #[arg(long, value_parser = ["sim", "cuda"], default_value = "sim")]
    device: String,
}

/// A kernel that adds one to each element and computes for about as long as its bytes take over the link.
fn work(address: u64, len: usize, stream: &Stream) -> Result<(), cumem::DriverError> {
    let kernel = HostKernel::new("add_one", |memory| memory.write::<u32>(0).iter_mut().for_each(|x| *x += 1));
    let kernel = kernel.writes(address, len * size_of::<u32>()).operations(5_000 * len as u64);
    // SAFETY: the buffers here are waited for before they go, and kernels on one stream do not overlap.
    unsafe { stream.launch_host(kernel) }
}

/// The virtual time of a way over the working set, and what the device did for it.
fn measure(
    device: &Device,
    run: impl FnOnce() -> Result<(), Box<dyn Error>>,
) -> Result<(Duration, DeviceStatistics, DeviceStatistics), Box<dyn Error>> {
    let simulator = device.simulator().ok_or("a simulated device")?;
    let statistics = || simulator.statistics(device.id()).ok_or("a device of this machine");
    device.synchronize()?;
    let (start, before) = (simulator.clock(), statistics()?);
    run()?;
    device.synchronize()?;
    Ok((simulator.clock() - start, before, statistics()?))
}

fn print(name: &str, (time, before, after): (Duration, DeviceStatistics, DeviceStatistics)) {
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let to_device =
        after.migrated_to_device + after.copied_to_device - before.migrated_to_device - before.copied_to_device;
    let to_host = after.migrated_to_host + after.copied_to_host - before.migrated_to_host - before.copied_to_host;
    println!(
        "{name:<34} {:>9.3} ms {:>8} {:>9} {:>10.0} {:>10.0}",
        time.as_secs_f64() * 1e3,
        after.faults - before.faults,
        after.evictions - before.evictions,
        mib(to_device),
        mib(to_host)
    );
}

/// Unified memory, chunk after chunk; the pages fault in, or are foreseen.
fn unified(device: &Device, automatic: bool) -> Result<(), Box<dyn Error>> {
    let stream = Stream::new(device)?;
    let mut buffer = UnifiedBuffer::<u32, _>::zeroed(LEN, &stream, ManagedResource::new(device)?)?;
    buffer.host_write()?.fill(1);
    if automatic {
        let options = AutoPrefetchOptions::default().budget(CAPACITY / 4).uses_ahead(2);
        let _ = buffer.auto_prefetch(options)?;
    }
    let measured = measure(device, || {
        for _ in 0..PASSES {
            for start in (0..LEN).step_by(CHUNK) {
                let part = buffer.device_use(start..start + CHUNK)?;
                work(part.device_address(), CHUNK, &stream)?;
            }
        }
        Ok(())
    })?;
    print(if automatic { "unified, automatic prefetch" } else { "unified, faulting" }, measured);
    check(&buffer.host_read()?)
}

/// `for_each_chunk`, over whichever memory the device gets.
fn chunks(device: &Device) -> Result<(), Box<dyn Error>> {
    let stream = Stream::new(device)?;
    let choice = unified_or_pinned(device)?;
    let mut buffer = PortableBuffer::<u32>::zeroed(LEN, &stream, &choice)?;
    buffer.host_write()?.fill(1);
    let measured = measure(device, || {
        for _ in 0..PASSES {
            buffer.for_each_chunk(CHUNK, |chunk| -> Result<(), AllocError> {
                Ok(work(chunk.device_address(), chunk.elements().len(), chunk.stream())?)
            })?;
        }
        Ok(())
    })?;
    print(if choice.is_unified() { "unified, in chunks" } else { "page-locked, in chunks" }, measured);
    check(&buffer.host_read()?)
}

fn check(elements: &[u32]) -> Result<(), Box<dyn Error>> {
    match elements.iter().position(|x| *x != 1 + PASSES) {
        None => Ok(()),
        Some(i) => Err(format!("element {i} is {}, not {}", elements[i], 1 + PASSES).into()),
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).without_time().init();
    if Args::parse().device == "cuda" {
        return Err(
            "a working set larger than a GPU's memory can hang the GPU: this runs on a simulated device only".into()
        );
    }
    let small = || Profile::default().with_capacity(CAPACITY as u64);
    let mut without = small().with_name("h100-pcie5 without concurrent access");
    without.concurrent_managed_access = false;
    println!("device  {} MiB of memory, simulated; all times are simulated", CAPACITY >> 20);
    println!("input   {} MiB, {PASSES} passes in chunks of {} MiB\n", (LEN * 4) >> 20, (CHUNK * 4) >> 20);
    println!("{:<34} {:>12} {:>8} {:>9} {:>10} {:>10}", "way", "time", "faults", "evictions", "MiB up", "MiB down");
    unified(&Device::simulated(small())?, false)?;
    unified(&Device::simulated(small())?, true)?;
    chunks(&Device::simulated(small())?)?;
    chunks(&Device::simulated(without)?)?;
    println!("\ncheck   each way added one to every element in every pass");
    Ok(())
}
