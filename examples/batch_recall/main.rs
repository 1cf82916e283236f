//! Batch recall through managed memory: finds for each vector of a batch its nearest neighbour in the batch, by cosine
//! similarity. Compares all ways to get the batches to the device.
//!
//! ```console
//! $ cargo run --release --example batch_recall                                    # 1,797 handwritten digits a batch
//! $ cargo run --release --example batch_recall -- --batch-mib 100 --batches 16    # large batches, for a GPU
//! $ cargo run --release --example batch_recall -- --oversubscribe --plot target/oversubscribe.svg
//! ```
//!
//! On a GPU a kernel does the work (`examples/kernels/cosine.cu`), on a simulated device the host does. In both cases
//! the results are checked against exact integer arithmetic. Times on a simulated device are simulated.

mod bars;
mod batches;
#[path = "../common/mod.rs"]
mod common;
mod digits;
mod exact;
mod kernels;
mod modes;
mod oversubscribe;
mod plot;

use batches::Batches;
use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};
use cumem::error::HumanBytes;
use cumem::{Device, LayerExt, Stream};
use cumem_adaptors::{AnyStack, StackSpec, StatisticsState, cumem};
use digits::Digits;
use modes::{Job, Mode, Run};
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Finds nearest neighbours by cosine similarity, through a stack over managed memory.
#[derive(Parser)]
#[command(name = "batch_recall")]
struct Args {
    /// The stack to allocate from; it must stand on `managed`.
    #[arg(long, default_value = "managed | pool(initial=64MiB) | limit(80%) | statistics | prefetch")]
    stack: String,
    /// The device: a GPU, the simulated one, or a GPU if there is one.
    #[arg(long, value_parser = ["auto", "cuda", "sim"], default_value = "auto")]
    device: String,
    /// Number of batches.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    batches: u32,
    /// Size of a batch in MiB, of vectors with 1,024 elements. Without this option each batch is the 1,797 digits, with
    /// 64 elements each. All batches together have at most 4 GiB.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1024))]
    batch_mib: Option<u32>,
    /// The ways to get the batches to the device.
    #[arg(long = "mode", value_enum, default_values_t = Mode::ALL)]
    modes: Vec<Mode>,
    /// Compares instead the cost of more data than memory on small simulated devices, and ways to reduce it.
    #[arg(long, conflicts_with_all = ["stack", "device", "batches", "batch_mib", "modes"])]
    oversubscribe: bool,
    /// File for a plot of the comparison, as SVG. Without --oversubscribe, the default is `target/batch_recall.svg`.
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
}

impl Args {
    /// Refuses more than 4 GiB of batches.
    fn check(&self, digits: &Digits) -> Result<(), clap::Error> {
        let each = match self.batch_mib {
            Some(mib) => (mib as usize) << 20,
            None => digits.len() * digits.dimensions() * size_of::<f32>(),
        };
        if each.saturating_mul(self.batches as usize) <= 4 << 30 {
            return Ok(());
        }
        let (batches, each) = (self.batches, HumanBytes(each));
        let message = format!("{batches} batches of {each} are larger than 4 GiB together");
        Err(Self::command().error(ErrorKind::ValueValidation, message))
    }
}

fn main() -> ExitCode {
    common::main(run)
}

fn run(args: Args) -> Result<(), Box<dyn Error>> {
    if args.oversubscribe {
        return oversubscribe::compare(&Digits::read()?, args.plot.as_deref());
    }
    let digits = Digits::read()?;
    args.check(&digits)?;
    let device = match args.device.as_str() {
        "cuda" => Device::open(0)?,
        "sim" => Device::simulated(cumem::sim::Profile::default())?,
        _ => Device::first_or_simulated()?,
    };
    // `Display` of a specification's error marks the word that is wrong.
    let stack = match StackSpec::parse(&args.stack).and_then(|spec| spec.build(&device)) {
        Ok(AnyStack::OverManaged(stack)) => stack,
        Ok(other) => return Err(format!("{other} is not a stack over managed memory; start it with `managed`").into()),
        Err(error) => return Err(error.into()),
    };
    let batches = match args.batch_mib {
        Some(mib) => Batches::wide(&digits, args.batches as usize, (mib as usize) << 20),
        None => Batches::of_digits(&digits, args.batches as usize),
    };
    println!("device  {device}");
    println!("stack   {stack}");
    println!(
        "input   {} batches of {} vectors of {} elements, {:.1} MiB each",
        batches.batches,
        batches.count,
        batches.dimensions,
        batches.bytes_per_batch() as f64 / f64::from(1 << 20)
    );

    let stream = Stream::new(&device)?;
    let kernels = kernels::Kernels::load(&device)?;
    let job = Job { batches: &batches, kernels: &kernels, stream: &stream, stack: &stack };
    let mut runs = Vec::new();
    for mode in args.modes {
        runs.push(job.run(mode)?);
    }
    table(&runs, device.is_simulated());
    if let Some(counters) = stack.find::<StatisticsState>() {
        println!("memory  {}", counters.counts());
    }
    let clock = if device.is_simulated() { "simulated" } else { "measured" };
    let title = format!(
        "batch_recall, {} x {:.1} MiB, {}, {clock}",
        batches.batches,
        batches.bytes_per_batch() as f64 / f64::from(1 << 20),
        device.attributes().name
    );
    let plot = args.plot.unwrap_or_else(|| "target/batch_recall.svg".into());
    write(&plot, &bars::svg(&title, &runs))?;
    println!("plot    {}", plot.display());

    check(&batches, &runs, args.batch_mib.is_none())?;
    if let (None, Some(run)) = (args.batch_mib, runs.first()) {
        let right = (0..digits.len()).filter(|&i| digits.label(i) == digits.label(run.index[i] as usize)).count();
        println!("recall: {right} of {}", digits.len());
    }
    Ok(())
}

