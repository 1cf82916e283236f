//! [`Setting`]: a device, a limit and a stack to try.

use cumem::error::ErrorReport;
use cumem::sim::{Profile, ProfileError};
use cumem::{DeviceError, DriverError};
use cumem_adaptors::{Size, SpecError, StackSpec};

/// A device, a limit and a stack to try a program on.
///
/// ```
/// use cumem::sim::Profile;
/// use cumem_whatif::{Setting, dry_run};
///
/// // A pool over device memory that may take 40 GiB from the driver.
/// let setting = Setting::new(Profile::h100_pcie5(), "device | pool".parse()?).limit(40 << 30_usize);
/// let run = dry_run(&setting, |_| Ok::<_, std::io::Error>(()))?;
/// assert_eq!(run.limit, Some(40 << 30));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Setting {
    pub(crate) profile: Profile,
    pub(crate) stack: StackSpec,
    pub(crate) limit: Option<Size>,
    pub(crate) touched: bool,
}

impl Setting {
    /// Creates a setting with a stack on a device of a profile, without a limit.
    pub fn new(profile: Profile, stack: StackSpec) -> Self {
        Self { profile, stack, limit: None, touched: false }
    }

    /// Sets the most that the stack may take from the driver: bytes, or a share of the device's memory.
    pub fn limit(mut self, limit: impl Into<Size>) -> Self {
        self.limit = Some(limit.into());
        self
    }

    /// Makes the device write each block once, on its stream, as soon as it is allocated.
    /// A trace does not record how its blocks are used; with this option managed memory faults and migrates.
    pub fn touched(mut self) -> Self {
        self.touched = true;
        self
    }
}

/// The error of a setting that cannot be tried.
///
/// ```
/// use cumem::sim::Profile;
/// use cumem_whatif::{Setting, WhatIfError, dry_run};
///
/// let mut profile = Profile::default();
/// profile.capacity.value = 0.0;
/// let setting = Setting::new(profile, "device".parse()?);
/// let error = dry_run(&setting, |_| Ok::<_, std::io::Error>(())).unwrap_err();
/// assert!(matches!(error, WhatIfError::Device(_)), "{error}");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WhatIfError {
    /// The stack cannot be created on the device.
    #[error(transparent)]
    Stack(#[from] SpecError),
    /// The profile is not valid, or a call to the device failed.
    #[error(transparent)]
    Device(#[from] DeviceError),
}

impl WhatIfError {
    /// Returns the error with all its causes in one line.
    pub fn report(&self) -> ErrorReport<'_> {
        ErrorReport::of(self)
    }
}

impl From<ProfileError> for WhatIfError {
    fn from(error: ProfileError) -> Self {
        Self::Device(error.into())
    }
}

impl From<DriverError> for WhatIfError {
    fn from(error: DriverError) -> Self {
        Self::Device(error.into())
    }
}
