//! The chart of memory over time: requested by the program, reserved by the stack, and in use on the device.

use super::units::{bytes, time};
use crate::figures::DryRun;
use std::fmt::{self, Write};

/// The drawing area, in units of the SVG view box.
pub(super) const WIDTH: f64 = 900.0;
pub(super) const LEFT: f64 = 110.0;
const HEIGHT: f64 = 220.0;
const TOP: f64 = 24.0;

/// Returns the x coordinate of a moment.
pub(super) fn x(at_ns: u64, run: &DryRun) -> f64 {
    LEFT + (WIDTH - LEFT) * at_ns as f64 / run.virtual_ns.max(1) as f64
}

pub(super) fn timeline(run: &DryRun, out: &mut String) -> fmt::Result {
    let on_device = run.residency.on_device.iter().max().copied().unwrap_or(0);
    let tallest = run.peak_requested.max(run.peak_reserved).max(on_device).max(1);
    // The capacity is drawn if it is at most twice the tallest line.
    let top = if run.capacity <= 2 * tallest { tallest.max(run.capacity) } else { tallest };
    let y = |n: u64| TOP + (HEIGHT - TOP) * (1.0 - n as f64 / top as f64);
    writeln!(out, "<svg viewBox=\"0 0 {WIDTH} {}\" role=\"img\">", HEIGHT + 24.0)?;
    writeln!(out, "<title>Memory over virtual time, simulated</title>")?;
    for (i, n) in [0, top / 2, top].into_iter().enumerate() {
        let at = y(n);
        writeln!(out, "<line class=\"axis\" x1=\"{LEFT}\" x2=\"{WIDTH}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>")?;
        writeln!(out, "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>", LEFT - 6.0, at + 4.0, bytes(n))?;
        let (moment, anchor) = (run.virtual_ns * i as u64 / 2, ["start", "middle", "end"][i]);
        let (at, below) = (x(moment, run), HEIGHT + 16.0);
        writeln!(out, "<text x=\"{at:.1}\" y=\"{below}\" text-anchor=\"{anchor}\">{}</text>", time(moment))?;
    }
    if run.capacity <= top {
        let at = y(run.capacity);
        write!(out, "<line class=\"capacity\" x1=\"{LEFT}\" x2=\"{WIDTH}\" y1=\"{at:.1}\" y2=\"{at:.1}\">")?;
        writeln!(out, "<title>capacity: {} bytes</title></line>", run.capacity)?;
    }
    let device = run.residency.at_ns.iter().copied().zip(run.residency.on_device.iter().copied());
    steps(run, "device", "on the device", on_device, device, y, out)?;
    let moments = run.timeline.iter();
    let reserved = moments.clone().map(|moment| (moment.at_ns, moment.reserved));
    steps(run, "reserved", "reserved", run.peak_reserved, reserved, y, out)?;
    let requested = moments.map(|moment| (moment.at_ns, moment.requested));
    steps(run, "requested", "requested", run.peak_requested, requested, y, out)?;
    for point in &run.out_of_memory {
        let at = x(point.at.as_nanos() as u64, run);
        write!(out, "<line class=\"oom\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{TOP}\" y2=\"{}\">", TOP + 12.0)?;
        writeln!(out, "<title>out of memory: allocation {}, {} bytes</title></line>", point.request, point.bytes)?;
    }
    let shown = run.out_of_memory.len();
    let refused = format!("out of memory: {shown} of {}", run.out_of_memory_count);
    let keys = [
        ("key-requested", "requested"),
        ("key-reserved", "reserved from the driver"),
        ("on-device", "on the device"),
        ("key-oom", refused.as_str()),
    ];
    let keys = &keys[..if shown > 0 { 4 } else { 3 }];
    for (i, (class, word)) in keys.iter().enumerate() {
        let at = LEFT + 200.0 * i as f64;
        writeln!(out, "<rect class=\"{class}\" x=\"{at}\" y=\"4\" width=\"10\" height=\"10\"/>")?;
        writeln!(out, "<text x=\"{}\" y=\"13\">{word}</text>", at + 16.0)?;
    }
    writeln!(out, "</svg>")
}

/// Draws a line that changes at the given moments and is constant between them.
fn steps(
    run: &DryRun,
    class: &str,
    word: &str,
    peak: u64,
    points: impl Iterator<Item = (u64, u64)>,
    y: impl Fn(u64) -> f64,
    out: &mut String,
) -> fmt::Result {
    write!(out, "<path class=\"line {class}\" d=\"M{LEFT} {:.1}", y(0))?;
    for (at, n) in points {
        write!(out, "H{:.1}V{:.1}", x(at, run), y(n))?;
    }
    writeln!(out, "H{WIDTH}\"><title>{word}: {peak} bytes at most</title></path>")
}
