//! One page of HTML that needs no other file, readable in light and dark color schemes.

use super::data::WhatIfReport;
use super::units::{NOTE, bytes, time};
use super::{chart, map};
use crate::figures::DryRun;
use std::fmt::{self, Write};

const STYLE: &str = "\
:root { color-scheme: light dark; --ink: #1c2430; --soft: #5c6675; --line: #d5dae1; --back: #ffffff;
  --requested: #2467c9; --reserved: #c77700; --device: #1f8a4c; --host: #9aa4b2; --bad: #c0262d; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ee; --soft: #9aa4b2; --line: #3a424e; --back: #14181e;
  --requested: #6aa5f8; --reserved: #f0a63c; --device: #4cc17e; --host: #5c6675; --bad: #ff6b70; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--back); max-width: 62rem;
  margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.1rem; margin-top: 2.2rem; } h3 { font-size: 1rem; }
.note { border-left: 4px solid var(--reserved); padding: .2rem .8rem; color: var(--soft); }
.scroll { overflow-x: auto; } table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .2rem .8rem .2rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
.no { color: var(--bad); font-weight: 600; } .soft { color: var(--soft); }
svg { width: 100%; height: auto; } svg text { font: 11px system-ui, sans-serif; fill: var(--soft); }
.axis { stroke: var(--line); } .requested { stroke: var(--requested); } .reserved { stroke: var(--reserved); }
.line { fill: none; stroke-width: 1.5; } .capacity { stroke: var(--bad); stroke-dasharray: 5 4; }
.oom { stroke: var(--bad); } .device { stroke: var(--device); } .on-device { fill: var(--device); }
.on-host { fill: var(--host); } .key-requested { fill: var(--requested); } .key-reserved { fill: var(--reserved); }
.key-oom { fill: var(--bad); }
";

/// Returns the page.
pub(super) fn page(report: &WhatIfReport) -> String {
    let mut page = String::new();
    // Writing to a string cannot fail.
    write(report, &mut page).expect("a string takes everything");
    page
}

fn write(report: &WhatIfReport, out: &mut String) -> fmt::Result {
    let subject = escape(&report.subject);
    writeln!(out, "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>")?;
    writeln!(out, "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>")?;
    writeln!(out, "<title>What if: {subject}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>")?;
    writeln!(out, "<h1>What if: {subject}</h1>\n<p class=\"note\">{NOTE}</p>")?;
    table(report, out)?;
    for (i, run) in report.runs.iter().enumerate() {
        section(i + 1, run, out)?;
    }
    writeln!(out, "</body>\n</html>")
}

fn table(report: &WhatIfReport, out: &mut String) -> fmt::Result {
    writeln!(out, "<div class=\"scroll\"><table>")?;
    for (name, values) in report.rows() {
        write!(out, "<tr><th>{name}</th>")?;
        for value in values {
            let class = if name == "fits" && value == "no" { " class=\"no\"" } else { "" };
            write!(out, "<td{class}>{}</td>", escape(&value))?;
        }
        writeln!(out, "</tr>")?;
    }
    writeln!(out, "</table></div>")
}

fn section(number: usize, run: &DryRun, out: &mut String) -> fmt::Result {
    let DryRun { stack, device, provenance, .. } = run;
    writeln!(out, "<h2>Run {number}: {} on {} (simulated)</h2>", escape(stack), escape(device))?;
    writeln!(out, "<p class=\"soft\">The device's numbers: {provenance}.</p>")?;
    if let Some(error) = &run.error {
        writeln!(out, "<p class=\"no\">Ended with an error: {}</p>", escape(error))?;
    }
    if let Some(left) = &run.left_behind {
        writeln!(out, "<p class=\"no\">Left behind: {}</p>", escape(left))?;
    }
    writeln!(out, "<h3>Memory over virtual time</h3>")?;
    chart::timeline(run, out)?;
    writeln!(out, "<h3>Where the driver's allocations were</h3>")?;
    map::residency(run, out)?;
    layers(run, out)?;
    out_of_memory(run, out)
}

fn layers(run: &DryRun, out: &mut String) -> fmt::Result {
    writeln!(out, "<h3>Layers</h3>\n<div class=\"scroll\"><table>")?;
    writeln!(
        out,
        "<tr><th>layer</th><th>bytes at most</th><th>limit</th><th>blocks at most</th><th>blocks in all</th><th>refused</th></tr>"
    )?;
    for layer in &run.layers {
        writeln!(
            out,
            "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
            escape(&layer.layer),
            bytes(layer.peak_bytes),
            layer.limit.map_or("none".into(), bytes),
            layer.peak_blocks,
            layer.total_blocks,
            layer.failures
        )?;
    }
    writeln!(out, "</table></div>")
}

fn out_of_memory(run: &DryRun, out: &mut String) -> fmt::Result {
    if run.out_of_memory.is_empty() {
        return Ok(());
    }
    let (shown, all) = (run.out_of_memory.len(), run.out_of_memory_count);
    writeln!(out, "<h3>Out of memory: {shown} of {all}</h3>\n<div class=\"scroll\"><table>")?;
    writeln!(out, "<tr><th>allocation</th><th>line</th><th>bytes</th><th>at</th><th>why</th></tr>")?;
    for point in &run.out_of_memory {
        writeln!(
            out,
            "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
            point.request,
            point.line.map_or(String::new(), |line| line.to_string()),
            point.bytes,
            time(point.at.as_nanos() as u64),
            escape(&point.error)
        )?;
    }
    writeln!(out, "</table></div>")
}

/// Escapes text for the inside of an element.
pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
