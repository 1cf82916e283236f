//! [`State`]: the observations of one buffer.
#![forbid(unsafe_code)]

use super::arrival::Arrivals;
use super::faults::{Faulted, Faults};
use super::guesses::Guesses;
use super::overlap::overlap;
use super::predictor::Predictor;
use super::report::AutoPrefetchReport;
use crate::device::Locked;
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, Mutex};

/// The number of declared uses that are remembered, and the number of the user's prefetches.
const REMEMBERED: usize = 32;

/// The observations of one buffer.
#[derive(Debug, Default)]
pub(super) struct State {
    /// The address of the buffer's memory, and its length in bytes.
    pub(super) memory: (u64, usize),
    pub(super) predictor: Predictor,
    pub(super) guesses: Guesses,
    pub(super) arrivals: Arrivals,
    /// The latest declared uses. The predictor has them already, so faults in them are ignored.
    pub(super) declared: VecDeque<Range<usize>>,
    /// The ranges that the user has prefetched to the device and not used yet.
    pub(super) user_prefetches: VecDeque<Range<usize>>,
    pub(super) faults: Option<Arc<Faults>>,
    /// The number of uses and of the user's prefetches so far.
    pub(super) turn: u64,
    pub(super) report: AutoPrefetchReport,
}

impl State {
    pub(super) fn lock(state: &Mutex<Self>) -> Locked<'_, Self> {
        Locked::new(state)
    }

    pub(super) fn report(state: &Mutex<Self>) -> AutoPrefetchReport {
        let Self { arrivals, faults, report, .. } = &mut *Self::lock(state);
        arrivals.decide(report);
        AutoPrefetchReport { faults: faults.as_ref().map(|faults| faults.count()), ..report.clone() }
    }

    /// Counts another use or prefetch, and discards guesses that were made long before.
    pub(super) fn next_turn(&mut self, uses_ahead: usize) {
        self.turn += 1;
        let oldest = self.turn.saturating_sub((uses_ahead as u64).saturating_mul(2).saturating_add(2));
        self.guesses.expire(oldest, &mut self.report);
    }

    /// Records that the user has prefetched these bytes to another location. `whole_to_host` is true if that was the
    /// whole buffer, to the host.
    pub(super) fn prefetched_elsewhere(&mut self, bytes: &Range<usize>, whole_to_host: bool) {
        self.user_prefetches.retain(|prefetched| overlap(prefetched, bytes) == 0);
        self.report.wasted += self.guesses.discard(|guess| overlap(&guess.bytes, bytes) > 0);
        // A prefetch of a part to the host is no use by the host. For example, the program may prefetch the part
        // because the device has finished with the part.
        if whole_to_host {
            self.predictor.observe_host();
        }
    }

    /// Discards all guesses after the host has used the buffer or the buffer has moved. The trust in guesses stays.
    pub(super) fn reset(&mut self) {
        self.predictor.observe_host();
        self.user_prefetches.clear();
        self.report.wasted += self.guesses.discard(|_| true);
    }

    /// Learns from the page faults since the last call. Reports whether any were outside of declared uses.
    pub(super) fn learn_from_faults(&mut self, uses_ahead: usize, size: usize) -> bool {
        let taken = self.faults.as_ref().map(|faults| faults.take()).unwrap_or_default();
        let new: Vec<_> = taken.into_iter().filter(|faulted| self.is_undeclared(&faulted.bytes)).collect();
        new.iter().for_each(|faulted| self.learn(faulted, uses_ahead, size));
        !new.is_empty()
    }

    pub(super) fn is_undeclared(&self, faulted: &Range<usize>) -> bool {
        self.declared.iter().all(|declared| overlap(declared, faulted) == 0)
    }

    /// Learns from an undeclared use that caused page faults. If the fault is in a range that was predicted for later,
    /// the ranges predicted before it count as used: their pages were on the device, or they would have faulted too.
    pub(super) fn learn(&mut self, faulted: &Faulted, uses_ahead: usize, size: usize) {
        self.report.faulted += faulted.moved as u64;
        if faulted.moved < faulted.bytes.len() / 2 {
            // The faults are scattered. A prefetch of the whole range would migrate more than the work needs.
            return;
        }
        let expected = self.predictor.next(uses_ahead.saturating_mul(2), size);
        let Some(reached) = expected.iter().position(|range| overlap(range, &faulted.bytes) > 0) else {
            self.predictor.observe(faulted.bytes.clone());
            return;
        };
        for range in &expected[..=reached] {
            let moved = if overlap(range, &faulted.bytes) > 0 { faulted.moved } else { 0 };
            while let Some(guess) = self.guesses.overlapping(range).and_then(|index| self.guesses.take(index)) {
                let used = guess.bytes_prefetched().saturating_sub(moved as u64);
                self.report.ahead_used += used;
                self.report.ahead_in_time += used;
            }
            self.predictor.observe(range.clone());
        }
    }
}

/// Appends a range, and removes the oldest one if there are more than [`REMEMBERED`].
pub(super) fn remember(ranges: &mut VecDeque<Range<usize>>, bytes: Range<usize>) {
    if ranges.len() == REMEMBERED {
        ranges.pop_front();
    }
    ranges.push_back(bytes);
}
