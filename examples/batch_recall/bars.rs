//! A bar chart of the modes, as SVG.

use crate::modes::Run;
use std::fmt::Write as _;

const LABEL: f64 = 150.0;
const LONGEST: f64 = 420.0;
const LINE: f64 = 34.0;

/// Returns the chart with `title`, as SVG.
pub(crate) fn svg(title: &str, runs: &[Run]) -> String {
    let most = runs.iter().map(|run| run.time.as_secs_f64()).fold(f64::MIN_POSITIVE, f64::max);
    let (width, height) = (LABEL + LONGEST + 130.0, LINE * (runs.len() as f64 + 1.5));
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         font-family=\"sans-serif\" font-size=\"14\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n<text x=\"8\" y=\"22\">{}</text>\n",
        escape(title)
    );
    for (i, run) in runs.iter().enumerate() {
        let (y, length) = (LINE * (i as f64 + 1.0), LONGEST * run.time.as_secs_f64() / most);
        let (middle, name, time) = (y + 18.0, escape(run.mode.name()), run.time.as_secs_f64() * 1e3);
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "<text x=\"8\" y=\"{middle}\">{name}</text>\
             <rect x=\"{LABEL}\" y=\"{y}\" width=\"{length:.1}\" height=\"24\" fill=\"#4a7fb0\"/>\
             <text x=\"{:.1}\" y=\"{middle}\">{time:.3} ms</text>",
            LABEL + length + 8.0
        );
    }
    text + "</svg>\n"
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
