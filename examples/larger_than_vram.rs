//! A working set three times as large as the device's memory, streamed through a small simulated device in four ways.
//!
//! ```console
//! $ cargo run --release --example larger_than_vram
//! ```
//!
//! Runs on a simulated device only, because more managed memory than a GPU has can hang the GPU
//! (NVIDIA/open-gpu-kernel-modules#1223). All times are simulated.

mod common;

use clap::Parser;
use cumem::kernel::HostKernel;
use cumem::portable::{PortableBuffer, unified_or_pinned};
use cumem::sim::{DeviceStatistics, Profile};
use cumem::unified::AutoPrefetchOptions;
use cumem::{AllocError, Device, ManagedResource, Stream, UnifiedBuffer};
use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;

/// Bytes of memory of the device.
const CAPACITY: usize = 64 << 20;

/// The work on the working set.
#[derive(Clone, Copy)]
struct Job {
    /// Elements of the working set.
    len: usize,
    /// Elements of one chunk.
    chunk: usize,
    passes: u32,
}

impl Job {
    /// Creates the job for a device with `capacity` bytes: a working set three times as large, in 48 chunks.
    fn of(capacity: usize, passes: u32) -> Self {
        let elements = capacity / size_of::<u32>();
        Self { len: 3 * elements, chunk: elements / 16, passes }
    }
}

/// One way over the working set, and its figures.
struct Way {
    name: &'static str,
    /// Virtual time.
    time: Duration,
    before: DeviceStatistics,
    after: DeviceStatistics,
}

/// Streams more data than a simulated device has memory through it, in four ways.
#[derive(Parser)]
struct Args {
    /// The device. Only `sim` runs; `cuda` is refused with the reason.
    #[arg(long, value_parser = ["sim", "cuda"], default_value = "sim")]
    device: String,
}

/// Launches a kernel that adds one to each element. It computes for about as long as the link needs for its bytes.
fn work(address: u64, len: usize, stream: &Stream) -> Result<(), cumem::DeviceError> {
    let kernel = HostKernel::new("add_one", |memory| memory.write::<u32>(0).iter_mut().for_each(|x| *x += 1));
    let kernel = kernel.writes(address, len * size_of::<u32>()).operations(5_000 * len as u64);
    // SAFETY: each buffer is synchronized before it is dropped, and kernels on one stream do not overlap.
    unsafe { stream.launch_host(kernel) }
}

/// Runs one way over the working set, and returns its figures.
fn measure(
    name: &'static str,
    device: &Device,
    run: impl FnOnce() -> Result<(), Box<dyn Error>>,
) -> Result<Way, Box<dyn Error>> {
    let simulator = device.simulator().ok_or("a simulated device")?;
    let statistics = || simulator.statistics(device.id()).ok_or("a device of this machine");
    device.synchronize()?;
    let (start, before) = (simulator.clock(), statistics()?);
    run()?;
    device.synchronize()?;
    Ok(Way { name, time: simulator.clock() - start, before, after: statistics()? })
}

fn print(Way { name, time, before, after }: Way) {
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

/// Uses managed memory chunk after chunk. The pages migrate by faults, or by automatic prefetch.
fn unified(job: Job, device: &Device, automatic: bool) -> Result<Way, Box<dyn Error>> {
    let stream = Stream::new(device)?;
    let mut buffer = UnifiedBuffer::<u32, _>::zeroed(job.len, &stream, ManagedResource::new(device)?)?;
    buffer.host_write()?.fill(1);
    if automatic {
        let options = AutoPrefetchOptions::default().budget(4 * job.chunk * size_of::<u32>()).uses_ahead(2);
        let _ = buffer.auto_prefetch(options)?;
    }
    let name = if automatic { "managed, automatic prefetch" } else { "managed, faulting" };
    let way = measure(name, device, || {
        for _ in 0..job.passes {
            for start in (0..job.len).step_by(job.chunk) {
                let part = buffer.device_use(start..start + job.chunk)?;
                work(part.device_address(), job.chunk, &stream)?;
            }
        }
        Ok(())
    })?;
    check(job, &buffer.host_read()?)?;
    Ok(way)
}

/// Uses `for_each_chunk`, over managed or pinned memory as the device allows.
fn chunks(job: Job, device: &Device) -> Result<Way, Box<dyn Error>> {
    let stream = Stream::new(device)?;
    let choice = unified_or_pinned(device)?;
    let mut buffer = PortableBuffer::<u32>::zeroed(job.len, &stream, &choice)?;
    buffer.host_write()?.fill(1);
    let name = if choice.is_unified() { "managed, in chunks" } else { "pinned, in chunks" };
    let way = measure(name, device, || {
        for _ in 0..job.passes {
            buffer.for_each_chunk(job.chunk, |chunk| -> Result<(), AllocError> {
                Ok(work(chunk.device_address(), chunk.elements().len(), chunk.stream())?)
            })?;
        }
        Ok(())
    })?;
    check(job, &buffer.host_read()?)?;
    Ok(way)
}

fn check(job: Job, elements: &[u32]) -> Result<(), Box<dyn Error>> {
    match elements.iter().position(|x| *x != 1 + job.passes) {
        None => Ok(()),
        Some(i) => Err(format!("element {i} is {}, not {}", elements[i], 1 + job.passes).into()),
    }
}

fn small(capacity: usize) -> Profile {
    Profile::default().with_capacity(capacity as u64)
}

fn without_concurrent_access(capacity: usize) -> Profile {
    let mut without = small(capacity).with_name("h100-pcie5 without concurrent access");
    without.concurrent_managed_access = false;
    without
}

fn main() -> ExitCode {
    common::main(run)
}

fn run(args: Args) -> Result<(), Box<dyn Error>> {
    if args.device == "cuda" {
        return Err(
            "a working set larger than a GPU's memory can hang the GPU: this runs on a simulated device only".into()
        );
    }
    let job = Job::of(CAPACITY, 2);
    let Job { len, chunk, passes } = job;
    println!("device  {} MiB of memory, simulated; all times are simulated", CAPACITY >> 20);
    println!("input   {} MiB, {passes} passes in chunks of {} MiB\n", (len * 4) >> 20, (chunk * 4) >> 20);
    println!("{:<34} {:>12} {:>8} {:>9} {:>10} {:>10}", "way", "time", "faults", "evictions", "MiB up", "MiB down");
    let device = || Device::simulated(small(CAPACITY));
    print(unified(job, &device()?, false)?);
    print(unified(job, &device()?, true)?);
    print(chunks(job, &device()?)?);
    print(chunks(job, &Device::simulated(without_concurrent_access(CAPACITY))?)?);
    println!("\ncheck   each way added one to every element in every pass");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use cumem::sim::faults::enumerate;

    #[test]
    fn every_driver_call_may_fail() {
        const CAPACITY: usize = 4 << 20;
        let job = Job { len: 3 << 19, chunk: 1 << 18, passes: 1 };
        for automatic in [false, true] {
            enumerate(&small(CAPACITY), |device| unified(job, device, automatic).map(drop)).assert();
        }
        for profile in [small(CAPACITY), without_concurrent_access(CAPACITY)] {
            enumerate(&profile, |device| chunks(job, device).map(drop)).assert();
        }
    }
}
