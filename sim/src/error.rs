//! [`ProfileError`]: the error for profiles that no machine can be created from.
#![forbid(unsafe_code)]

/// The error for profiles that no simulated machine can be created from.
///
/// # Examples
///
/// ```
/// use cumem_sim::{Profile, ProfileError, Simulator};
///
/// let mut profile = Profile::h100_pcie5();
/// profile.capacity.value = 1000.0;
/// let error = Simulator::new([profile]).unwrap_err();
/// assert!(matches!(error, ProfileError::Unsound { ordinal: 0, .. }));
/// assert_eq!(
///     error.to_string(),
///     "the profile of simulated device 0 is not sound: capacity is 1000 bytes: it must be a multiple of 2097152",
/// );
/// ```
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
        /// The field, and the fault in its value.
        reason: String,
    },
}
