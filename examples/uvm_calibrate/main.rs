//! Times of managed memory by size: measured on a GPU, beside those of the simulated device.
//!
//! ```console
//! $ cargo run --release --example uvm_calibrate -- --device cuda --format csv > measured.csv
//! $ cargo run --release --example uvm_calibrate -- --device cuda --fight 40
//! $ cargo run --release --example uvm_calibrate -- --device sim --against examples/data/uvm/h100/*.csv
//! ```

#[path = "../common/mod.rs"]
mod common;
mod measure;

use clap::{Parser, ValueEnum};
use cumem::Device;
use cumem::sim::Profile;
use measure::{OPERATIONS, Rig, Row};
use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

/// Times copies, prefetches and page faults by size. At most 2 GiB of managed memory are in use at a time.
#[derive(Parser)]
struct Args {
    /// The device. Times of a simulated device are virtual time.
    #[arg(long, value_enum, default_value_t = On::Sim)]
    device: On,
    /// The profile of the simulated device, also if it is compared with a GPU.
    #[arg(long, value_name = "NAME", default_value = "h100-pcie5", value_parser = profile)]
    profile: Profile,
    /// Files of figures of a GPU, from --format csv, to compare the simulated device with. Of several files, the median
    /// of each figure is used.
    #[arg(long, value_name = "FILE", num_args = 1..)]
    against: Vec<PathBuf>,
    /// Output format: a table of measured and simulated figures, or one CSV row for each figure of the device.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// Instead, lets the host and the device read one page in turn, TURNS times, and prints the time of each read.
    #[arg(long, value_name = "TURNS")]
    fight: Option<usize>,
    /// The largest size in bytes.
    #[arg(long, value_name = "BYTES", default_value_t = 1 << 30)]
    most: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum On {
    Cuda,
    Sim,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Text,
    Csv,
}

/// Sizes in bytes, each with its number of repetitions.
const SIZES: [(usize, usize); 8] = [
    (4 << 10, 31),
    (64 << 10, 31),
    (1 << 20, 31),
    (2 << 20, 31),
    (16 << 20, 11),
    (64 << 20, 7),
    (256 << 20, 5),
    (1 << 30, 3),
];

fn profile(name: &str) -> Result<Profile, String> {
    Profile::named(name).ok_or_else(|| format!("expected one of {}", Profile::NAMES.join(", ")))
}

fn main() -> ExitCode {
    common::main(|args: Args| run(&args))
}

fn run(args: &Args) -> Result<(), Box<dyn Error>> {
    let simulated = Device::simulated(args.profile.clone())?;
    let device = if args.device == On::Cuda { Device::open(0)? } else { simulated.clone() };
    if let Some(turns) = args.fight {
        return fight(device, simulated, turns);
    }
    let rows = measure(device.clone(), args.most)?;
    if args.format == Format::Csv {
        println!("device,operation,bytes,repetitions,median_ns,least_ns,most_ns");
        rows.iter().for_each(|row| println!("{}", row.csv(&device)));
        return Ok(());
    }
    let mut measured = Measured::new();
    for file in &args.against {
        measured.extend(earlier(&std::fs::read_to_string(file)?)?);
    }
    let simulated_rows = match args.device {
        On::Sim => rows,
        On::Cuda => {
            measured = rows.iter().map(|row| (row.operation.to_owned(), row.bytes, row.median())).collect();
            measure(simulated.clone(), args.most)?
        }
    };
    println!("{simulated}: virtual time, microseconds");
    println!("{:38} {:>10} {:>12} {:>12} {:>8}", "", "bytes", "measured", "simulated", "error");
    for operation in OPERATIONS {
        for row in simulated_rows.iter().filter(|row| row.operation == operation) {
            let ours = row.median() as f64 / 1e3;
            let (theirs, error) = match median(&measured, operation, row.bytes) {
                Some(theirs) => (format!("{theirs:.1}"), format!("{:+.1} %", (ours / theirs - 1.0) * 100.0)),
                None => ("-".into(), "-".into()),
            };
            println!("{operation:38} {:>10} {theirs:>12} {ours:>12.1} {error:>8}", row.bytes);
        }
    }
    Ok(())
}

fn fight(device: Device, simulated: Device, turns: usize) -> Result<(), Box<dyn Error>> {
    let measured = if device.is_simulated() { Vec::new() } else { Rig::new(device.clone())?.fight(turns)? };
    println!("microseconds of a reading of one page: {device}; {simulated}, virtual time");
    println!("{:>5} {:>12} {:>12} {:>12} {:>12}", "turn", "device", "host", "device, sim", "host, sim");
    for (turn, ours) in Rig::new(simulated)?.fight(turns)?.into_iter().enumerate() {
        let [device, host] = measured.get(turn).map_or([None; 2], |theirs| theirs.map(Some));
        let [device, host] = [device, host].map(|ns| ns.map_or("-".into(), micros));
        println!("{:>5} {device:>12} {host:>12} {:>12} {:>12}", turn + 1, micros(ours[0]), micros(ours[1]));
    }
    Ok(())
}

fn micros(ns: u64) -> String {
    format!("{:.1}", ns as f64 / 1e3)
}

fn measure(device: Device, most: usize) -> Result<Vec<Row>, Box<dyn Error>> {
    let rig = Rig::new(device)?;
    let mut rows = Vec::new();
    for (bytes, repetitions) in SIZES.into_iter().filter(|(bytes, _)| *bytes <= most) {
        // Virtual time is the same in each repetition.
        let repetitions = if rig.device.is_simulated() { 1 } else { repetitions };
        rows.extend(rig.measure(bytes, repetitions)?);
    }
    Ok(rows)
}

/// Rows of operation, bytes and nanoseconds.
type Measured = Vec<(String, usize, u64)>;

/// Returns the median of the figures of an operation and a size, in microseconds.
fn median(measured: &Measured, operation: &str, bytes: usize) -> Option<f64> {
    let mut figures: Vec<_> =
        measured.iter().filter(|(name, size, _)| name == operation && *size == bytes).map(|(_, _, ns)| *ns).collect();
    figures.sort_unstable();
    figures.get(figures.len() / 2).map(|ns| *ns as f64 / 1e3)
}

/// Returns the rows of a file.
fn earlier(text: &str) -> Result<Measured, String> {
    let mut measured = Vec::new();
    for (i, line) in text.lines().enumerate().skip(1) {
        let fields: Vec<_> = line.split(',').collect();
        let bad = || format!("line {}: `{line}` is no row of figures", i + 1);
        let [_, operation, bytes, _, median, ..] = fields[..] else { return Err(bad()) };
        let (bytes, median) = (bytes.parse().map_err(|_| bad())?, median.parse().map_err(|_| bad())?);
        measured.push((operation.replace(';', ","), bytes, median));
    }
    Ok(measured)
}
