//! [`AutoPrefetch`]: the observer of one buffer.
#![forbid(unsafe_code)]

use super::ahead::Ahead;
use super::arrival::{Arrivals, Brought, Reached};
use super::faults::{Faulted, Faults};
use super::guesses::{Guess, Guesses};
use super::predictor::Predictor;
use super::{AutoPrefetchOptions, AutoPrefetchReport, overlap};
use crate::block::Block;
use crate::device::Device;
use crate::error::DriverError;
use crate::hints::{self, Outcome};
use crate::location::Location;
use crate::stream::Stream;
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Prefetches are made in pieces of this size: smaller ones hold the host for longer, and those of 128 MiB are no
/// faster in every run (`benches/README.md`, H100, driver 580.159).
const PIECE: usize = 32 << 20;

/// Declared uses, and prefetches by the user, that are remembered as such.
const REMEMBERED: usize = 32;

/// The observer of one buffer.
#[derive(Debug)]
pub(crate) struct AutoPrefetch {
    ahead: Arc<Ahead>,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
pub(super) struct State {
    predictor: Predictor,
    guesses: Guesses,
    arrivals: Arrivals,
    /// The last declared uses: faults in them say nothing new.
    declared: VecDeque<Range<usize>>,
    /// What the user has prefetched and not used yet.
    promised: VecDeque<Range<usize>>,
    faults: Option<Arc<Faults>>,
    /// Uses and prefetches so far.
    turn: u64,
    report: AutoPrefetchReport,
}

impl AutoPrefetch {
    pub(crate) fn new(block: &Block, device: &Device, options: AutoPrefetchOptions) -> Result<Self, DriverError> {
        Ok(Self::over(&Arc::new(Ahead::new(device, options)?), block))
    }

    pub(super) fn over(ahead: &Arc<Ahead>, block: &Block) -> Self {
        let state = State { faults: Faults::of(ahead.device(), block), ..State::default() };
        let state = Arc::new(Mutex::new(state));
        ahead.enter(&state);
        Self { ahead: Arc::clone(ahead), state }
    }

    pub(crate) fn report(&self) -> AutoPrefetchReport {
        State::report(&self.state)
    }

    /// All of `bytes` is about to be used by work on `stream`.
    pub(crate) fn used(&self, block: &Block, bytes: Range<usize>, stream: &Stream) -> Result<(), DriverError> {
        let uses_ahead = self.ahead.options.uses_ahead;
        let mut state = self.lock();
        state.learn_from_faults(uses_ahead, block.size());
        let State { guesses, arrivals, report, .. } = &mut *state;
        report.uses += 1;
        let mut brought = 0;
        while let Some(index) = guesses.met_by(&bytes) {
            let reached = match &guesses.get(index).brought {
                Some(brought) => brought.awaited_by(stream)?,
                None => Reached::Later,
            };
            if let Some(Guess { bytes: guessed, brought: Some(prefetch), .. }) = guesses.take(index) {
                let used = overlap(&guessed, &bytes);
                brought += used;
                arrivals.used(used as u64, prefetch, reached, report);
            }
        }
        state.next_turn(uses_ahead);
        let State { predictor, declared, promised, report, .. } = &mut *state;
        let prepared: usize = promised.iter().map(|promise| overlap(promise, &bytes)).sum();
        match promised.iter().position(|promise| *promise == bytes) {
            // It was observed when the user prefetched it.
            Some(index) => drop(promised.remove(index)),
            None => predictor.observe(bytes.clone()),
        }
        remember(declared, bytes.clone());
        let length = bytes.len();
        // What was not foreseen comes at once, and not fault by fault.
        if bring(block, bytes, stream)? {
            report.on_demand += length.saturating_sub(brought + prepared) as u64;
        }
        Ok(())
    }

    /// Some of the buffer will be used, nobody knows which, unless faults have told.
    pub(crate) fn used_sparsely(&self, block: &Block) {
        let uses_ahead = self.ahead.options.uses_ahead;
        let mut state = self.lock();
        state.report.uses += 1;
        let learnt = state.learn_from_faults(uses_ahead, block.size());
        state.next_turn(uses_ahead);
        if learnt {
            drop(state);
            self.bring_ahead(block);
        }
    }

    /// The user has enqueued a prefetch.
    pub(crate) fn prefetched(&self, block: &Block, bytes: Range<usize>, to: Location) {
        let mut state = self.lock();
        state.learn_from_faults(self.ahead.options.uses_ahead, block.size());
        if to != Location::Device(self.ahead.device().id()) {
            return state.sent_away(&bytes, bytes.len() == block.size() && to == Location::Host);
        }
        let State { predictor, guesses, promised, report, .. } = &mut *state;
        while let Some(guess) = guesses.met_by(&bytes).and_then(|index| guesses.take(index)) {
            report.left_to_user += guess.bytes_brought();
        }
        predictor.observe(bytes.clone());
        remember(promised, bytes);
        state.next_turn(self.ahead.options.uses_ahead);
        drop(state);
        self.bring_ahead(block);
    }

