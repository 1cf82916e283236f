//! [`ProfileError`]: profiles that no machine can be made of.
#![forbid(unsafe_code)]

/// Profiles that no simulated machine can be made of.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProfileError {
    /// No profile was given.
    #[error("a simulated machine needs the profile of at least one device")]
    NoDevice,
    /// More profiles were given than a machine can have devices.
    #[error("a simulated machine has at most {most} devices, not {devices}")]
    TooManyDevices {
        /// The number of profiles given.
        devices: usize,
        /// The largest number of devices.
        most: usize,
    },
    /// A profile contradicts itself.
    #[error("the profile of simulated device {ordinal} is not sound: {reason}")]
    Unsound {
        /// The position of the profile.
        ordinal: u32,
        /// The field, and what is wrong with it.
        reason: String,
    },
}
