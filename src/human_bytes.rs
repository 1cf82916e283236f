//! [`HumanBytes`]: a number of bytes, displayed with a unit.
#![forbid(unsafe_code)]

use std::fmt;

/// A number of bytes, displayed in the largest binary unit that it fills, with at most one decimal. For example,
/// `1000 bytes`, `64 MiB` or `12.3 GiB`. Errors display sizes in this way, and their fields hold the exact numbers.
///
/// # Examples
///
/// ```
/// use cumem::error::HumanBytes;
///
/// assert_eq!(HumanBytes(1 << 26).to_string(), "64 MiB");
/// assert_eq!(HumanBytes(1_500).to_string(), "1.5 KiB");
/// assert_eq!(HumanBytes(1).to_string(), "1 byte");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HumanBytes(pub usize);

impl fmt::Display for HumanBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
        let bytes = self.0 as u128;
        if bytes < 1024 {
            return write!(f, "{bytes} byte{}", if bytes == 1 { "" } else { "s" });
        }
        let mut unit = 0;
        // Rounded to a tenth, so that 1,048,575 bytes are `1 MiB` and not `1024 KiB`.
        let tenths = |unit: usize| (bytes * 10 + (1 << (10 * unit + 9))) >> (10 * unit + 10);
        while tenths(unit) >= 10_240 && unit + 1 < UNITS.len() {
            unit += 1;
        }
        match tenths(unit) {
            whole if whole % 10 == 0 => write!(f, "{} {}", whole / 10, UNITS[unit]),
            tenths => write!(f, "{}.{} {}", tenths / 10, tenths % 10, UNITS[unit]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::HumanBytes;

    #[test]
    fn every_unit_and_its_edges() {
        let shown = |bytes: usize| HumanBytes(bytes).to_string();
        assert_eq!([0, 1, 1023, 1024].map(shown), ["0 bytes", "1 byte", "1023 bytes", "1 KiB"]);
        assert_eq!([1_048_575, 1 << 20, (5 << 30) + (1 << 29)].map(shown), ["1 MiB", "1 MiB", "5.5 GiB"]);
        assert_eq!([1 << 40, usize::MAX].map(shown), ["1 TiB", "16 EiB"]);
    }
}
