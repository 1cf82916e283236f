//! [`Broken`]: a sentence about a promise that a resource broke.

use crate::live::Violation;
use cumem::error::ErrorReport;
use cumem::sim::ProfileError;
use cumem::{DeallocError, DeviceError, DriverError};
use std::error::Error;
use std::fmt;
use std::sync::Arc;

/// A promise of the contract that a resource broke.
///
/// Its sentence describes the behavior of the resource. If the resource returned an error, that error is the
/// [`source`](Error::source).
///
/// ```
/// use cumem_conformance::Broken;
///
/// let broken = Broken::new("two live blocks overlap");
/// assert_eq!(broken.to_string(), "two live blocks overlap");
/// ```
#[derive(Debug, Clone)]
pub struct Broken {
    sentence: String,
    cause: Option<Arc<dyn Error + Send + Sync>>,
}

impl Broken {
    /// Creates the error from a sentence that describes the behavior of the resource.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem_conformance::Broken;
    /// let broken = Broken::new(format!("a block of {} bytes is not aligned", 64));
    /// assert_eq!(broken.to_string(), "a block of 64 bytes is not aligned");
    /// ```
    pub fn new(sentence: impl Into<String>) -> Self {
        Self { sentence: sentence.into(), cause: None }
    }

    /// Sets the error that the resource returned.
    pub(crate) fn because(self, cause: impl Into<BoxError>) -> Self {
        Self { cause: Some(cause.into().into()), ..self }
    }

    /// Adds the place where it was found in front of the sentence.
    pub(crate) fn at(self, place: impl fmt::Display) -> Self {
        Self { sentence: format!("{place}: {}", self.sentence), ..self }
    }

    /// Returns the error with all its causes in one line.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem_conformance::{BlockLedger, Place, Suite};
    ///
    /// // A factory that fails, so that each check has a cause.
    /// let suite = Suite::new(|_| Err::<BlockLedger<cumem::CudaResource>, _>("no memory".into()));
    /// let report = suite.run(&Place::simulated());
    /// let (_, broken) = &report.failed()[0];
    /// assert_eq!(broken.report().to_string(), "the resource was not made: no memory");
    /// ```
    pub fn report(&self) -> ErrorReport<'_> {
        ErrorReport::of(self)
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sentence)
    }
}

impl Error for Broken {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.cause.as_deref().map(|cause| cause as &(dyn Error + 'static))
    }
}

impl From<Violation> for Broken {
    fn from(violation: Violation) -> Self {
        Self::new(violation.to_string())
    }
}

impl From<DeallocError> for Broken {
    fn from(error: DeallocError) -> Self {
        Self::new("the resource refused a block that it made").because(error.reason)
    }
}

impl From<DeviceError> for Broken {
    fn from(error: DeviceError) -> Self {
        Self::new("the device failed").because(error)
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

/// The error of a factory.
pub type BoxError = Box<dyn Error + Send + Sync>;

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
