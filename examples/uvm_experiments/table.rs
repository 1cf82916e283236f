//! A row of the table: the expected and the simulated figure, and the weight of the comparison.

use serde::Serialize;

/// The weight of a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Basis {
    /// A count that the driver's rules determine.
    Exact,
    /// The profile was fitted to this figure.
    Calibrated,
    /// The profile was not fitted to this figure.
    Blind,
    /// Only a sign or an order was reported.
    Qualitative,
}

/// One figure of one experiment.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Row {
    pub(crate) experiment: u8,
    pub(crate) what: String,
    /// From ... to; without an end, at least.
    pub(crate) expected: (f64, Option<f64>),
    /// `None`: the model has nothing that could be compared.
    pub(crate) simulated: Option<f64>,
    /// How far the simulated figure is from the expected ones, in percent of the nearer.
    pub(crate) error_percent: Option<f64>,
    pub(crate) tolerance_percent: f64,
    pub(crate) holds: bool,
    pub(crate) basis: Basis,
    /// The source of the expected figure, or the reason why none is simulated.
    pub(crate) source: &'static str,
}

/// The rows of one experiment, and their common fields.
pub(crate) struct Experiment {
    number: u8,
    basis: Basis,
    tolerance_percent: f64,
    source: &'static str,
    rows: Vec<Row>,
}

impl Experiment {
    pub(crate) fn new(number: u8, basis: Basis, tolerance_percent: f64, source: &'static str) -> Self {
        Self { number, basis, tolerance_percent, source, rows: Vec::new() }
    }

    /// A figure with one expected value.
    pub(crate) fn row(self, what: impl Into<String>, expected: f64, simulated: f64) -> Self {
        self.add(what.into(), (expected, Some(expected)), Some(simulated))
    }

    /// A figure that is expected between two.
    pub(crate) fn between(self, what: impl Into<String>, expected: (f64, f64), simulated: f64) -> Self {
        self.add(what.into(), (expected.0, Some(expected.1)), Some(simulated))
    }

    /// Adds a figure with an expected minimum.
    pub(crate) fn at_least(self, what: impl Into<String>, expected: f64, simulated: f64) -> Self {
        self.add(what.into(), (expected, None), Some(simulated))
    }

    /// A figure that the model does not reach, and why.
    pub(crate) fn missing(mut self, what: impl Into<String>, expected: (f64, f64), why: &'static str) -> Self {
        self = self.add(what.into(), (expected.0, Some(expected.1)), None);
        if let Some(row) = self.rows.last_mut() {
            row.source = why;
        }
        self
    }

    fn add(mut self, what: String, expected: (f64, Option<f64>), simulated: Option<f64>) -> Self {
        let (low, high) = expected;
        let error = |simulated: f64| {
            let nearer = if simulated < low { low } else { high.filter(|high| simulated > *high).unwrap_or(simulated) };
            if nearer == simulated { 0.0 } else { (simulated / nearer - 1.0) * 100.0 }
        };
        let error_percent = simulated.map(error);
        self.rows.push(Row {
            experiment: self.number,
            what,
            expected,
            simulated,
            error_percent,
            tolerance_percent: self.tolerance_percent,
            holds: error_percent.is_some_and(|error| error.abs() <= self.tolerance_percent),
            basis: self.basis,
            source: self.source,
        });
        self
    }

    pub(crate) fn rows(self) -> Vec<Row> {
        self.rows
    }
}

/// Formats a number with the digits that are significant.
fn short(value: f64) -> String {
    match value {
        v if v.fract() == 0.0 && v.abs() < 1e9 => format!("{v}"),
        v if v.abs() >= 100.0 => format!("{v:.0}"),
        v => format!("{v:.2}"),
    }
}

/// Prints the table for people.
pub(crate) fn print(rows: &[Row]) {
    println!("Simulated figures beside expected ones. No simulated figure is a measurement.\n");
    println!(
        "{:>2}  {:70} {:>15} {:>11} {:>9} {:>9}  {:11} {:12} source",
        "", "", "expected", "simulated", "error", "tolerance", "", "basis"
    );
    for row in rows {
        let expected = match row.expected {
            (low, None) => format!("at least {}", short(low)),
            (low, Some(high)) if low == high => short(low),
            (low, Some(high)) => format!("{} to {}", short(low), short(high)),
        };
        let simulated = row.simulated.map_or("-".into(), short);
        let error = row.error_percent.map_or("-".into(), |error| format!("{error:+.1} %"));
        let verdict = match (row.simulated, row.holds) {
            (None, _) => "not modelled",
            (Some(_), true) => "holds",
            (Some(_), false) => "MISSES",
        };
        println!(
            "{:>2}  {:70} {expected:>15} {simulated:>11} {error:>9} {:>7} %  {verdict:12} {:12} {}",
            row.experiment,
            row.what,
            row.tolerance_percent,
            format!("{:?}", row.basis).to_lowercase(),
            row.source
        );
    }
    println!();
    for basis in [Basis::Exact, Basis::Calibrated, Basis::Blind, Basis::Qualitative] {
        let of: Vec<_> = rows.iter().filter(|row| row.basis == basis).collect();
        let count = |what: &dyn Fn(&Row) -> bool| of.iter().filter(|row| what(row)).count();
        println!(
            "{:12} {:3} figures: {} hold, {} miss, {} not modelled",
            format!("{basis:?}").to_lowercase(),
            of.len(),
            count(&|row| row.holds),
            count(&|row| row.simulated.is_some() && !row.holds),
            count(&|row| row.simulated.is_none())
        );
    }
}
