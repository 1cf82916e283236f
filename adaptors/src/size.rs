//! [`Size`]: bytes as text, such as `1GiB` or `256MB`, or a share of the device's memory, such as `80%` or `50% free`.

use cumem::{Device, DeviceError};
use std::fmt;
use std::str::FromStr;

/// A number of bytes, or a share of a device's memory.
///
/// # Examples
///
/// ```
/// use cumem_adaptors::Size;
///
/// assert_eq!("1.5GiB".parse(), Ok(Size::Bytes(3 << 29)));
/// assert_eq!("80%".parse(), Ok(Size::Percent(80)));
/// assert_eq!("50%free".parse(), Ok(Size::PercentOfFree(50)));
/// assert_eq!(Size::Bytes(64 << 20).to_string(), "64MiB");
/// assert_eq!(Size::from(4096), Size::Bytes(4096));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Size {
    /// Bytes.
    Bytes(usize),
    /// Percent of the device's total memory. Options take more than 100 as 100.
    Percent(u8),
    /// Percent of the device's memory that is free when the size is used, for example when a pool is created.
    PercentOfFree(u8),
}

/// The error of a text that is no [`Size`].
///
/// # Examples
///
/// ```
/// use cumem_adaptors::Size;
///
/// let error = "1XB".parse::<Size>().unwrap_err();
/// assert!(error.to_string().starts_with("`1XB` is no size: the unit is none of B"));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no size: {reason}")]
pub struct SizeError {
    text: String,
    reason: &'static str,
}

/// Returns the bytes of a unit such as `K`, `kB`, `KiB` or `Ki`, in any case; `None` if the text is no unit.
fn unit_bytes(unit: &str) -> Option<u64> {
    let unit = unit.to_ascii_lowercase();
    let mut letters = unit.chars();
    let power = match letters.next() {
        None => return Some(1),
        Some('b') if unit.len() == 1 => return Some(1),
        Some('k') => 1,
        Some('m') => 2,
        Some('g') => 3,
        Some('t') => 4,
        _ => return None,
    };
    match letters.as_str() {
        "" | "i" | "ib" => Some(1 << (10 * power)),
        "b" => Some(1000_u64.pow(power)),
        _ => None,
    }
}

/// Returns `number`, which is decimal digits and points, times `factor`, or the reason why the product is no size.
fn product(number: &str, factor: u64) -> Result<usize, &'static str> {
    const TOO_LARGE: &str = "it is too large";
    let bytes = if number.bytes().all(|digit| digit.is_ascii_digit()) {
        number.parse::<u64>().ok().and_then(|whole| whole.checked_mul(factor))
    } else {
        let fraction = number.parse::<f64>().map_err(|_| "it does not start with a number")?;
        let bytes = fraction * factor as f64;
        if factor == 1 || (bytes < 1.0 && fraction > 0.0) {
            return Err("bytes are whole numbers; a share is for example `80%`, a fraction of a unit `0.8GiB`");
        }
        (bytes < 2_f64.powi(63)).then_some(bytes as u64)
    };
    let bytes = bytes.and_then(|bytes| usize::try_from(bytes).ok());
    bytes.filter(|&bytes| bytes <= isize::MAX as usize).ok_or(TOO_LARGE)
}

/// Returns the percentage that `text` names, which has digits only.
fn percentage(text: &str) -> Option<u8> {
    let digits = !text.is_empty() && text.bytes().all(|digit| digit.is_ascii_digit());
    text.parse().ok().filter(|&percent| digits && percent <= 100)
}

impl Size {
    /// Returns the nearest size that text can express: at most 100 %, and at most `isize::MAX` bytes, which no memory
    /// exceeds.
    pub(crate) fn saturated(self) -> Self {
        match self {
            Self::Bytes(bytes) => Self::Bytes(bytes.min(isize::MAX as usize)),
            Self::Percent(percent) => Self::Percent(percent.min(100)),
            Self::PercentOfFree(percent) => Self::PercentOfFree(percent.min(100)),
        }
    }

    /// Returns the bytes of this size on a device with `total` bytes of memory, all of them free.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem_adaptors::Size;
    ///
    /// assert_eq!(Size::Percent(80).bytes_of(1000), 800);
    /// assert_eq!(Size::Bytes(64).bytes_of(1000), 64);
    /// ```
    pub fn bytes_of(self, total: usize) -> usize {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Percent(percent) | Self::PercentOfFree(percent) => {
                (total as u128 * u128::from(percent) / 100) as usize
            }
        }
    }

    /// Returns the bytes of this size on `device` at this moment.
    ///
    /// # Errors
    ///
    /// Returns the driver's error if the size is a share of the free memory, and the query for free memory fails.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem::Device;
    /// use cumem::sim::Profile;
    /// use cumem_adaptors::Size;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let device = Device::simulated(Profile::default())?;
    /// assert_eq!(Size::PercentOfFree(100).bytes_on(&device)?, device.memory_info()?.free);
    /// # Ok(())
    /// # }
    /// ```
    pub fn bytes_on(self, device: &Device) -> Result<usize, DeviceError> {
        Ok(match self {
            Self::PercentOfFree(_) => self.bytes_of(device.memory_info()?.free),
            _ => self.bytes_of(device.attributes().total_memory),
        })
    }
}

