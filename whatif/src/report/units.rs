//! The words and units of a report.

/// The note at the beginning of every report.
pub(super) const NOTE: &str =
    "Simulated: bytes, blocks, faults and evictions are exact under the model's rules; times are the model's.";

/// Formats bytes for people, exactly if they are a whole number of the unit.
pub(super) fn bytes(n: u64) -> String {
    const UNITS: [(&str, u32); 4] = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];
    match UNITS.iter().find(|(_, shift)| n >> shift > 0) {
        Some((unit, shift)) if n.trailing_zeros() >= *shift => format!("{} {unit}", n >> shift),
        Some((unit, shift)) => format!("{:.2} {unit}", n as f64 / f64::from(*shift).exp2()),
        None => format!("{n} B"),
    }
}

pub(super) fn time(ns: u64) -> String {
    match ns {
        0..1_000 => format!("{ns} ns"),
        1_000..1_000_000 => format!("{:.1} us", ns as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.2} ms", ns as f64 / 1e6),
        _ => format!("{:.3} s", ns as f64 / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_for_people() {
        assert_eq!(
            [0, 1023, 1024, 1536, 5 << 20, (5 << 20) + 1, 80 << 30].map(bytes),
            ["0 B", "1023 B", "1 KiB", "1.50 KiB", "5 MiB", "5.00 MiB", "80 GiB"]
        );
        assert_eq!([999, 1_500, 2_000_000, 61_000_000_000].map(time), ["999 ns", "1.5 us", "2.00 ms", "61.000 s"]);
    }
}