    /// The host has been at the buffer: what was brought may be gone.
    pub(crate) fn used_by_host(&self) {
        self.lock().start_over();
    }

    /// The buffer has other memory.
    pub(crate) fn moved_to(&self, block: &Block) {
        let mut state = self.lock();
        state.start_over();
        state.faults.iter().for_each(|faults| faults.follow(block));
    }

    /// Brings what is thought to come next, as far as the budget goes.
    pub(super) fn bring_ahead(&self, block: &Block) {
        let State { predictor, guesses, turn, report, .. } = &mut *self.lock();
        for bytes in predictor.next(self.ahead.options.uses_ahead, block.size()) {
            if guesses.contain(&bytes) {
                continue;
            }
            let Some(room) = self.ahead.room(bytes.len()) else { break };
            let brought = match guesses.are_trusted() {
                true => self.bring_one(block, &bytes),
                false => Ok(None),
            };
            match brought {
                Ok(brought) => {
                    let _room = brought.is_some().then_some(room);
                    let guess = Guess { bytes, made: *turn, brought, _room };
                    report.ahead += guess.bytes_brought();
                    guesses.push(guess);
                }
                Err(error) => {
                    // The work does without: its pages fault in, or come when the use is declared.
                    tracing::debug!(%error, "nothing was brought ahead");
                    report.failed += 1;
                    break;
                }
            }
        }
    }

    fn bring_one(&self, block: &Block, bytes: &Range<usize>) -> Result<Option<Brought>, DriverError> {
        let device = self.ahead.device();
        let (addr, to) = (block.addr() + bytes.start as u64, device.id().into());
        // Events around a prefetch of what is there would be for nothing.
        if device.residency().has(device, addr, bytes.len(), to) {
            return Ok(None);
        }
        let stream = &self.ahead.stream;
        Brought::by(stream, || bring(block, bytes.clone(), stream))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        State::lock(&self.state)
    }
}

impl Drop for AutoPrefetch {
    fn drop(&mut self) {
        let report = self.report();
        self.ahead.leave(&self.state, &report);
    }
}

impl State {
    fn lock(state: &Mutex<Self>) -> MutexGuard<'_, Self> {
        state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn report(state: &Mutex<Self>) -> AutoPrefetchReport {
        let Self { arrivals, faults, report, .. } = &mut *Self::lock(state);
        arrivals.decide(report);
        AutoPrefetchReport { faults: faults.as_ref().map(|faults| faults.count()), ..report.clone() }
    }

    /// Another use or prefetch: guesses that were made long before are given up.
    fn next_turn(&mut self, uses_ahead: usize) {
        self.turn += 1;
        let oldest = self.turn.saturating_sub((uses_ahead as u64).saturating_mul(2).saturating_add(2));
        self.guesses.expire(oldest, &mut self.report);
    }

    /// The user has prefetched these bytes elsewhere.
    fn sent_away(&mut self, bytes: &Range<usize>, hosts_turn: bool) {
        self.promised.retain(|promise| overlap(promise, bytes) == 0);
        self.report.wasted += self.guesses.forget(|guess| overlap(&guess.bytes, bytes) > 0);
        // Parts that go to the host may be what the device is done with.
        if hosts_turn {
            self.predictor.observe_host();
        }
    }

    fn start_over(&mut self) {
        self.predictor.observe_host();
        self.promised.clear();
        // That is no fault of the guesses.
        self.report.wasted += self.guesses.forget(|_| true);
    }

    /// Whether faults could be read and told something new.
    fn learn_from_faults(&mut self, uses_ahead: usize, size: usize) -> bool {
        let taken = self.faults.as_ref().map(|faults| faults.take()).unwrap_or_default();
        let new: Vec<_> = taken.into_iter().filter(|faulted| self.is_news(&faulted.bytes)).collect();
        new.iter().for_each(|faulted| self.learn(faulted, uses_ahead, size));
        !new.is_empty()
    }

    fn is_news(&self, faulted: &Range<usize>) -> bool {
        self.declared.iter().all(|declared| overlap(declared, faulted) == 0)
    }

    /// Work that nobody declared has used memory. What lies in its way was there, or it would have faulted too.
    fn learn(&mut self, faulted: &Faulted, uses_ahead: usize, size: usize) {
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

fn remember(ranges: &mut VecDeque<Range<usize>>, bytes: Range<usize>) {
    if ranges.len() == REMEMBERED {
        ranges.pop_front();
    }
    ranges.push_back(bytes);
}

/// Prefetches a range, unless it is there; says whether it was prefetched.
fn bring(block: &Block, bytes: Range<usize>, stream: &Stream) -> Result<bool, DriverError> {
    let to = stream.device_id();
    let mut brought = false;
    for start in bytes.clone().step_by(PIECE) {
        let piece = start..bytes.end.min(start + PIECE);
        brought |= hints::prefetch_if_needed(block, piece, to, stream)? == Outcome::Applied;
    }
    Ok(brought)
}
