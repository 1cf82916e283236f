//! [`Guesses`]: the predicted uses of a buffer, and whether predictions are trusted.
#![forbid(unsafe_code)]

use super::arrival::PrefetchEvents;
use super::budget::Reservation;
use super::overlap::overlap;
use super::report::AutoPrefetchReport;
use std::collections::VecDeque;
use std::ops::Range;

/// The highest trust. Each guess that was used adds 1, and each guess that expired unused subtracts 1. At 0, guesses
/// are no longer prefetched. So 4 expired guesses in a row stop the prefetches at the latest.
const MOST_TRUST: u8 = 4;

/// A range that is predicted to be used.
#[derive(Debug)]
pub(super) struct Guess {
    pub(super) bytes: Range<usize>,
    /// The turn in which the guess was made.
    pub(super) made: u64,
    /// The prefetch of the range, if there was one.
    pub(super) prefetch: Option<PrefetchEvents>,
    /// The bytes of the budget that the prefetch takes.
    pub(super) _reservation: Option<Reservation>,
}

impl Guess {
    pub(super) fn bytes_prefetched(&self) -> u64 {
        if self.prefetch.is_some() { self.bytes.len() as u64 } else { 0 }
    }
}

/// The guesses whose ranges have not been used yet, the oldest first.
#[derive(Debug)]
pub(super) struct Guesses {
    waiting: VecDeque<Guess>,
    trust: u8,
}

impl Default for Guesses {
    fn default() -> Self {
        Self { waiting: VecDeque::new(), trust: MOST_TRUST / 2 }
    }
}

impl Guesses {
    /// Reports whether guesses are to be prefetched.
    pub(super) fn are_trusted(&self) -> bool {
        self.trust > 0
    }

    /// Reports whether one guess contains all of `bytes`.
    pub(super) fn contain(&self, bytes: &Range<usize>) -> bool {
        self.waiting.iter().any(|guess| overlap(&guess.bytes, bytes) == bytes.len())
    }

    pub(super) fn push(&mut self, guess: Guess) {
        self.waiting.push_back(guess);
    }

    /// Returns the index of the oldest guess that overlaps `bytes`.
    pub(super) fn overlapping(&self, bytes: &Range<usize>) -> Option<usize> {
        self.waiting.iter().position(|guess| overlap(&guess.bytes, bytes) > 0)
    }

    pub(super) fn get(&self, index: usize) -> &Guess {
        &self.waiting[index]
    }

    /// Removes a guess whose range was used, and adds to the trust.
    pub(super) fn take(&mut self, index: usize) -> Option<Guess> {
        self.trust = (self.trust + 1).min(MOST_TRUST);
        self.waiting.remove(index)
    }

    /// Removes some guesses without a change of the trust, and returns the number of their bytes that were prefetched.
    pub(super) fn discard(&mut self, which: impl Fn(&Guess) -> bool) -> u64 {
        let prefetched = self.waiting.iter().filter(|guess| which(guess)).map(Guess::bytes_prefetched).sum();
        self.waiting.retain(|guess| !which(guess));
        prefetched
    }

    /// Removes the guesses that were made before turn `oldest`, and subtracts from the trust.
    pub(super) fn expire(&mut self, oldest: u64, report: &mut AutoPrefetchReport) {
        while self.waiting.front().is_some_and(|guess| guess.made < oldest) {
            let Some(guess) = self.waiting.pop_front() else { return };
            report.wasted += guess.bytes_prefetched();
            if self.trust == 1 {
                report.backed_off += 1;
            }
            self.trust = self.trust.saturating_sub(1);
        }
    }
}
