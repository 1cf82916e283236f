//! The residency map: for each allocation of the driver, how much of it was on the device, over time.

use super::chart::{LEFT, WIDTH, x};
use super::units::{bytes, time};
use crate::figures::DryRun;
use crate::timeline::TimelineRow;
use std::fmt::{self, Write};

const ROW: f64 = 14.0;

pub(super) fn residency(run: &DryRun, out: &mut String) -> fmt::Result {
    let map = &run.residency;
    if map.rows.is_empty() {
        return writeln!(out, "<p class=\"soft\">No memory was allocated from the driver.</p>");
    }
    let height = ROW * map.rows.len() as f64 + 8.0;
    writeln!(out, "<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\">")?;
    writeln!(out, "<title>LocationBytes over virtual time, simulated: green on the device, grey on the host</title>")?;
    for (i, row) in map.rows.iter().enumerate() {
        let y = 4.0 + ROW * i as f64;
        let label = format!("{} {}", row.kind, bytes(row.bytes));
        writeln!(out, "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{label}</text>", LEFT - 6.0, y + 10.0)?;
        for (first, end) in runs(row) {
            cell(run, row, first, end, y, out)?;
        }
    }
    writeln!(out, "</svg>")?;
    if map.left_out > 0 {
        let (shown, left_out) = (map.rows.len(), map.left_out);
        writeln!(out, "<p class=\"soft\">The {shown} largest; {left_out} smaller ones are left out.</p>")?;
    }
    Ok(())
}

/// Returns the ranges of moments at which nothing changed.
fn runs(row: &TimelineRow) -> Vec<(usize, usize)> {
    let mut runs: Vec<(usize, usize)> = Vec::new();
    for (i, at) in row.at.iter().enumerate().filter(|(_, at)| at.is_some()) {
        match runs.last_mut() {
            Some((first, end)) if *end == i && row.at[*first] == *at => *end = i + 1,
            _ => runs.push((i, i + 1)),
        }
    }
    runs
}

/// Draws a range of time: the share on the device from below, the share on the host from above.
fn cell(run: &DryRun, row: &TimelineRow, first: usize, end: usize, y: f64, out: &mut String) -> fmt::Result {
    let [device, host] = row.at[first].unwrap_or_default();
    let at = &run.residency.at_ns;
    let (from, to) = (at[first], at.get(end).copied().unwrap_or(run.virtual_ns));
    let (left, width) = (x(from, run), (x(to, run) - x(from, run)).max(0.5));
    let full = row.bytes.max(device).max(host).max(1) as f64;
    let [on_device, on_host] = [device, host].map(|n| (ROW - 2.0) * n as f64 / full);
    write!(out, "<g><title>allocation {}, {} to {}: ", row.allocation, time(from), time(to))?;
    write!(out, "{} on the device, {} on the host</title>", bytes(device), bytes(host))?;
    for (class, top, height) in [("on-host", y, on_host), ("on-device", y + ROW - 2.0 - on_device, on_device)]
        .into_iter()
        .filter(|(.., h)| *h >= 0.05)
    {
        write!(out, "<rect class=\"{class}\" x=\"{left:.1}\" y=\"{top:.1}\" ")?;
        write!(out, "width=\"{width:.1}\" height=\"{height:.1}\"/>")?;
    }
    writeln!(out, "</g>")
}
