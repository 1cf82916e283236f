//! The validation experiments whose figures are counts. `examples/uvm_experiments` prints the others too.

use crate::{exact, table};

#[test]
fn every_count_is_exact() {
    let rows = exact::rows().unwrap();
    let experiments: std::collections::BTreeSet<_> = rows.iter().map(|row| row.experiment).collect();
    assert_eq!(experiments.into_iter().collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6, 7, 17, 22]);
    for row in rows {
        assert_eq!(row.simulated, Some(row.expected.0), "experiment {}: {}", row.experiment, row.what);
    }
}

#[test]
fn a_row_has_its_relative_error_and_holds_within_its_bounds() {
    let experiment = table::Experiment::new(0, table::Basis::Blind, 10.0, "");
    let rows = experiment
        .row("exact", 100.0, 111.0)
        .between("within", (1.0, 2.0), 1.5)
        .between("below", (10.0, 20.0), 9.5)
        .at_least("far above", 1.0, 1e9)
        .missing("none", (1.0, 1.0), "why")
        .rows();
    let found: Vec<_> = rows.iter().map(|row| (row.error_percent.map(f64::round), row.holds)).collect();
    assert_eq!(found, [(Some(11.0), false), (Some(0.0), true), (Some(-5.0), true), (Some(0.0), true), (None, false)]);
}
