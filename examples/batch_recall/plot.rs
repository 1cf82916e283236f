//! A plot of the times as SVG: one line for each way, on a logarithmic scale.

use crate::oversubscribe::{Figures, SIZES, Way};
use std::fmt::{self, Write};

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 420.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 620.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 370.0;

/// Colors distinguish the ways; dashes mark ways with a limit.
const COLOURS: [&str; 4] = ["#c0262d", "#2467c9", "#c77700", "#1f8a4c"];

/// Returns a plot of all times, as SVG.
pub(crate) fn svg(figures: &[Figures]) -> String {
    let mut picture = String::new();
    // Writing to a string cannot fail.
    draw(figures, &mut picture).expect("a string takes everything");
    picture
}

fn draw(figures: &[Figures], out: &mut String) -> fmt::Result {
    let times = || figures.iter().map(|figures| figures.ns.max(1) as f64);
    let lowest = times().fold(f64::INFINITY, f64::min).log10().floor();
    let highest = times().fold(0.0, f64::max).log10().ceil().max(lowest + 1.0);
    let y = |ns: f64| BOTTOM - (BOTTOM - TOP) * (ns.log10() - lowest) / (highest - lowest);
    let x = |i: usize| LEFT + 30.0 + (RIGHT - LEFT - 60.0) * i as f64 / (SIZES.len() - 1) as f64;

    writeln!(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" font-size=\"12\">"
    )?;
    writeln!(out, "<rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"white\"/>")?;
    writeln!(
        out,
        "<text x=\"{LEFT}\" y=\"22\" font-size=\"14\">batch_recall: virtual time of three passes (simulated)</text>"
    )?;
    for power in lowest as i32..=highest as i32 {
        let (at, ms) = (y(10_f64.powi(power)), 10_f64.powi(power - 6));
        writeln!(out, "<line x1=\"{LEFT}\" x2=\"{RIGHT}\" y1=\"{at:.1}\" y2=\"{at:.1}\" stroke=\"#d5dae1\"/>")?;
        writeln!(out, "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{ms} ms</text>", LEFT - 8.0, at + 4.0)?;
    }
    for (i, size) in SIZES.iter().enumerate() {
        writeln!(out, "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\">{size} %</text>", x(i), BOTTOM + 18.0)?;
    }
    let middle = (LEFT + RIGHT) / 2.0;
    writeln!(
        out,
        "<text x=\"{middle}\" y=\"{}\" text-anchor=\"middle\">data, in percent of the device's memory</text>",
        BOTTOM + 38.0
    )?;
    for (i, way) in Way::ALL.into_iter().enumerate() {
        let colour = COLOURS[i % COLOURS.len()];
        let dashes = if way.limit { " stroke-dasharray=\"5 4\"" } else { "" };
        let stroke = format!("fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"{dashes}");
        let of_way: Vec<_> = figures.iter().filter(|figures| figures.way == way).collect();
        let points: Vec<_> =
            of_way.iter().enumerate().map(|(i, figures)| format!("{:.1},{:.1}", x(i), y(figures.ns as f64))).collect();
        writeln!(out, "<polyline {stroke} points=\"{}\"/>", points.join(" "))?;
        for (i, figures) in of_way.iter().enumerate() {
            let (percent, ms, name) = (figures.percent, figures.ns as f64 / 1e6, way.name());
            write!(out, "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"3\" fill=\"{colour}\">", x(i), y(figures.ns as f64))?;
            writeln!(out, "<title>{name} at {percent} %: {ms:.2} ms</title></circle>")?;
        }
        let at = TOP + 24.0 * i as f64;
        writeln!(out, "<line x1=\"{}\" x2=\"{}\" y1=\"{at}\" y2=\"{at}\" {stroke}/>", RIGHT + 16.0, RIGHT + 46.0)?;
        writeln!(out, "<text x=\"{}\" y=\"{}\">{}</text>", RIGHT + 54.0, at + 4.0, way.name())?;
    }
    writeln!(out, "</svg>")
}
