//! Replays an allocation trace in RMM's log format on any stack.
//!
//! ```console
//! $ cargo run --release --example replay -- benches/traces/resnet.csv.xz --stack "device | pool"
//! ```

mod common;

use clap::{Parser, ValueEnum};
use cumem::sim::Profile;
use cumem::{Device, DeviceError, LayerExt};
use cumem_adaptors::statistics::leaf_statistics;
use cumem_adaptors::{AnyStack, PoolState, StackSpec};
use cumem_replay::{Figures, Replay, Trace};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;
use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

/// Replays an allocation trace (Thread,Time,Action,Pointer,Size,Stream; plain or .xz) on a stack.
///
/// Each logged stream is a stream of the device. All operations are made by one thread, in logged order. A
/// first pass warms up; the time is the median of the passes after it.
#[derive(Parser)]
struct Args {
    /// The trace.
    trace: PathBuf,
    /// The stack to allocate from: a leaf (device, async, virtual, managed, pinned, host), then adaptors.
    #[arg(long, value_name = "SPEC", default_value = "managed | pool | limit(80%) | statistics | prefetch")]
    stack: String,
    /// The device: a GPU, a simulated device, or a GPU if there is one.
    #[arg(long, value_enum, default_value_t = On::Auto)]
    device: On,
    /// Passes to measure, after the first.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    repeat: u16,
    /// How to print the result: for people, or one line of JSON.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

#[derive(Clone, Copy, ValueEnum)]
enum On {
    Auto,
    Cuda,
    Sim,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Text,
    Json,
}

/// The figures, as one line of JSON.
#[derive(Serialize)]
struct Report<'a> {
    trace: &'a str,
    stack: String,
    device: String,
    operations: usize,
    ns_per_operation: f64,
    peak_requested_bytes: u64,
    peak_reserved_bytes: u64,
    /// Only for managed memory, which occupies no memory before its first use.
    #[serde(skip_serializing_if = "Option::is_none")]
    peak_touched_bytes: Option<u64>,
    out_of_memory: u64,
}

fn main() -> ExitCode {
    common::main(|args: Args| run(&args))
}

fn run(args: &Args) -> Result<(), Box<dyn Error>> {
    let spec = StackSpec::parse(&args.stack)?;
    let trace = Trace::read(&args.trace)?;
    trace.gaps().into_iter().for_each(|gaps| eprintln!("warning: {gaps}"));
    let device = open(args.device)?;
    // Statistics directly over the leaf count the allocations of the leaf. Only calls that reach the leaf pay for them.
    let stack = spec.clone().with_leaf_statistics().build(&device)?;

    let bar = progress_bar(args.format);
    let figures = Replay::new(&trace)
        .repeat(args.repeat.into())
        .on_progress(|progress| {
            bar.set_length(progress.total);
            bar.set_position(progress.done);
        })
        .run(&stack)?;
    bar.finish_and_clear();

    let report = Report {
        trace: trace.name(),
        stack: spec.to_string(),
        device: device.to_string(),
        operations: trace.operations(),
        ns_per_operation: (figures.ns_per_operation() * 100.0).round() / 100.0,
        peak_requested_bytes: trace.peak_requested_bytes(),
        peak_reserved_bytes: peak_reserved_bytes(&stack),
        peak_touched_bytes: peak_touched_bytes(&stack),
        out_of_memory: figures.out_of_memory(),
    };
    match args.format {
        Format::Json => println!("{}", serde_json::to_string(&report)?),
        Format::Text => print(&report, &trace, &figures, device.is_simulated()),
    }
    Ok(())
}

fn open(on: On) -> Result<Device, DeviceError> {
    Ok(match on {
        On::Auto => Device::first_or_simulated()?,
        On::Cuda => Device::open(0)?,
        On::Sim => Device::simulated(Profile::default())?,
    })
}

/// Returns a progress bar on standard error, which draws only on a terminal.
fn progress_bar(format: Format) -> ProgressBar {
    let target = match format {
        Format::Text => ProgressDrawTarget::stderr(),
        Format::Json => ProgressDrawTarget::hidden(),
    };
    let style = ProgressStyle::with_template("{bar:40} {human_pos} of {human_len} operations, {eta} left");
    let style = style.expect("the template is a constant");
    ProgressBar::with_draw_target(Some(0), target).with_style(style)
}

/// Returns the peak of the leaf's allocations. The innermost statistics stand directly over the leaf.
fn peak_reserved_bytes(stack: &AnyStack) -> u64 {
    leaf_statistics(stack).iter().map(|leaf| leaf.counts().peak_bytes.max(0).unsigned_abs()).sum()
}

/// Returns how much of the leaf's memory was ever in a block, in the 2 MiB steps of the pool over the leaf. Returns
/// `None` without such a pool, and for a leaf whose memory is occupied from the allocation on.
fn peak_touched_bytes(stack: &AnyStack) -> Option<u64> {
    let pools = stack.find_all::<PoolState>();
    let pool = pools.last().filter(|_| matches!(stack, AnyStack::OverManaged(_)))?;
    Some(pool.stats().peak_touched as u64)
}

fn print(report: &Report<'_>, trace: &Trace, figures: &Figures, simulated: bool) {
    let count = |n: usize, one: &str, many: &str| format!("{n} {}", if n == 1 { one } else { many });
    println!("trace   {}", report.trace);
    println!(
        "        {} by {} on {}",
        count(report.operations, "operation", "operations"),
        count(trace.threads().len(), "thread", "threads"),
        count(trace.streams().len(), "stream", "streams"),
    );
    println!("stack   {}", report.stack);
    println!("device  {}", report.device);
    println!(
        "time    {} ns per operation, median of {} after the first, which took {:.2}",
        report.ns_per_operation,
        count(figures.passes().len(), "pass", "passes"),
        figures.first().ns_per_operation(),
    );
    if simulated {
        println!("        (host time in the stack and in the model of the device; a GPU's driver takes its own time)");
    }
    println!(
        "memory  {} bytes requested at most, {} reserved at most in all passes: {:.3} times as much",
        report.peak_requested_bytes,
        report.peak_reserved_bytes,
        report.peak_reserved_bytes as f64 / report.peak_requested_bytes.max(1) as f64,
    );
    if let Some(touched) = report.peak_touched_bytes {
        println!(
            "        {touched} bytes of that were used, and occupied memory: {:.3} times as much",
            touched as f64 / report.peak_requested_bytes.max(1) as f64,
        );
    }
    println!("failed  {} because memory ran out", count(report.out_of_memory as usize, "allocation", "allocations"));
}
