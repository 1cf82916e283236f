//! [`State`]: what is known of one observed buffer.
#![forbid(unsafe_code)]

use super::arrival::Arrivals;
use super::faults::{Faulted, Faults};
use super::guesses::Guesses;
use super::overlap::overlap;
use super::predictor::Predictor;
use super::report::AutoPrefetchReport;
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Declared uses, and prefetches by the user, that are remembered as such.
const REMEMBERED: usize = 32;

/// What is known of one observed buffer.
#[derive(Debug, Default)]
pub(super) struct State {
    /// Address of the buffer's memory, and its length in bytes.
    pub(super) memory: (u64, usize),
    pub(super) predictor: Predictor,
    pub(super) guesses: Guesses,
    pub(super) arrivals: Arrivals,
    /// The last declared uses: faults in them say nothing new.
    pub(super) declared: VecDeque<Range<usize>>,
    /// What the user has prefetched and not used yet.
    pub(super) promised: VecDeque<Range<usize>>,
    pub(super) faults: Option<Arc<Faults>>,
    /// Uses and prefetches so far.
    pub(super) turn: u64,
    pub(super) report: AutoPrefetchReport,
}

impl State {
    pub(super) fn lock(state: &Mutex<Self>) -> MutexGuard<'_, Self> {
        state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn report(state: &Mutex<Self>) -> AutoPrefetchReport {
        let Self { arrivals, faults, report, .. } = &mut *Self::lock(state);
        arrivals.decide(report);
        AutoPrefetchReport { faults: faults.as_ref().map(|faults| faults.count()), ..report.clone() }
    }

    /// Another use or prefetch: guesses that were made long before are given up.
    pub(super) fn next_turn(&mut self, uses_ahead: usize) {
        self.turn += 1;
        let oldest = self.turn.saturating_sub((uses_ahead as u64).saturating_mul(2).saturating_add(2));
        self.guesses.expire(oldest, &mut self.report);
    }

    /// The user has prefetched these bytes elsewhere.
    pub(super) fn sent_away(&mut self, bytes: &Range<usize>, hosts_turn: bool) {
        self.promised.retain(|promise| overlap(promise, bytes) == 0);
        self.report.wasted += self.guesses.forget(|guess| overlap(&guess.bytes, bytes) > 0);
        // Parts that go to the host may be what the device is done with.
        if hosts_turn {
            self.predictor.observe_host();
        }
    }

    pub(super) fn start_over(&mut self) {
        self.predictor.observe_host();
        self.promised.clear();
        // That is no fault of the guesses.
        self.report.wasted += self.guesses.forget(|_| true);
    }

    /// Whether faults could be read and told something new.
    pub(super) fn learn_from_faults(&mut self, uses_ahead: usize, size: usize) -> bool {
        let taken = self.faults.as_ref().map(|faults| faults.take()).unwrap_or_default();
        let new: Vec<_> = taken.into_iter().filter(|faulted| self.is_news(&faulted.bytes)).collect();
        new.iter().for_each(|faulted| self.learn(faulted, uses_ahead, size));
        !new.is_empty()
    }

    pub(super) fn is_news(&self, faulted: &Range<usize>) -> bool {
        self.declared.iter().all(|declared| overlap(declared, faulted) == 0)
    }

    /// Work that nobody declared has used memory. What lies in its way was there, or it would have faulted too.
    pub(super) fn learn(&mut self, faulted: &Faulted, uses_ahead: usize, size: usize) {
        self.report.faulted += faulted.moved as u64;
        if faulted.moved < faulted.bytes.len() / 2 {
            // Here and there: to bring all that lies between would be more than is needed.
            return;
        }
        let expected = self.predictor.next(uses_ahead.saturating_mul(2), size);
        let Some(reached) = expected.iter().position(|range| overlap(range, &faulted.bytes) > 0) else {
            self.predictor.observe(faulted.bytes.clone());
            return;
        };
        for range in &expected[..=reached] {
            let moved = if overlap(range, &faulted.bytes) > 0 { faulted.moved } else { 0 };
            while let Some(guess) = self.guesses.met_by(range).and_then(|index| self.guesses.take(index)) {
                let used = guess.bytes_brought().saturating_sub(moved as u64);
                self.report.ahead_used += used;
                self.report.ahead_in_time += used;
            }
            self.predictor.observe(range.clone());
        }
    }
}

/// Appends a range, and forgets the oldest past [`REMEMBERED`].
pub(super) fn remember(ranges: &mut VecDeque<Range<usize>>, bytes: Range<usize>) {
    if ranges.len() == REMEMBERED {
        ranges.pop_front();
    }
    ranges.push_back(bytes);
}
