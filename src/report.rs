//! [`ErrorReport`]: an error and all its causes in one line.
#![forbid(unsafe_code)]

use std::error::Error;
use std::fmt;

/// Displays an error and all its causes in one line, separated by `: `.
///
/// In all crates of this project an error says one sentence, and [`source`](Error::source) returns its cause. Programs
/// that print the chain (anyhow, eyre, `tracing`) therefore print each cause once. Where only one line is printed, this
/// type joins the chain; each error type of this project has a method `report` that returns it.
///
/// ```
/// use cumem::error::ErrorReport;
/// use cumem::sim::Profile;
/// use cumem::{layout, AllocError, CudaResource, Device, MemoryResource, Stream};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let device = Device::simulated(Profile::tiny(64 << 20))?;
/// let stream = Stream::new(&device)?;
/// let error = CudaResource::new(&device).allocate(&stream, layout::bytes(1 << 30)?).unwrap_err();
/// println!("{}", ErrorReport::of(&error)); // or `error.report()`
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy)]
pub struct ErrorReport<'a>(&'a (dyn Error + 'static));

impl<'a> ErrorReport<'a> {
    /// Creates the report of `error`.
    pub fn of(error: &'a (dyn Error + 'static)) -> Self {
        Self(error)
    }
}

impl fmt::Display for ErrorReport<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self.0, f)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

impl fmt::Debug for ErrorReport<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
