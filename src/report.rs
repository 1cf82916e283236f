//! [`ErrorReport`]: an error and all its causes in one text.
#![forbid(unsafe_code)]

use std::error::Error;
use std::fmt::{self, Write};

/// Displays an error and all its causes in one line, separated by `: `. After an error of several lines, each cause is on
/// a line of its own, which starts with `cause: `.
///
/// In all crates of this project an error displays one sentence, and [`source`](Error::source) returns its cause.
/// Libraries that print the chain (anyhow, eyre, `tracing`) therefore print each cause once. If a program prints only
/// one line, this type joins the chain. The error types of this project have a method `report` that returns it.
///
/// # Examples
///
/// ```
/// use cumem::error::{ErrorReport, TrimError};
/// use cumem::{DeviceId, DriverError};
///
/// let reason = DriverError::NotSupported { what: "trimming", device: DeviceId::cuda(0) };
/// let error = TrimError::new(0, reason);
/// let text = "0 bytes were freed, and then memory could not be freed: cuda:0 does not support trimming";
/// assert_eq!(ErrorReport::of(&error).to_string(), text);
/// assert_eq!(error.report().to_string(), text); // the same
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
        let mut out = Lines { out: f, several: false };
        write!(out, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            let separator = if out.several { "\n  cause: " } else { ": " };
            write!(out, "{separator}{error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

/// Passes text on, and records whether it has more than one line.
struct Lines<'a, 'f> {
    out: &'a mut fmt::Formatter<'f>,
    several: bool,
}

impl fmt::Write for Lines<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.several |= text.contains('\n');
        self.out.write_str(text)
    }
}

impl fmt::Debug for ErrorReport<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
