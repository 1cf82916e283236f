//! A default resource for each device: the application chooses it, and libraries use it without an argument.
//!
//! ```console
//! $ cargo run --release --example device_defaults
//! ```
//!
//! Runs on all GPUs, or on a simulated machine with two devices if there is no GPU.

mod common;

use clap::Parser;
use cumem::current::DeviceResource;
use cumem::sim::{Profile, Simulator};
use cumem::{AllocError, Buffer, Device, LayerExt, ManagedResource, Stream, current};
use cumem_adaptors::{LogOptions, PoolOptions, ResourceExt, Size, StatisticsState};
use std::error::Error;
use std::process::ExitCode;

/// Sets a default resource for each device, and allocates from it as a library would.
#[derive(Parser)]
struct Args {}

fn main() -> ExitCode {
    common::main(|Args {}| {
        let devices = devices()?;
        choose(&devices)?;
        devices.iter().try_for_each(show)
    })
}

fn devices() -> Result<Vec<Device>, Box<dyn Error>> {
    match Device::count() {
        Ok(gpus @ 1..) => Ok((0..gpus).map(Device::open).collect::<Result<_, _>>()?),
        _ => {
            let simulator = Simulator::new([Profile::default(), Profile::default()])?;
            Ok((0..2).map(|i| Device::of_simulator(&simulator, i)).collect::<Result<_, _>>()?)
        }
    }
}

/// The part of an application, which runs once at the start: each device gets its own pool, with a limit of its own
/// memory.
fn choose(devices: &[Device]) -> Result<(), Box<dyn Error>> {
    for device in devices {
        let stack = ManagedResource::new(device)?.pool(PoolOptions::default())?.limit(Size::Percent(80)).statistics();
        current::set(device, stack)?; // returns the previous default: at first, plain device memory
    }
    Ok(())
}

/// The part of a library, without an argument for the resource.
fn ones(len: usize, stream: &Stream) -> Result<Buffer<u32, DeviceResource>, AllocError> {
    Buffer::from_slice(&vec![1; len], stream, current::get(stream.device()))
}

fn show(device: &Device) -> Result<(), Box<dyn Error>> {
    let stream = Stream::new(device)?;
    println!("device  {device}");
    println!("default {}", current::get(device));

    let numbers = ones(1 << 20, &stream)?;
    let default = current::get(device);
    let counts = default.find::<StatisticsState>().ok_or("the default has statistics")?.counts();
    println!("in use  {} bytes of this device's default", counts.current_bytes);

    // Another default for a while, for example in a test or for one phase. The guard puts the old one back.
    let scoped = current::scoped(device, ManagedResource::new(device)?)?;
    println!("scoped  {}", current::get(device));
    let more = ones(1 << 10, &stream)?;
    drop(scoped);

    // A log of the running program, for a while. Each buffer keeps the resource that allocated it.
    let logged = current::get(device).logging(LogOptions::sink(std::io::sink()))?;
    let plain = current::set(device, logged)?;
    let more_logged = ones(1 << 10, &stream)?;
    println!("logged  {}", more_logged.resource());
    current::restore(device, plain)?;

    // Another default for this thread only, and statistics that are added where the default stands.
    {
        let _mine = current::thread_scoped(device, ManagedResource::new(device)?)?;
        current::update(device, |upstream| upstream.statistics())?;
        println!("thread  {}", current::get(device));
        let managed = ones(1 << 10, &stream)?;
        // The kind of the memory is known only at run time, so this may be refused.
        println!("sum     {}", managed.try_host_read()?.iter().sum::<u32>());
    }

    // A buffer keeps its resource, also if the default is another one when the buffer is dropped.
    println!("after   {}", current::get(device));
    println!("from    {}\n", more.resource());
    drop((numbers, more, more_logged));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use cumem::sim::faults;

    #[test]
    fn every_driver_call_may_fail() {
        let report = faults::enumerate(&Profile::default(), |device| {
            choose(std::slice::from_ref(device))?;
            let shown = show(device);
            current::reset(device); // the registry would keep the pool beyond the run
            shown
        });
        report.assert();
    }
}