fn table(runs: &[Run], simulated: bool) {
    let clock = if simulated { "simulated, virtual time" } else { "by the host's clock" };
    println!(
        "\n{:<16} {:>12}  {:>8}   from the first batch to the results on the host, {clock}",
        "mode", "ms", "faults"
    );
    for run in runs {
        let faults = run.faults.map_or("-".into(), |faults| faults.to_string());
        println!("{:<16} {:>12.3}  {faults:>8}", run.mode.name(), run.time.as_secs_f64() * 1e3);
    }
    println!();
    if let Some(report) = runs.iter().find_map(|run| run.auto.as_ref()) {
        println!("auto    {report}");
    }
    let time = |mode| runs.iter().find(|run| run.mode == mode).map(|run| run.time.as_secs_f64() * 1e3);
    if let (Some(faulting), Some(auto), Some(resident)) =
        (time(Mode::Naive), time(Mode::Automatic), time(Mode::Resident))
    {
        let stall = faulting - resident;
        // A share of a stall near zero has no meaning.
        if stall < resident / 50.0 {
            println!("hidden  no stall to hide: t_faulting {faulting:.3} ms, t_resident {resident:.3} ms");
        } else {
            println!(
                "hidden  (t_faulting - t_auto) / (t_faulting - t_resident) = ({faulting:.3} - {auto:.3}) / \
                 ({faulting:.3} - {resident:.3}) = {:.1} %",
                (faulting - auto) / stall * 100.0
            );
        }
    }
    if let Some(run) = runs.first() {
        println!("result  mean similarity of the nearest neighbours {:.4}", run.mean_similarity);
    }
}

/// Checks that all modes agree, and that the neighbours are exact: for each vector of the digits, and for some vectors
/// of large batches.
fn check(batches: &Batches, runs: &[Run], every: bool) -> Result<(), Box<dyn Error>> {
    let Some((first, others)) = runs.split_first() else { return Ok(()) };
    if let Some(run) = others.iter().find(|run| run.index != first.index) {
        return Err(
            format!("the neighbours of `{}` differ from those of `{}`", run.mode.name(), first.mode.name()).into()
        );
    }
    let step = if every { 1 } else { (batches.count / 3).max(1) };
    let of_batches = if every { 1 } else { batches.batches };
    let mut checked = 0;
    for batch in (0..of_batches).step_by(of_batches.div_ceil(2)) {
        for query in (0..batches.count).step_by(step) {
            let expected = exact::nearest_neighbour(batches.batch(batch), batches.dimensions, query);
            let found = first.index[batch * batches.count + query];
            if found != expected {
                return Err(format!("batch {batch}: vector {query} is nearest to {expected}, not to {found}").into());
            }
            checked += 1;
        }
    }
    println!("check   {checked} neighbours equal those of exact integer arithmetic on the host");
    Ok(())
}

fn write(path: &Path, text: &str) -> Result<(), Box<dyn Error>> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    Ok(std::fs::write(path, text)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_of_more_than_4_gib_are_a_usage_error() {
        let digits = Digits::read().unwrap();
        let check = |arguments: &[&str]| Args::parse_from([&[""], arguments].concat()).check(&digits);
        for fitting in [&["--batches", "9336"][..], &["--batches", "4", "--batch-mib", "1024"]] {
            assert!(check(fitting).is_ok(), "{fitting:?}");
        }
        for large in
            [&["--batches", "9337"][..], &["--batches", "4294967295"], &["--batches", "5", "--batch-mib", "1024"]]
        {
            let error = check(large).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{large:?}");
            assert!(error.to_string().contains("are larger than 4 GiB together"), "{error}");
        }
    }
}
