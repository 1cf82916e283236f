//! [`AdaptorSuite`]: all checks for an adaptor, and for its behavior when its upstream fails.

use crate::broken::{BoxError, Broken, Outcome, Verdict};
use crate::expectations::Expectations;
use crate::faults::{FaultCheck, fault_checks};
use crate::ledger::LedgerBook;
use crate::live::Violation;
use crate::place::Place;
use crate::report::SuiteReport;
use crate::suite::{Suite, unless_it_panics};
use crate::upstream::{TestUpstream, test_upstream};
use cumem::kind::Managed;
use cumem::{Device, MemoryResource};
use std::cell::RefCell;
use std::fmt::{self, Display};
use std::mem;

/// All checks for an adaptor: those of a [`Suite`], with a ledger under the adaptor that must balance after each check,
/// and those in which the upstream fails.
///
/// ```
/// use cumem_conformance::{AdaptorSuite, BlockLedger, Place};
///
/// let report = AdaptorSuite::new(|upstream| Ok(BlockLedger::new(upstream))).run(&Place::simulated());
/// assert!(report.passed().contains(&"upstream_runs_dry"), "{report}");
/// ```
#[must_use = "a suite that does not run checks nothing"]
pub struct AdaptorSuite<F> {
    make: F,
    expectations: Expectations,
}

impl<R, F> AdaptorSuite<F>
where
    R: MemoryResource<Kind = Managed> + Display + Sync,
    F: Fn(TestUpstream) -> Result<R, BoxError>,
{
    /// Creates the suite. `make` creates the adaptor over an upstream, anew for each check.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem_conformance::{AdaptorSuite, BlockLedger, Place, TestUpstream};
    ///
    /// // An adaptor that cannot be made fails each check.
    /// let suite = AdaptorSuite::new(|_| Err::<BlockLedger<TestUpstream>, _>("no memory".into()));
    /// assert!(suite.run(&Place::simulated()).passed().is_empty());
    /// ```
    pub fn new(make: F) -> Self {
        Self { make, expectations: Expectations::default() }
    }

    /// Sets where the adaptor may differ from the default expectations.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use cumem_conformance::{AdaptorSuite, BlockLedger, Expectations, Place};
    ///
    /// let expectations = Expectations::default().largest(1 << 20);
    /// let suite = AdaptorSuite::new(|upstream| Ok(BlockLedger::new(upstream))).expecting(expectations);
    /// suite.run(&Place::simulated()).assert();
    /// ```
    pub fn expecting(mut self, expectations: Expectations) -> Self {
        self.expectations = expectations;
        self
    }

    /// Runs every check.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use cumem_conformance::{AdaptorSuite, FailNth, Place};
    ///
    /// let report = AdaptorSuite::new(|upstream| Ok(FailNth::new(upstream))).run(&Place::simulated());
    /// assert!(report.failed().is_empty(), "{report}");
    /// ```
    pub fn run(&self, place: &Place) -> SuiteReport {
        let books = RefCell::new(Vec::new());
        let suite = Suite::new(|device: &Device| {
            let upstream = test_upstream(device)?;
            books.borrow_mut().push(upstream.upstream().book());
            (self.make)(upstream)
        });
        let suite = suite.through_host().expecting(self.expectations.clone());
        let mut report = suite.run_then(place, |check| {
            let books: Vec<LedgerBook> = mem::take(&mut books.borrow_mut());
            books.iter().try_for_each(|book| settle(book, check))
        });
        for FaultCheck { name, run } in fault_checks() {
            let run = || place.device().map_err(Broken::from).and_then(|device| run(&device, &self.make));
            report.add(name, unless_it_panics(run).map(Verdict::from));
        }
        report
    }
}

/// Checks that the ledger balances. Two kinds of checks are exempt in part. The checks of foreign and forged blocks
/// allow an adaptor without bookkeeping to pass such a block on, because its upstream refuses the block.
/// The check that makes driver calls fail allows leaked blocks, because the driver refused to free them;
/// that check compares the leaks with the driver's own counts.
fn settle(book: &LedgerBook, check: &str) -> Outcome {
    let Err(mut unsettled) = book.settle() else { return Ok(()) };
    if check == "every_driver_call_fails" {
        unsettled.outstanding.clear();
    }
    if matches!(check, "foreign_block" | "forged_block") {
        unsettled.violations.retain(|found| !matches!(found, Violation::Unknown { .. } | Violation::Changed { .. }));
    }
    if unsettled.violations.is_empty() && unsettled.outstanding.is_empty() {
        return Ok(());
    }
    Err(Broken::new("the adaptor used its upstream wrongly").because(unsettled))
}

impl<F> fmt::Debug for AdaptorSuite<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdaptorSuite").field("expectations", &self.expectations).finish_non_exhaustive()
    }
}