impl From<usize> for Size {
    fn from(bytes: usize) -> Self {
        Self::Bytes(bytes)
    }
}

/// Parses `1GiB`, `256MB`, `1.5GiB`, `4096`, `80%` or `50% free`. Units are read in any case. A single letter is a
/// binary unit, as in `dd`: `1K` is 1024 bytes.
impl FromStr for Size {
    type Err = SizeError;

    fn from_str(text: &str) -> Result<Self, SizeError> {
        let fail = |reason| SizeError { text: text.into(), reason };
        let trimmed = text.trim();
        if let Some((percent, of)) = trimmed.split_once('%') {
            let percent =
                percentage(percent.trim()).ok_or_else(|| fail("a share is a whole number from 0% to 100%"))?;
            return match of.trim().to_ascii_lowercase().as_str() {
                "" => Ok(Self::Percent(percent)),
                "free" => Ok(Self::PercentOfFree(percent)),
                _ => Err(fail("a share is of all memory, as in `50%`, or of what is free, `50% free`")),
            };
        }
        let digits = trimmed.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(trimmed.len());
        let (number, unit) = trimmed.split_at(digits);
        if number.is_empty() {
            return Err(fail("it does not start with a number"));
        }
        let factor = unit_bytes(unit.trim())
            .ok_or_else(|| fail("the unit is none of B, kB, KiB, MB, MiB, GB, GiB, TB, TiB, %"))?;
        product(number, factor).map(Self::Bytes).map_err(fail)
    }
}

/// Prints the exact size in the largest binary unit that divides it: `1GiB`, `1000B`, `80%`, `50% free`.
impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Percent(percent) => write!(f, "{percent}%"),
            Self::PercentOfFree(percent) => write!(f, "{percent}% free"),
            Self::Bytes(bytes) => {
                let units = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];
                match units.into_iter().find(|(_, shift)| bytes != 0 && bytes % (1 << shift) == 0) {
                    Some((unit, shift)) => write!(f, "{}{unit}", bytes >> shift),
                    None => write!(f, "{bytes}B"),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_in_every_accepted_form_are_parsed() {
        for (text, size) in [
            ("0", Size::Bytes(0)),
            ("4096", Size::Bytes(4096)),
            ("1GiB", Size::Bytes(1 << 30)),
            ("1.5 GiB", Size::Bytes(3 << 29)),
            ("256MB", Size::Bytes(256_000_000)),
            ("2K", Size::Bytes(2048)),
            ("1T", Size::Bytes(1 << 40)),
            ("1 gib", Size::Bytes(1 << 30)),
            ("1Gi", Size::Bytes(1 << 30)),
            ("3mb", Size::Bytes(3_000_000)),
            ("0.5K", Size::Bytes(512)),
            (".5GiB", Size::Bytes(1 << 29)),
            ("0.0GiB", Size::Bytes(0)),
            ("4b", Size::Bytes(4)),
            ("10% Free", Size::PercentOfFree(10)),
            ("80%", Size::Percent(80)),
            ("50%free", Size::PercentOfFree(50)),
            (" 50 % free ", Size::PercentOfFree(50)),
        ] {
            assert_eq!(text.parse(), Ok(size), "{text}");
        }
    }

    #[test]
    fn texts_that_are_no_size_are_refused() {
        for text in [
            "",
            "GiB",
            "1XB",
            "-1",
            "101%",
            "101%free",
            "50%used",
            "50%%",
            "free",
            "%free",
            "x%",
            "1.2.3MB",
            "+1",
            "+80%",
            "1KK",
            "1Bi",
            "1iB",
            ".",
            ".GiB",
            "99999999TiB",
            "18446744073709551616",
        ] {
            assert!(text.parse::<Size>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_fraction_of_a_byte_is_refused_with_advice() {
        for text in ["0.8", "1.5", "0.5B", "1.0", "0.0001K", "0.0000000000001TiB"] {
            let error = text.parse::<Size>().unwrap_err().to_string();
            assert!(error.contains("bytes are whole numbers; a share is for example `80%`"), "{error}");
        }
    }

    #[test]
    fn k_m_g_and_t_have_the_same_forms_in_any_case() {
        for (power, letter) in (1..).zip(["k", "m", "g", "t"]) {
            for (suffix, base) in [("", 1024_usize), ("i", 1024), ("iB", 1024), ("B", 1000)] {
                for unit in [format!("{letter}{suffix}"), format!("{letter}{suffix}").to_uppercase()] {
                    assert_eq!(format!("2{unit}").parse(), Ok(Size::Bytes(2 * base.pow(power))), "{unit}");
                }
            }
        }
    }

    #[test]
    fn display_reads_back() {
        for bytes in [0, 1, 1000, 1024, 1 << 20, 3 << 29, 85_899_345_920] {
            let size = Size::Bytes(bytes);
            assert_eq!(size.to_string().parse(), Ok(size));
        }
        for size in [Size::Percent(7), Size::PercentOfFree(7)] {
            assert_eq!(size.to_string().parse(), Ok(size));
        }
    }
}
