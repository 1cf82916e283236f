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
    /// Percent of the device's total memory.
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

const UNITS: [(&str, u64); 14] = [
    ("", 1),
    ("B", 1),
    ("K", 1 << 10),
    ("KiB", 1 << 10),
    ("kB", 1_000),
    ("KB", 1_000),
    ("M", 1 << 20),
    ("MiB", 1 << 20),
    ("MB", 1_000_000),
    ("G", 1 << 30),
    ("GiB", 1 << 30),
    ("GB", 1_000_000_000),
    ("TiB", 1 << 40),
    ("TB", 1_000_000_000_000),
];

impl Size {
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

/// Parses `1GiB`, `256MB`, `1.5GiB`, `4096`, `80%` or `50% free`. A single letter is a binary unit, as in `dd`: `1K` is 1024 bytes.
impl FromStr for Size {
    type Err = SizeError;

    fn from_str(text: &str) -> Result<Self, SizeError> {
        let fail = |reason| SizeError { text: text.into(), reason };
        let trimmed = text.trim();
        if let Some((percent, of)) = trimmed.split_once('%') {
            return match (percent.trim().parse(), of.trim()) {
                (Ok(percent @ 0..=100), "") => Ok(Self::Percent(percent)),
                (Ok(percent @ 0..=100), "free") => Ok(Self::PercentOfFree(percent)),
                (Ok(0..=100_u8), _) => {
                    Err(fail("a share is of all memory, as in `50%`, or of what is free, `50% free`"))
                }
                _ => Err(fail("a share is a whole number from 0% to 100%")),
            };
        }
        let digits = trimmed.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(trimmed.len());
        let (number, unit) = trimmed.split_at(digits);
        let unit = unit.trim();
        let (_, factor) = UNITS
            .iter()
            .find(|(name, _)| *name == unit)
            .ok_or_else(|| fail("the unit is none of B, kB, KiB, MB, MiB, GB, GiB, TB, TiB, %"))?;
        let bytes = match number.parse::<u64>() {
            Ok(whole) => whole.checked_mul(*factor),
            Err(_) => match number.parse::<f64>() {
                Ok(fraction) if (fraction * *factor as f64) < 2_f64.powi(63) => {
                    Some((fraction * *factor as f64) as u64)
                }
                Ok(_) => None,
                Err(_) => return Err(fail("it does not start with a number")),
            },
        };
        let bytes = bytes.and_then(|bytes| usize::try_from(bytes).ok());
        bytes.filter(|&bytes| bytes <= isize::MAX as usize).map(Self::Bytes).ok_or_else(|| fail("it is too large"))
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
    fn sizes_as_people_write_them() {
        for (text, size) in [
            ("0", Size::Bytes(0)),
            ("4096", Size::Bytes(4096)),
            ("1GiB", Size::Bytes(1 << 30)),
            ("1.5 GiB", Size::Bytes(3 << 29)),
            ("256MB", Size::Bytes(256_000_000)),
            ("2K", Size::Bytes(2048)),
            ("80%", Size::Percent(80)),
            ("50%free", Size::PercentOfFree(50)),
            (" 50 % free ", Size::PercentOfFree(50)),
        ] {
            assert_eq!(text.parse(), Ok(size), "{text}");
        }
    }

    #[test]
    fn what_is_no_size() {
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
            "99999999TiB",
            "18446744073709551616",
        ] {
            assert!(text.parse::<Size>().is_err(), "{text}");
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
