//! Text for a terminal.

use super::data::WhatIfReport;
use super::units::{NOTE, bytes, time};
use crate::figures::DryRun;
use cumem::error::Plural;
use std::fmt::{self, Formatter};

/// Allocations out of memory that are listed for each run.
const LISTED: usize = 5;

pub(super) fn report(report: &WhatIfReport, f: &mut Formatter<'_>) -> fmt::Result {
    writeln!(f, "{}", report.subject)?;
    writeln!(f, "{NOTE}\n")?;
    let rows = report.rows();
    let widths: Vec<_> = (0..report.runs.len())
        .map(|run| rows.iter().map(|(_, values)| values[run].chars().count()).max().unwrap_or(0))
        .collect();
    for (name, values) in &rows {
        let mut line = format!("{name:<20}");
        for (value, width) in values.iter().zip(&widths) {
            line += &format!("  {value:<width$}");
        }
        writeln!(f, "{}", line.trim_end())?;
    }
    for (i, run) in report.runs.iter().enumerate() {
        writeln!(f, "\nrun {}: {} on {}", i + 1, run.stack, run.device)?;
        details(run, f)?;
    }
    Ok(())
}

pub(super) fn run(run: &DryRun, f: &mut Formatter<'_>) -> fmt::Result {
    let limit = run.limit.map_or(String::new(), |limit| format!(", limited to {}", bytes(limit)));
    writeln!(f, "{} on {}, {} (simulated){limit}", run.stack, run.device, bytes(run.capacity))?;
    writeln!(f, "  fits: {}", run.verdict())?;
    writeln!(
        f,
        "  peaks: {} requested, {} reserved, {} on the device; virtual time {}",
        bytes(run.peak_requested),
        bytes(run.peak_reserved),
        bytes(run.peak_device),
        time(run.virtual_ns)
    )?;
    writeln!(
        f,
        "  moved: {} to the device, {} to the host; {} faults of the device, {} of the host, {} evictions",
        bytes(run.migrated_to_device),
        bytes(run.migrated_to_host),
        run.faults,
        run.host_faults,
        run.evictions
    )?;
    details(run, f)
}

fn details(run: &DryRun, f: &mut Formatter<'_>) -> fmt::Result {
    writeln!(f, "  the device's numbers: {}", run.provenance)?;
    for layer in &run.layers {
        let limit = layer.limit.map_or(String::new(), |limit| format!(" of {}", bytes(limit)));
        writeln!(
            f,
            "  {:<24} allocated {}{limit} in {} at most, {} in all, {} failed",
            layer.layer,
            bytes(layer.peak_bytes),
            Plural(layer.peak_blocks, "block"),
            Plural(layer.total_blocks, "block"),
            Plural(layer.failures, "request")
        )?;
    }
    for point in run.out_of_memory.iter().take(LISTED) {
        let line = point.line.map_or(String::new(), |line| format!(", line {line}"));
        let at = time(point.at.as_nanos() as u64);
        writeln!(f, "  allocation {}{line}, {} at {at}: {}", point.request, bytes(point.bytes), point.error)?;
    }
    let more = run.out_of_memory_count.saturating_sub(LISTED as u64);
    if more > 0 {
        writeln!(f, "  and {more} more that found no memory")?;
    }
    if let Some(error) = &run.error {
        // The error of a refused allocation is listed above.
        match run.out_of_memory.iter().take(LISTED).rev().find(|point| error.contains(&point.error)) {
            Some(point) => writeln!(f, "  the program ended with the error of allocation {}", point.request)?,
            None => writeln!(f, "  the program ended with an error: {error}")?,
        }
    }
    run.left_behind.iter().try_for_each(|left| writeln!(f, "  left behind: {left}"))
}
