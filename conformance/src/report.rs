//! [`SuiteReport`]: the result of a run of the suite.

use crate::broken::{Broken, Verdict};
use std::fmt;

/// The result of a run of the suite.
///
/// ```
/// use cumem::PinnedResource;
/// use cumem_conformance::{Place, Suite};
///
/// let report = Suite::new(|device| Ok(PinnedResource::new(device))).run(&Place::simulated());
/// report.assert(); // prints one line, or panics with the checks that failed
/// assert!(report.passed().contains(&"zero_bytes"));
/// ```
#[derive(Debug, Clone)]
#[must_use = "a report that is dropped hides failed checks; call `assert`"]
pub struct SuiteReport {
    subject: String,
    seed: u64,
    passed: Vec<&'static str>,
    skipped: Vec<(&'static str, &'static str)>,
    failed: Vec<(&'static str, Broken)>,
}

impl SuiteReport {
    pub(crate) fn new(subject: String, seed: u64) -> Self {
        Self { subject, seed, passed: Vec::new(), skipped: Vec::new(), failed: Vec::new() }
    }

    pub(crate) fn add(&mut self, check: &'static str, outcome: Result<Verdict, Broken>) {
        match outcome {
            Ok(Verdict::Passed) => self.passed.push(check),
            Ok(Verdict::Skipped(why)) => self.skipped.push((check, why)),
            Err(broken) => self.failed.push((check, broken)),
        }
    }

    /// Returns the checks that the resource passed.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem::CudaResource;
    /// use cumem_conformance::{Place, Suite};
    ///
    /// let report = Suite::new(|device| Ok(CudaResource::new(device))).run(&Place::simulated());
    /// assert!(report.passed().contains(&"foreign_block"));
    /// ```
    pub fn passed(&self) -> &[&'static str] {
        &self.passed
    }

    /// Returns the checks that did not apply, and why.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use cumem::CudaResource;
    /// use cumem_conformance::{Place, Suite};
    ///
    /// let report = Suite::new(|device| Ok(CudaResource::new(device))).run(&Place::simulated());
    /// for (check, reason) in report.skipped() {
    ///     println!("{check}: {reason}");
    ///     assert!(!report.passed().contains(check));
    /// }
    /// ```
    pub fn skipped(&self) -> &[(&'static str, &'static str)] {
        &self.skipped
    }

    /// Returns the checks that failed, and why.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem::CudaResource;
    /// use cumem_conformance::{Place, Suite};
    ///
    /// let suite = Suite::new(|_| Err::<CudaResource, _>("no memory".into()));
    /// let report = suite.run(&Place::simulated());
    /// assert!(report.passed().is_empty());
    /// let (_, broken) = &report.failed()[0];
    /// assert_eq!(broken.to_string(), "the resource was not made");
    /// ```
    pub fn failed(&self) -> &[(&'static str, Broken)] {
        &self.failed
    }

    /// Prints the report, in one line if no check failed.
    ///
    /// # Panics
    ///
    /// Panics with all failed checks if there are any.
    ///
    /// # Examples
    ///
    /// ```should_panic
    /// use cumem::CudaResource;
    /// use cumem_conformance::{Place, Suite};
    ///
    /// let report = Suite::new(|_| Err::<CudaResource, _>("no memory".into())).run(&Place::simulated());
    /// report.assert(); // panics
    /// ```
    #[track_caller]
    pub fn assert(&self) {
        assert!(self.failed.is_empty(), "{self}");
        println!("{self}");
    }
}

impl fmt::Display for SuiteReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (passed, all) = (self.passed.len(), self.passed.len() + self.skipped.len() + self.failed.len());
        write!(f, "{}: {passed} of {all} conformance checks passed", self.subject)?;
        self.skipped.iter().try_for_each(|(check, why)| write!(f, "; {check} was skipped: {why}"))?;
        if !self.failed.is_empty() {
            write!(f, " (CUMEM_SEED={})", self.seed)?;
        }
        self.failed.iter().try_for_each(|(check, broken)| write!(f, "\n  {check}: {}", broken.report()))
    }
}
