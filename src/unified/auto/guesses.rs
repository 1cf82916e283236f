//! [`Guesses`]: what is thought to come, and whether guesses are trusted.
#![forbid(unsafe_code)]

use super::arrival::Brought;
use super::budget::Room;
use super::overlap::overlap;
use super::report::AutoPrefetchReport;
use std::collections::VecDeque;
use std::ops::Range;

/// Guesses that have to come true to make up for all wrong ones; so many wrong ones in a row end the bringing.
const MOST_TRUST: u8 = 4;

/// A range that is thought to come.
#[derive(Debug)]
pub(super) struct Guess {
    pub(super) bytes: Range<usize>,
    /// The turn in which it was made.
    pub(super) made: u64,
    /// Its prefetch, unless it is only a guess.
    pub(super) brought: Option<Brought>,
    /// What it takes of the budget until then.
    pub(super) _room: Option<Room>,
}

impl Guess {
    pub(super) fn bytes_brought(&self) -> u64 {
        if self.brought.is_some() { self.bytes.len() as u64 } else { 0 }
    }
}

/// Guesses that have not come true yet, the oldest first.
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
    /// Whether what is guessed shall be brought.
    pub(super) fn are_trusted(&self) -> bool {
        self.trust > 0
    }

    /// Whether all of `bytes` is thought to come already.
    pub(super) fn contain(&self, bytes: &Range<usize>) -> bool {
        self.waiting.iter().any(|guess| overlap(&guess.bytes, bytes) == bytes.len())
    }

    pub(super) fn push(&mut self, guess: Guess) {
        self.waiting.push_back(guess);
    }

    /// One that `bytes` has something of.
    pub(super) fn met_by(&self, bytes: &Range<usize>) -> Option<usize> {
        self.waiting.iter().position(|guess| overlap(&guess.bytes, bytes) > 0)
    }

    pub(super) fn get(&self, index: usize) -> &Guess {
        &self.waiting[index]
    }

    /// Takes out one that came true.
    pub(super) fn take(&mut self, index: usize) -> Option<Guess> {
        self.trust = (self.trust + 1).min(MOST_TRUST);
        self.waiting.remove(index)
    }

    /// Forgets some, through no fault of theirs; bytes that had been brought.
    pub(super) fn forget(&mut self, which: impl Fn(&Guess) -> bool) -> u64 {
        let brought = self.waiting.iter().filter(|guess| which(guess)).map(Guess::bytes_brought).sum();
        self.waiting.retain(|guess| !which(guess));
        brought
    }

    /// Gives up those that were made before turn `oldest`.
    pub(super) fn expire(&mut self, oldest: u64, report: &mut AutoPrefetchReport) {
        while self.waiting.front().is_some_and(|guess| guess.made < oldest) {
            let Some(guess) = self.waiting.pop_front() else { return };
            report.wasted += guess.bytes_brought();
            if self.trust == 1 {
                report.backed_off += 1;
            }
            self.trust = self.trust.saturating_sub(1);
        }
    }
}
