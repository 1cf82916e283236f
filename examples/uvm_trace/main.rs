//! The page faults and transfers of an access order from a file, by the driver's rules, on a simulated device.
//!
//! ```console
//! $ cargo run --release --example uvm_trace -- examples/data/uvm/p1.csv
//! ```
//!
//! A file has lines `alloc,NAME,BYTES` and `access,PROCESSOR,NAME,OFFSET,BYTES,read|write`, with processor `cpu` or
//! `gpu0` and decimal numbers; `#` starts a comment. An access touches each 4 KiB page of its bytes, ascending. The
//! output is one line for each event, in order: `fault,PROCESSOR,NAME,OFFSET` or `transfer,h2d|d2h,NAME,OFFSET,BYTES`.
//! Totals follow, those of transfers with their bytes.

#[path = "../common/mod.rs"]
mod common;
mod trace;

use clap::Parser;
use cumem::sim::Profile;
use std::error::Error;
use std::io::{BufWriter, Write, stdout};
use std::path::PathBuf;
use std::process::ExitCode;
use trace::{Event, Totals, Trace};

/// Prints the page faults and transfers that the simulated driver makes of an access order.
#[derive(Parser)]
struct Args {
    /// The file of accesses.
    accesses: PathBuf,
    /// The simulated device.
    #[arg(long, value_name = "NAME", default_value = "gtx1080ti", value_parser = profile)]
    profile: Profile,
}

fn profile(name: &str) -> Result<Profile, String> {
    Profile::named(name).ok_or_else(|| format!("expected one of {}", Profile::NAMES.join(", ")))
}

fn main() -> ExitCode {
    common::main(|args: Args| {
        let events = run(&args).map_err(|error| format!("{}: {error}", args.accesses.display()))?;
        Ok(print(&events)?)
    })
}

fn run(args: &Args) -> Result<Vec<Event>, Box<dyn Error>> {
    // Bytes that are not UTF-8 become an error of their line.
    let text = std::fs::read(&args.accesses)?;
    Ok(Trace::parse(&String::from_utf8_lossy(&text))?.run(args.profile.clone())?)
}

fn print(events: &[Event]) -> std::io::Result<()> {
    let mut out = BufWriter::new(stdout().lock());
    for event in events {
        writeln!(out, "{event}")?;
    }
    writeln!(out, "{}", Totals::of(events))?;
    out.flush()
}
