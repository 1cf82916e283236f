//! One buffer, two devices: the pages migrate from one device to the other by prefetch, or by page faults.
//!
//! ```console
//! $ cargo run --release --example multi_gpu
//! ```
//!
//! Runs on two GPUs, or on a simulated machine with two devices if there are fewer. Times of the simulation are
//! simulated.

mod common;

use clap::Parser;
use cumem::sim::{Profile, Simulator};
use cumem::unified::hints;
use cumem::{Buffer, CudaResource, Device, Location, ManagedResource, Stream, UnifiedBuffer};
use std::error::Error;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Moves one buffer from one device to another, by page faults and by prefetch.
#[derive(Parser)]
struct Args {
    /// The devices: two GPUs, two simulated devices, or GPUs if there are two.
    #[arg(long, value_parser = ["auto", "cuda", "sim"], default_value = "auto")]
    device: String,
}

fn devices(name: &str) -> Result<[Device; 2], Box<dyn Error>> {
    let gpus = Device::count().unwrap_or(0);
    match (name, gpus) {
        ("cuda", 0..2) => Err(format!("this needs two GPUs, and there are {gpus}").into()),
        ("cuda", _) | ("auto", 2..) => Ok([Device::open(0)?, Device::open(1)?]),
        _ => {
            let simulator = Simulator::new([Profile::default(), Profile::default()])?;
            Ok([Device::of_simulator(&simulator, 0)?, Device::of_simulator(&simulator, 1)?])
        }
    }
}

fn now(device: &Device, start: Instant) -> Duration {
    device.simulator().map_or_else(|| start.elapsed(), |simulator| simulator.clock())
}

/// Returns the target of the last prefetch and, on a simulated device, the locations of the pages.
fn whereabouts(buffer: &UnifiedBuffer<u32, ManagedResource>) -> Result<String, Box<dyn Error>> {
    let target = buffer.range_attributes()?.last_prefetch_location;
    let target = target.map_or("nowhere".into(), |location| location.to_string());
    let seen = match hints::residency(buffer.block(), 0..buffer.size_bytes(), buffer.stream())? {
        None => "unknown on a GPU".into(),
        Some(pages) => {
            let places = pages.locations().iter().filter(|(_, bytes)| *bytes > 0);
            places.map(|(at, bytes)| format!("{} MiB on {at}", bytes >> 20)).collect::<Vec<_>>().join(", ")
        }
    };
    Ok(format!("last prefetched to {target}; pages: {seen}"))
}

fn main() -> ExitCode {
    common::main(run)
}

fn run(args: Args) -> Result<(), Box<dyn Error>> {
    let [first, second] = devices(&args.device)?;
    let simulated = if first.is_simulated() { "; all times are simulated" } else { "" };
    println!("devices {first} and {second}{simulated}");
    hand_over(&first, &second, 64 << 20)
}

/// Moves `len` elements from the first device to the second, by page faults and then by prefetch.
fn hand_over(first: &Device, second: &Device, len: usize) -> Result<(), Box<dyn Error>> {
    let (on_first, on_second) = (Stream::new(first)?, Stream::new(second)?);
    let expected: Vec<u32> = (0..len as u32).collect();
    let mut shared = UnifiedBuffer::zeroed(len, &on_first, ManagedResource::new(first)?)?;
    let mut work = Buffer::<u32, _>::zeroed(len, &on_second, CudaResource::new(second))?;
    let start = Instant::now();

    for prefetch in [false, true] {
        // The first device writes the pages and holds them.
        shared.upload(&expected)?;
        work.copy_from_buffer(&shared)?; // warms up, so that both ways start alike
        shared.upload(&expected)?;
        first.synchronize()?;
        second.synchronize()?;
        println!("\nuploaded    {}", whereabouts(&shared)?);

        let from = now(first, start);
        if prefetch {
            // The prefetch is on the stream of the buffer. The copy below is ordered after it.
            let _ = shared.prefetch(Location::Device(second.id()))?;
        }
        work.copy_from_buffer(&shared)?;
        on_second.synchronize()?;
        let time = now(first, start) - from;
        let way = if prefetch { "prefetched" } else { "faulting" };
        println!("{way:<11} {}", whereabouts(&shared)?);
        println!(
            "            {} MiB used by the second device after {:.3} ms, {:.1} GB/s",
            (len * 4) >> 20,
            time.as_secs_f64() * 1e3,
            (len * 4) as f64 / time.as_secs_f64() / 1e9
        );
        if work.to_vec()? != expected {
            return Err("the second device read other elements than the first wrote".into());
        }
    }
    println!("\ncheck       every element arrived");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use cumem::sim::faults::enumerate_on;

    #[test]
    fn every_driver_call_may_fail() {
        let two = [Profile::default(), Profile::default()];
        let report = enumerate_on(&two, |first| {
            let second = Device::of_simulator(first.simulator().expect("it is simulated"), 1)?;
            hand_over(first, &second, 3 << 18)
        });
        report.assert();
    }
}
