//! [`Broken`]: a sentence about a promise that a resource broke.

use crate::live::Violation;
use cumem::sim::ProfileError;
use cumem::{DeallocError, DeviceError, DriverError};
use std::fmt;

/// A broken promise of a resource's contract, in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken(String);

impl Broken {
    /// Creates the error from a sentence that describes what the resource did.
    pub fn new(what: impl Into<String>) -> Self {
        Self(what.into())
    }

    /// Adds the place where it was found in front of the sentence.
    pub(crate) fn at(self, place: impl fmt::Display) -> Self {
        Self(format!("{place}: {}", self.0))
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Broken {}

impl From<Violation> for Broken {
    fn from(violation: Violation) -> Self {
        Self(violation.to_string())
    }
}

impl From<DeallocError> for Broken {
    fn from(error: DeallocError) -> Self {
        Self(format!("refused a block of its own: {}", error.report()))
    }
}

impl From<DeviceError> for Broken {
    fn from(error: DeviceError) -> Self {
        Self(format!("the device failed: {}", error.report()))
    }
}

impl From<DriverError> for Broken {
    fn from(error: DriverError) -> Self {
        DeviceError::from(error).into()
    }
}

impl From<ProfileError> for Broken {
    fn from(error: ProfileError) -> Self {
        DeviceError::from(error).into()
    }
}

/// The result of a check that cannot be skipped.
pub(crate) type Outcome = Result<(), Broken>;

/// The result of a check that found nothing wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Passed,
    /// The check did not apply, for this reason.
    Skipped(&'static str),
}

impl From<()> for Verdict {
    fn from((): ()) -> Self {
        Self::Passed
    }
}

/// Ends a check with a formatted [`Broken`] unless a condition holds.
macro_rules! ensure {
    ($condition:expr, $($message:tt)+) => {
        if !$condition {
            return Err($crate::broken::Broken::new(format!($($message)+)));
        }
    };
}
pub(crate) use ensure;
