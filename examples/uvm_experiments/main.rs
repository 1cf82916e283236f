//! The simulated device in the 22 validation experiments: expected and simulated figures and their error, with misses.
//!
//! ```console
//! $ cargo run --release --example uvm_experiments
//! $ cargo run --release --example uvm_experiments -- --format json
//! ```
//!
//! Experiments 8 to 16 have figures. The profiles were fitted to those of 8, 9 and 13; the others are predictions.

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

/// Prints the results of the 22 validation experiments on the simulated device, beside the expected ones.
#[derive(Parser)]
struct Args {
    /// Output format: a table, or one line of JSON.
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
