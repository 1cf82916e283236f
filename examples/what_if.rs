//! The memory that a trace needs on another device, under another limit, or on another stack. Everything is simulated.
//!
//! ```console
//! $ cargo run --release --example what_if -- benches/traces/resnet.csv.xz \
//!       --profile h100-pcie5,gtx1080ti:1GiB --stack "device | pool,managed | pool | prefetch" --limit none,80%
//! ```

mod common;

use clap::{Parser, ValueEnum};
use cumem::sim::Profile;
use cumem_adaptors::{Size, StackSpec};
use cumem_replay::Trace;
use cumem_whatif::{Format, Setting, WhatIfReport, replay};
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Replays an allocation trace on simulated devices, under limits and on stacks, and prints the figures side by side.
///
/// A trace does not record how its blocks are used. With --touch the device writes each block once after its
/// allocation, so that managed memory faults, migrates and is evicted.
#[derive(Parser)]
struct Args {
    /// The trace (Thread,Time,Action,Pointer,Size,Stream; plain or .xz).
    trace: PathBuf,
    /// Devices: names of profiles, each optionally with another capacity; separated by commas.
    #[arg(long, value_name = "NAME[:SIZE],...", default_value = "h100-pcie5")]
    profile: String,
    /// Stacks: a leaf, then adaptors; separated by commas.
    #[arg(long, value_name = "SPEC,...", default_value = "device | pool")]
    stack: String,
    /// Limits on what a stack allocates from the driver: sizes, shares of the device, or `none`, separated by commas.
    #[arg(long, value_name = "SIZE,...", default_value = "none")]
    limit: String,
    /// The device writes each block once after its allocation.
    #[arg(long)]
    touch: bool,
    /// How to print the result.
    #[arg(long, value_enum, default_value_t = Print::Text)]
    format: Print,
}

#[derive(Clone, Copy, ValueEnum)]
enum Print {
    Text,
    Json,
    Html,
}

fn main() -> ExitCode {
    common::main(|args: Args| {
        print!("{}", run(&args)?);
        Ok(())
    })
}

fn run(args: &Args) -> Result<String, Box<dyn Error>> {
    let settings = settings(args)?;
    let trace = Trace::read(&args.trace)?;
    trace.gaps().into_iter().for_each(|gaps| eprintln!("warning: {gaps}"));
    let runs = settings.iter().map(|setting| replay(&trace, setting)).collect::<Result<_, _>>()?;
    // Only the file name, so that the report does not depend on the folder of the trace.
    let name = args.trace.file_name().map(Path::new).unwrap_or(&args.trace).display().to_string();
    let format = match args.format {
        Print::Text => Format::Text,
        Print::Json => Format::Json,
        Print::Html => Format::Html,
    };
    Ok(WhatIfReport::new(name, runs).write(format))
}

/// Returns the settings: each device with each stack under each limit.
fn settings(args: &Args) -> Result<Vec<Setting>, Box<dyn Error>> {
    let mut settings = Vec::new();
    for profile in split(&args.profile).into_iter().map(profile) {
        let profile = profile?;
        for stack in split(&args.stack).into_iter().map(StackSpec::parse) {
            let stack = stack?;
            for limit in split(&args.limit) {
                let setting = Setting::new(profile.clone(), stack.clone());
                let setting = if args.touch { setting.touched() } else { setting };
                settings.push(match limit {
                    "none" => setting,
                    size => setting.limit(size.parse::<Size>()?),
                });
            }
        }
    }
    Ok(settings)
}

fn profile(text: &str) -> Result<Profile, Box<dyn Error>> {
    let (name, capacity) = text.split_once(':').map_or((text, None), |(name, size)| (name, Some(size)));
    let unknown = || format!("there is no profile `{name}`; there are {}", Profile::NAMES.join(", "));
    let profile = Profile::named(name).ok_or_else(unknown)?;
    let Some(capacity) = capacity else { return Ok(profile) };
    let bytes = capacity.parse::<Size>()?.bytes_of(profile.capacity.value as usize) as u64;
    Ok(profile.with_capacity(bytes))
}

/// Splits at commas, except at those in parentheses.
fn split(text: &str) -> Vec<&str> {
    let mut depth = 0;
    let parts = text.split(|c| {
        depth += i32::from(c == '(') - i32::from(c == ')');
        c == ',' && depth == 0
    });
    parts.map(str::trim).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commas_in_parentheses_are_the_stack_s_own() {
        let text = "device | pool(initial=1MiB, maximum=1GiB), managed | pool";
        assert_eq!(split(text), ["device | pool(initial=1MiB, maximum=1GiB)", "managed | pool"]);
        let all =
            ["what_if", "trace", "--profile", "a100, gtx1080ti:1GiB", "--stack", text, "--limit", "none,80%,1GiB"];
        assert_eq!(settings(&Args::parse_from(all)).unwrap().len(), 12);
    }

    #[test]
    fn errors_name_their_cause() {
        for (option, value, message) in [
            ("--profile", "h200", "there is no profile `h200`; there are h100-pcie5, "),
            ("--profile", "a100:much", "`much` is no size"),
            ("--stack", "device | pol", "there is no adaptor `pol`"),
            ("--limit", "all", "`all` is no size"),
        ] {
            let args = Args::parse_from(["what_if", "trace", option, value]);
            let error = settings(&args).unwrap_err().to_string();
            assert!(error.contains(message), "{error}");
        }
    }
}
