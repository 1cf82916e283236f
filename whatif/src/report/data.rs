//! [`WhatIfReport`]: runs side by side.

use super::units::{bytes, time};
use crate::figures::DryRun;
use serde::Serialize;

/// Runs of one program or trace, side by side.
///
/// ```
/// use cumem::sim::Profile;
/// use cumem_replay::Trace;
/// use cumem_whatif::{Format, Setting, WhatIfReport, replay};
///
/// let log = "Thread,Time,Action,Pointer,Size,Stream\n1,0,allocate,0x100,6291456,0\n1,1,free,0x100,6291456,0\n";
/// let trace = Trace::parse(log.as_bytes(), "small.csv")?;
/// let small = replay(&trace, &Setting::new(Profile::tiny(4 << 20), "device".parse()?))?;
/// let large = replay(&trace, &Setting::new(Profile::tiny(8 << 20), "device".parse()?))?;
/// let report = WhatIfReport::new("small.csv", vec![small, large]);
/// assert!(report.write(Format::Text).contains("peak requested"));
/// assert!(report.write(Format::Html).starts_with("<!DOCTYPE html>"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
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

    /// Returns the rows of the comparison: the name of a figure, and its value in each run.
    pub(super) fn rows(&self) -> Vec<(&'static str, Vec<String>)> {
        let row = |name, value: fn(&DryRun) -> String| (name, self.runs.iter().map(value).collect());
        let numbers = (1..=self.runs.len()).map(|number| format!("run {number}")).collect();
        vec![
            ("simulated", numbers),
            row("device", |run| format!("{}, {}", run.device, bytes(run.capacity))),
            row("stack", |run| run.stack.clone()),
            row("limit", |run| run.limit.map_or("none".into(), bytes)),
            row("fits", |run| run.verdict().into()),
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
