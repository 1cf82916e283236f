//! The simulated device against the 22 validation experiments: expected, simulated, error; misses included.
//!
//! ```console
//! $ cargo run --release --example uvm_experiments
//! $ cargo run --release --example uvm_experiments -- --format json
//! ```
//!
//! Of the experiments 8 to 16, which have figures, 8, 9 and 13 are what profiles were fitted to; the others are blind.

#[path = "../common/mod.rs"]
mod common;
mod exact;
mod others;
mod rig;
mod signs;
mod table;
mod timing;
#[allow(dead_code)] // a part of it is uvm_trace's
#[path = "../uvm_trace/trace.rs"]
mod trace;

use clap::{Parser, ValueEnum};
use std::process::ExitCode;

/// Prints what the simulated device makes of the 22 validation experiments, beside what is expected.
#[derive(Parser)]
struct Args {
    /// How to print: a table, or one line of JSON.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    Text,
    Json,
}

fn main() -> ExitCode {
    common::main(|args: Args| {
        let mut rows = Vec::new();
        for part in [exact::rows, timing::rows, others::rows, signs::rows] {
            rows.extend(part()?);
        }
        rows.sort_by_key(|row| row.experiment);
        match args.format {
            Format::Json => println!("{}", serde_json::to_string(&rows)?),
            Format::Text => table::print(&rows),
        }
        Ok(())
    })
}
