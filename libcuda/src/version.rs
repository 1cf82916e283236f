use std::fmt;

/// The CUDA version that an installed driver supports.
///
/// ```
/// use cumem_libcuda::DriverVersion;
///
/// assert!(DriverVersion { major: 13, minor: 0 } > DriverVersion { major: 12, minor: 9 });
/// assert_eq!(DriverVersion { major: 12, minor: 9 }.to_string(), "12.9");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DriverVersion {
    /// Major version, for example 13 in 13.0.
    pub major: u32,
    /// Minor version, for example 0 in 13.0.
    pub minor: u32,
}

impl DriverVersion {
    /// Converts the driver's number, `1000 * major + 10 * minor`.
    pub(crate) const fn from_raw(raw: u32) -> Self {
        Self { major: raw / 1000, minor: raw % 1000 / 10 }
    }
}

impl fmt::Display for DriverVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}
