//! What the soak has done so far: operations, findings, figures of the whole run.

use super::verdict::Verdict;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// Findings that are kept with their text. More are only counted.
const KEPT: usize = 20;

/// How often an operation succeeded, was refused, and failed.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Outcomes {
    pub(crate) done: u64,
    pub(crate) refused: u64,
    pub(crate) failed: u64,
}

/// The figures of all rounds. Threads share it.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    operations: Mutex<BTreeMap<&'static str, Outcomes>>,
    stacks: Mutex<BTreeMap<&'static str, u64>>,
    findings: Mutex<Vec<String>>,
    found: AtomicU64,
    total: AtomicU64,
    verified: AtomicU64,
    faults: AtomicU64,
    drop_errors: AtomicU64,
    failures: AtomicU64,
}

impl Figures {
    /// Adds the outcomes of one thread.
    pub(crate) fn add(&self, outcomes: &BTreeMap<&'static str, Outcomes>) {
        let mut all = lock(&self.operations);
        for (name, more) in outcomes {
            let sum = all.entry(name).or_default();
            sum.done += more.done;
            sum.refused += more.refused;
            sum.failed += more.failed;
        }
    }

    /// Counts a round with a layer.
    pub(crate) fn count_layer(&self, word: &'static str) {
        *lock(&self.stacks).entry(word).or_default() += 1;
    }

    /// Notes something that must not happen.
    pub(crate) fn found(&self, finding: String) {
        self.found.fetch_add(1, Ordering::Relaxed);
        let mut findings = lock(&self.findings);
        if findings.len() < KEPT {
            findings.push(finding);
        }
    }

    pub(crate) fn count_operation(&self) {
        self.total.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_verified(&self, bytes: usize) {
        self.verified.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(crate) fn count_faults(&self, faults: u64) {
        self.faults.fetch_add(faults, Ordering::Relaxed);
    }

    pub(crate) fn count_drop_errors(&self, errors: u64) {
        self.drop_errors.fetch_add(errors, Ordering::Relaxed);
    }

    pub(crate) fn count_failure(&self) {
        self.failures.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns how many errors had a code that the soak injects.
    pub(crate) fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    pub(crate) fn operations(&self) -> BTreeMap<&'static str, Outcomes> {
        lock(&self.operations).clone()
    }

    pub(crate) fn layers(&self) -> BTreeMap<&'static str, u64> {
        lock(&self.stacks).clone()
    }

    pub(crate) fn findings(&self) -> Vec<String> {
        lock(&self.findings).clone()
    }

    pub(crate) fn findings_count(&self) -> u64 {
        self.found.load(Ordering::Relaxed)
    }

    /// Returns operations, verified bytes, driver calls that were made to fail, and errors of drops.
    pub(crate) fn totals(&self) -> [u64; 4] {
        [&self.total, &self.verified, &self.faults, &self.drop_errors].map(|it| it.load(Ordering::Relaxed))
    }
}

impl Outcomes {
    pub(crate) fn count(&mut self, verdict: Option<Verdict>) {
        match verdict {
            None => self.done += 1,
            Some(Verdict::Refused) => self.refused += 1,
            Some(Verdict::Failed | Verdict::Finding) => self.failed += 1,
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
