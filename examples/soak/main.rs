//! A soak: many threads use stacks of all adaptors at random, verify the contents of their memory, and change options,
//! while driver calls fail.
//!
//! ```console
//! $ cargo run --release --example soak -- --minutes 30
//! $ cargo run --release --example soak -- --minutes 10 --race-detector
//! $ cargo run --release --example soak -- --minutes 8 --device cuda
//! ```
//!
//! The run has rounds of a few seconds. Each round draws a device (a simulated one), stacks with random options, and the
//! driver calls that fail: none, calls that free nothing, or all. The first round has every adaptor. A finding is an
//! error that nothing explains, contents that changed, a counter that is off, something that is left behind, a race, a
//! panic, a thread that hangs, or memory of the process that grows. The exit code is 1 if there is a finding.
//!
//! On a GPU no driver call fails, and a stack holds at most 256 MiB.

mod blocks;
mod buffers;
#[expect(dead_code, reason = "`main` sets a subscriber for all examples, and the soak sets its own")]
#[path = "../common/mod.rs"]
mod common;
mod disturb;
mod figures;
mod graphs;
mod held;
mod managed;
mod plan;
mod resident;
mod round;
mod services;
mod verdict;
mod watchdog;
mod worker;

use clap::Parser;
use cumem::error::HumanBytes;
use cumem::{Device, DeviceError};
use cumem_conformance::Rng;
use figures::Figures;
use indicatif::{ProgressBar, ProgressStyle};
use plan::Plan;
use resident::Resident;
use round::Round;
use std::error::Error;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use tracing_subscriber::filter::LevelFilter;
use watchdog::Watchdog;

/// Runs random work on stacks of all adaptors, and reports everything that must not happen.
#[derive(Parser)]
struct Args {
    /// Minutes of work; parts of a minute are allowed.
    #[arg(long, default_value_t = 0.05)]
    minutes: f64,
    /// The device: the simulated one, or the first GPU.
    #[arg(long, value_parser = ["simulated", "cuda"], default_value = "simulated")]
    device: String,
    /// Seed of all random choices. Threads make the order of operations differ from run to run.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Number of threads.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=256))]
    threads: u32,
    /// Looks for data races between streams. Needs a simulated device.
    #[arg(long)]
    race_detector: bool,
}

fn main() -> ExitCode {
    // Events of all levels are formatted, as in a program that logs them, and written to nowhere: errors of drops, for
    // example, belong to the faults of a round.
    let subscribe = || tracing_subscriber::fmt().with_max_level(LevelFilter::TRACE).with_writer(std::io::sink).init();
    common::main_with(subscribe, run)
}

fn run(args: Args) -> Result<(), Box<dyn Error>> {
    let total = Duration::try_from_secs_f64(args.minutes * 60.0)?;
    let on_gpu = args.device == "cuda";
    if on_gpu && args.race_detector {
        return Err("the race detector needs a simulated device".into());
    }
    let gpu = on_gpu.then(|| Device::open(0)).transpose()?;
    let (figures, mut resident, mut rng) = (Figures::default(), Resident::default(), Rng::new(args.seed));
    let each = (total / 20).clamp(Duration::from_millis(300), Duration::from_secs(4));
    let bar = progress_bar(total)?;
    let watchdog = Watchdog::start(each + Duration::from_secs(300));
    let (start, mut rounds, mut used) = (Instant::now(), 0, Vec::new());
    let log = std::env::temp_dir().join(format!("cumem-soak-{}.csv", std::process::id()));
    while start.elapsed() < total {
        let plan = Plan::draw(rounds, &mut rng, on_gpu, &log);
        watchdog.watch(format!("round {rounds} on {} and {:?}", plan.general, plan.managed));
        let simulated = || Device::simulated(plan.profile.clone());
        let device = gpu.clone().map_or_else(simulated, Ok).map_err(DeviceError::from)?;
        let round = Round {
            plan: &plan,
            device: &device,
            threads: args.threads as usize,
            time: each,
            races: args.race_detector,
            figures: &figures,
        };
        if let Err(error) = round.run(&mut rng) {
            figures.found(format!("round {rounds} on {} did not begin: {error}", plan.general));
        }
        rounds += 1;
        used.extend(gpu.as_ref().and_then(|gpu| gpu.memory_info().ok()).map(|info| info.total - info.free));
        drop(device);
        resident.sample();
        bar.set_position(start.elapsed().as_secs().min(bar.length().unwrap_or(0)));
        bar.set_message(format!("{} operations, {} findings", figures.totals()[0], figures.findings_count()));
    }
    watchdog.stop();
    bar.finish_and_clear();
    if let Some(growth) = resident.growth() {
        figures.found(growth);
    }
    let on = gpu.map_or_else(|| "simulated devices".into(), |gpu| gpu.to_string());
    println!("{on}, {} threads, seed {}, {rounds} rounds, {:.0?}", args.threads, args.seed, start.elapsed());
    report(&figures, &resident, &used);
    match figures.findings_count() {
        0 => Ok(()),
        count => Err(format!("{count} findings").into()),
    }
}

fn progress_bar(total: Duration) -> Result<ProgressBar, Box<dyn Error>> {
    let style = ProgressStyle::with_template("{wide_bar} {elapsed_precise} of {len} s, {msg}")?;
    Ok(ProgressBar::new(total.as_secs().max(1)).with_style(style))
}

/// Prints the tables.
fn report(figures: &Figures, resident: &Resident, used: &[usize]) {
    println!("\n{:<26} {:>12} {:>12} {:>12}", "operation", "done", "refused", "failed");
    for (name, outcomes) in figures.operations() {
        println!("{name:<26} {:>12} {:>12} {:>12}", outcomes.done, outcomes.refused, outcomes.failed);
    }
    println!("\n{:<26} {:>12}", "layer", "rounds");
    for (word, rounds) in figures.layers() {
        println!("{word:<26} {rounds:>12}");
    }
    let [operations, verified, faults, drop_errors] = figures.totals();
    println!("\n{operations} operations, {} verified", HumanBytes(verified as usize));
    println!("{faults} failures of driver calls planned, {drop_errors} errors of drops reported");
    if let Some([first, most, last]) = resident.summary().map(|all| all.map(|bytes| bytes >> 20)) {
        println!("memory of the process: {first} MiB after the first round, at most {most}, {last} at the end");
    }
    if let (Some(first), Some(most), Some(last)) = (used.first(), used.iter().max(), used.last()) {
        let [first, most, last] = [first, most, last].map(|bytes| bytes >> 20);
        println!("memory of the device: {first} MiB after the first round, at most {most}, {last} at the end");
    }
    println!("{} findings", figures.findings_count());
    figures.findings().iter().for_each(|finding| println!("  {finding}"));
}
