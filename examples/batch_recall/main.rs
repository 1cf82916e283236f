//! Batch recall through unified memory: the nearest neighbour, by cosine similarity, of each of 1,797 handwritten
//! digits among all others, and how often it shows the same digit.
//!
//! ```console
//! $ cargo run --release --example batch_recall
//! $ cargo run --release --example batch_recall -- --oversubscribe --plot target/oversubscribe.svg
//! ```
//!
//! On a GPU a kernel does the work (`examples/kernels/cosine.cu`), on a simulated device the host does; either
//! way the result is checked against exact integer arithmetic.

mod digits;
mod exact;
mod oversubscribe;
mod plot;
mod recall;

use clap::Parser;
use cumem::{Device, Event, LayerExt, Stream};
use cumem_adaptors::{AnyStack, Counters, StackSpec, cumem};
use digits::Digits;
use std::error::Error;
use std::path::PathBuf;

/// Cosine similarity of every vector against all others, through a stack over unified memory.
#[derive(Parser)]
struct Args {
    /// The stack to allocate from; it must stand on `managed`.
    #[arg(long, default_value = "managed | pool(initial=64MiB) | limit(80%) | statistics | prefetch")]
    stack: String,
    /// The device: a GPU, the simulated one, or a GPU if there is one.
    #[arg(long, value_parser = ["auto", "cuda", "sim"], default_value = "auto")]
    device: String,
    /// Compares instead what more data than memory costs on small simulated devices, and what helps.
    #[arg(long, conflicts_with_all = ["stack", "device"])]
    oversubscribe: bool,
    /// Where to draw that comparison, as SVG.
    #[arg(long, value_name = "FILE", requires = "oversubscribe")]
    plot: Option<PathBuf>,
}

fn main() -> Result<(), Box<dyn Error>> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).without_time().init();
    let args = Args::parse();
    if args.oversubscribe {
        return oversubscribe::compare(&Digits::read()?, args.plot.as_deref());
    }
    let device = match args.device.as_str() {
        "cuda" => Device::open(0)?,
        "sim" => Device::simulated(cumem::sim::Profile::default())?,
        _ => Device::first()?,
    };
    // `Display` of a specification's error marks the word that is wrong.
    let stack = match StackSpec::parse(&args.stack).and_then(|spec| spec.build(&device)) {
        Ok(AnyStack::OverManaged(stack)) => stack,
        Ok(other) => return Err(format!("{other} is no stack over unified memory; start it with `managed`").into()),
        Err(error) => {
            eprintln!("error: {error}");
            std::process::exit(2);
        }
    };
    println!("device  {device}");
    println!("stack   {stack}");

    let digits = Digits::read()?;
    println!("input   {} vectors of {} elements", digits.len(), digits.dimensions());

    let stream = Stream::new(&device)?;
    let kernels = recall::Kernels::load(&device)?;
    let (start, end) = (Event::with_timing(&device)?, Event::with_timing(&device)?);
    start.record(&stream)?;
    let found = recall::nearest_neighbours(&digits, &kernels, &stream, &stack)?;
    end.record(&stream)?;
    end.synchronize()?;
    let clock = if device.is_simulated() { "simulated, in virtual time" } else { "by the device's clock" };
    println!(
        "time    {:.3} ms from upload to results on the host, {clock}",
        end.elapsed_since(&start)?.as_secs_f64() * 1e3
    );
    if let Some(counters) = stack.find::<Counters>() {
        println!("memory  {}", counters.counts());
    }

    let expected = exact::nearest_neighbours(&digits);
    let wrong = found.iter().zip(&expected).filter(|(found, expected)| found != expected).count();
    if wrong > 0 {
        return Err(format!("{wrong} of {} neighbours differ from the exact computation", digits.len()).into());
    }
    println!("check   all {} neighbours equal those of exact integer arithmetic on the host", digits.len());

    let right = (0..digits.len()).filter(|&i| digits.label(i) == digits.label(found[i] as usize)).count();
    println!("recall: {right} of {}", digits.len());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use cumem::sim::{Profile, faults};

    #[test]
    fn every_driver_call_may_fail() {
        let digits = Digits::read().unwrap().first(50);
        let expected = exact::nearest_neighbours(&digits);
        let report = faults::enumerate(&Profile::default(), |device| {
            let spec = StackSpec::parse("managed | pool | limit(80%) | statistics | prefetch")?;
            let AnyStack::OverManaged(stack) = spec.build(device)? else { unreachable!("it stands on `managed`") };
            let (stream, kernels) = (Stream::new(device)?, recall::Kernels::load(device)?);
            let found = recall::nearest_neighbours(&digits, &kernels, &stream, &stack);
            assert_eq!(stack.find::<Counters>().map(|counters| counters.counts().current_blocks), Some(0));
            found.map(|found| assert_eq!(found, expected))
        });
        report.assert();
    }
}
