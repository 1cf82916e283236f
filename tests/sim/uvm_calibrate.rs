//! The H100 profile compared with measurements of an H100: `examples/uvm_calibrate` on `examples/data/uvm/h100`.
//!
//! The profile was fitted to these figures, so this is calibration and no prediction.

use crate::measure::Rig;
use cumem::Device;
use cumem::sim::{Profile, faults};
use std::path::Path;

/// The measurements that the model misses: the driver spends extra time on the first page of a new range.
const MISSED: [(&str, usize); 1] = [("prefetch to device, fresh", 4096)];

/// Returns the median of three runs, in nanoseconds.
fn measured(operation: &str, bytes: usize) -> f64 {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/data/uvm/h100");
    let mut runs = ["1.csv", "2.csv", "3.csv"].map(|run| {
        let text = std::fs::read_to_string(folder.join(run)).unwrap();
        let wanted = format!(",{},{bytes},", operation.replace(',', ";"));
        let row = text.lines().find(|line| line.contains(&wanted)).unwrap();
        row.split(',').nth(4).unwrap().parse::<u64>().unwrap()
    });
    runs.sort_unstable();
    runs[1] as f64
}

#[test]
fn copies_prefetches_and_faults_take_what_they_took_within_20_percent() {
    let rig = Rig::new(Device::simulated(Profile::h100_pcie5()).unwrap()).unwrap();
    // The example measures up to 1 GiB.
    for kib in [4, 64, 1 << 10, 2 << 10, 16 << 10, 64 << 10, 256 << 10] {
        for row in rig.measure(kib << 10, 1).unwrap() {
            let measured = measured(row.operation, row.bytes);
            let error = row.median() as f64 / measured - 1.0;
            println!("{:38} {:>11} bytes {:>+7.1} %", row.operation, row.bytes, error * 100.0);
            let missed = MISSED.contains(&(row.operation, row.bytes));
            assert_eq!(error.abs() > 0.2, missed, "{} of {} bytes: {error:+.3}", row.operation, row.bytes);
        }
    }
}

/// The device and the host read one page in turn. Returns the numbers of the readings that took more than 400
/// microseconds, and the first turn from which on no reading by the host takes more than 20 microseconds.
fn waits(readings: &[[f64; 2]]) -> (Vec<usize>, usize) {
    let waited = readings.as_flattened().iter().enumerate().filter(|(_, us)| **us > 400.0);
    let calm = readings.iter().rposition(|[_, host]| *host > 20.0).map_or(0, |last| last + 2);
    (waited.map(|(i, _)| i + 1).collect(), calm)
}

/// The thrashing mitigation of `uvm_perf_thrashing.c`, observed on a GPU before the model got its present rule.
#[test]
fn alternating_access_to_a_page_matches_the_recording() {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/data/uvm/fight/h100.csv"));
    let text = text.unwrap();
    let rows: Vec<Vec<f64>> =
        text.lines().skip(1).map(|line| line.split(',').map(|field| field.parse().unwrap()).collect()).collect();
    let measured = [1.0, 2.0].map(|run| {
        let readings = rows.iter().filter(|row| row[0] == run).map(|row| [row[2], row[3]]);
        waits(&readings.collect::<Vec<_>>())
    });
    let rig = Rig::new(Device::simulated(Profile::h100_pcie5()).unwrap()).unwrap();
    let readings = rig.fight(40).unwrap().into_iter().map(|turn| turn.map(|ns| ns as f64 / 1e3));
    let (simulated, calm) = waits(&readings.collect::<Vec<_>>());
    println!("readings that waited: measured {measured:?}, simulated {simulated:?}, calm from turn {calm}");
    for (waited, _) in &measured {
        assert_eq!(waited[0], simulated[0], "the first to wait");
    }
    assert_eq!(simulated.len(), 10, "waits until the page is pinned");
    assert_eq!(measured.map(|(_, calm)| calm), [31, 29], "calm from this turn on");
    assert!((29..=31).contains(&calm), "{calm}");
}

#[test]
fn every_driver_call_of_the_measurements_may_fail() {
    let report = faults::enumerate(&Profile::h100_pcie5(), |device| {
        let rig = Rig::new(device.clone())?;
        rig.measure(3 << 20, 1)?;
        rig.fight(3).map(drop)
    });
    report.assert();
}
