//! A first stack: managed memory in a pool, with a limit, statistics, and a prefetch of each new block.
//!
//! ```console
//! $ cargo run --release --example quickstart
//! ```

mod common;

use clap::Parser;
use cumem::error::{HumanBytes, Plural};
use cumem::unified::Advice;
use cumem::{Device, LayerExt, Location, ManagedResource, Stream, UnifiedBuffer};
use cumem_adaptors::{LimiterState, PoolOptions, PrefetchState, ResourceExt, Size, StatisticsState};
use std::error::Error;
use std::process::ExitCode;

/// Builds a stack of memory resources, and shows the effect of each layer on one buffer.
#[derive(Parser)]
struct Args {}

fn main() -> ExitCode {
    common::main(|Args {}| {
        // The first GPU, or a simulated device, which is named on standard error.
        let device = Device::first_or_simulated()?;
        println!("device       {device}");
        tour(&device)
    })
}

fn tour(device: &Device) -> Result<(), Box<dyn Error>> {
    let stream = Stream::new(device)?;

    // From the leaf outwards. Prefetch is the last layer; in another place it does not compile.
    let stack = ManagedResource::new(device)?
        .pool(PoolOptions::default())?
        .limit(Size::Percent(80))
        .statistics()
        .prefetch(device.id())?;
    println!("stack        {stack}\n");

    let memory = |step: &str| {
        let counts = stack.find::<StatisticsState>().expect("the stack has statistics").counts();
        let limit = stack.find::<LimiterState>().expect("the stack has a limiter");
        let prefetched = stack.find::<PrefetchState>().expect("the stack prefetches").bytes();
        println!("{step}");
        println!(
            "    in use   {} in {}, {} bytes left",
            HumanBytes(counts.current_bytes as usize),
            Plural(counts.current_blocks, "block"),
            limit.remaining()
        );
        println!(
            "    so far   {} at most, {} prefetched",
            HumanBytes(counts.peak_bytes as usize),
            HumanBytes(prefetched as usize)
        );
    };
    memory("nothing allocated");

    let mut squares = UnifiedBuffer::from_slice(&[1.0_f32; 1 << 20], &stream, &stack)?;
    memory("4 MiB allocated, on the device before its first use");

    for (i, x) in squares.host_write()?.iter_mut().enumerate() {
        *x *= (i * i) as f32;
    }
    println!("written by the host through a guard that waited for the stream");

    println!("read-mostly: {:?}", squares.advise(Advice::SetReadMostly)?);
    println!("prefetch to the device again: {:?}", squares.prefetch(Location::Device(device.id()))?);
    println!("the driver reports: {:?}", squares.range_attributes()?);
    assert_eq!(squares.host_read()?[1000], 1e6);

    drop(squares);
    memory("dropped: the pool keeps the block for the next allocation");
    Ok(())
}

#[cfg(test)]
mod tests {
    use cumem::sim::{Profile, faults};

    #[test]
    fn every_driver_call_may_fail() {
        faults::enumerate(&Profile::default(), super::tour).assert();
    }
}
