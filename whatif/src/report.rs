//! [`WhatIfReport`]: runs side by side, as text, JSON, or one page of HTML.

mod chart;
mod html;
mod map;
mod text;

use crate::dry_run::DryRun;
use serde::Serialize;
use std::fmt;

/// The note at the beginning of every report.
const NOTE: &str =
    "Simulated: bytes, blocks, faults and evictions are exact under the model's rules; times are the model's.";

/// Runs of one program or trace, side by side.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct WhatIfReport {
    /// Always true, because nothing in a report was measured.
    pub simulated: bool,
    /// The name of the program or trace.
    pub subject: String,
    /// The results of the runs.
    pub runs: Vec<DryRun>,
}

/// The format of a written report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Text for people, in a terminal.
    Text,
    /// JSON for programs.
    Json,
    /// One page of HTML with charts, which needs no other file.
    Html,
}

impl WhatIfReport {
    /// Creates a report on the program or trace with the name `subject`.
    pub fn new(subject: impl Into<String>, runs: Vec<DryRun>) -> Self {
        Self { simulated: true, subject: subject.into(), runs }
    }

    /// Returns the report, written in a format.
    pub fn write(&self, format: Format) -> String {
        match format {
            Format::Text => self.to_string(),
            Format::Json => {
                // A report consists of numbers, strings and lists, so JSON can represent all of it.
                let mut text = serde_json::to_string_pretty(self).expect("a report is plain data");
                text.push('\n');
                text
            }
            Format::Html => html::page(self),
        }
    }

    /// Returns the rows of the comparison: the name of a figure, and its value in each run.
    fn rows(&self) -> Vec<(&'static str, Vec<String>)> {
        let row = |name, value: fn(&DryRun) -> String| (name, self.runs.iter().map(value).collect());
        let numbers = (1..=self.runs.len()).map(|number| format!("run {number}")).collect();
        vec![
            ("simulated", numbers),
            row("device", |run| format!("{}, {}", run.device, bytes(run.capacity))),
            row("stack", |run| run.stack.clone()),
            row("limit", |run| run.limit.map_or("none".into(), bytes)),
            row("fits", |run| if run.fits() { "yes".into() } else { "no".into() }),
            row("allocations", |run| run.requests.to_string()),
            row("out of memory", |run| run.out_of_memory_count.to_string()),
            row("peak requested", |run| bytes(run.peak_requested)),
            row("peak reserved", |run| bytes(run.peak_reserved)),
            row("peak on device", |run| bytes(run.peak_device)),
            row("migrated to device", |run| bytes(run.migrated_to_device)),
            row("migrated to host", |run| bytes(run.migrated_to_host)),
            row("device faults", |run| run.faults.to_string()),
            row("host faults", |run| run.host_faults.to_string()),
            row("evictions", |run| run.evictions.to_string()),
            row("virtual time", |run| time(run.virtual_ns)),
        ]
    }
}

/// Prints the report as text.
impl fmt::Display for WhatIfReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        text::report(self, f)
    }
}

/// Prints one run as text.
impl fmt::Display for DryRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        text::run(self, f)
    }
}

/// Formats bytes for people, exactly if they are a whole number of the unit.
fn bytes(n: u64) -> String {
    const UNITS: [(&str, u32); 4] = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];
    match UNITS.iter().find(|(_, shift)| n >> shift > 0) {
        Some((unit, shift)) if n.trailing_zeros() >= *shift => format!("{} {unit}", n >> shift),
        Some((unit, shift)) => format!("{:.2} {unit}", n as f64 / f64::from(*shift).exp2()),
        None => format!("{n} B"),
    }
}

fn time(ns: u64) -> String {
    match ns {
        0..1_000 => format!("{ns} ns"),
        1_000..1_000_000 => format!("{:.1} us", ns as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.2} ms", ns as f64 / 1e6),
        _ => format!("{:.3} s", ns as f64 / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_for_people() {
        assert_eq!(
            [0, 1023, 1024, 1536, 5 << 20, (5 << 20) + 1, 80 << 30].map(bytes),
            ["0 B", "1023 B", "1 KiB", "1.50 KiB", "5 MiB", "5.00 MiB", "80 GiB"]
        );
        assert_eq!([999, 1_500, 2_000_000, 61_000_000_000].map(time), ["999 ns", "1.5 us", "2.00 ms", "61.000 s"]);
    }
}
