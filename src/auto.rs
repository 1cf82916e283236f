//! Prefetch that follows from how a buffer is used: what [`Buffer::auto_prefetch`](crate::Buffer::auto_prefetch) turns on.
//!
//! It sees the [uses](crate::Buffer::device_use) of a buffer that are declared, the host's guards over it, and what the
//! library knows of where pages are. Of the uses it learns what comes next ([`predictor`]), and brings that on a stream of its
//! own while the present work runs, so far ahead as its budget goes. Where its guesses are not used it stops bringing and
//! only guesses, until they come true again.
#![forbid(unsafe_code)]

mod predictor;
mod report;

pub use report::AutoPrefetchReport;

use self::predictor::Predictor;
use crate::block::Block;
use crate::error::DriverError;
use crate::event::Event;
use crate::hints::{self, Outcome};
use crate::stream::Stream;
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Prefetches are made in pieces of this size: of 2, 8, 32 and 128 MiB these go fastest and hold the host for the shortest time
/// (`benches/README.md`, H100, driver 580.159).
const PIECE: usize = 32 << 20;

/// Guesses that have to come true to make up for all wrong ones; so many wrong ones in a row end the bringing.
const MOST_TRUST: u8 = 4;

/// What [`Buffer::auto_prefetch`](crate::Buffer::auto_prefetch) may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct AutoPrefetchOptions {
    /// Bytes that may be on the device or on their way without having been used.
    pub budget: usize,
    /// Uses that it may be ahead.
    pub uses_ahead: usize,
}

impl Default for AutoPrefetchOptions {
    fn default() -> Self {
        Self { budget: 256 << 20, uses_ahead: 4 }
    }
}

impl AutoPrefetchOptions {
    /// With another budget, in bytes.
    #[must_use]
    pub fn budget(mut self, bytes: usize) -> Self {
        self.budget = bytes;
        self
    }

    /// With another number of uses to be ahead.
    #[must_use]
    pub fn uses_ahead(mut self, uses: usize) -> Self {
        self.uses_ahead = uses;
        self
    }
}

/// A part of a buffer in use by the device: work that uses it is enqueued on the buffer's stream while this is there. When
/// it goes, what comes next is brought.
#[derive(Debug)]
#[must_use = "work is enqueued while it is there"]
pub struct DeviceUse<'a> {
    address: u64,
    observer: Option<(&'a AutoPrefetch, &'a Block)>,
}

impl<'a> DeviceUse<'a> {
    pub(crate) fn new(address: u64, observer: Option<(&'a AutoPrefetch, &'a Block)>) -> Self {
        Self { address, observer }
    }

    /// The address of the first element, for kernels.
    pub fn device_address(&self) -> u64 {
        self.address
    }
}

impl Drop for DeviceUse<'_> {
    fn drop(&mut self) {
        if let Some((auto, block)) = self.observer {
            auto.bring_ahead(block);
        }
    }
}

/// The observer of one buffer.
#[derive(Debug)]
pub(crate) struct AutoPrefetch {
    options: AutoPrefetchOptions,
    ahead: Stream,
    /// Faults of the device when it was turned on, where they can be read.
    faults: Option<u64>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    predictor: Predictor,
    guesses: VecDeque<Guess>,
    trust: u8,
    report: AutoPrefetchReport,
}

/// A range that is thought to come.
#[derive(Debug)]
struct Guess {
    bytes: Range<usize>,
    /// The number of the use after which it was made.
    made: u64,
    /// The end of its prefetch, unless it is only a guess.
    brought: Option<Event>,
}

impl AutoPrefetch {
    pub(crate) fn new(stream: &Stream, options: AutoPrefetchOptions) -> Result<Self, DriverError> {
        let state = State {
            predictor: Predictor::default(),
            guesses: VecDeque::new(),
            trust: MOST_TRUST / 2,
            report: AutoPrefetchReport::default(),
        };
        let ahead = Stream::new(stream.device())?;
        Ok(Self { options, faults: faults(stream), ahead, state: Mutex::new(state) })
    }

    pub(crate) fn report(&self) -> AutoPrefetchReport {
        let faults = self.faults.zip(faults(&self.ahead)).map(|(before, now)| now - before);
        AutoPrefetchReport { faults, ..self.lock().report.clone() }
    }

    /// All of `bytes` is about to be used by work on `stream`.
    pub(crate) fn used(&self, block: &Block, bytes: Range<usize>, stream: &Stream) -> Result<(), DriverError> {
        let mut state = self.lock();
        state.report.uses += 1;
        let mut brought = 0;
        while let Some(index) = state.guesses.iter().position(|guess| overlap(&guess.bytes, &bytes) > 0) {
            let Some(guess) = state.guesses.remove(index) else { break };
            state.trust = (state.trust + 1).min(MOST_TRUST);
            if let Some(event) = guess.brought {
                let (used, in_time) = (overlap(&guess.bytes, &bytes), event.is_done()?);
                brought += used;
                state.report.ahead_used += used as u64;
                state.report.ahead_in_time += if in_time { used as u64 } else { 0 };
                if !in_time {
                    stream.wait(&event)?;
                }
            }
        }
        state.expire(self.options.uses_ahead);
        let length = bytes.len();
        state.predictor.observe(bytes.clone());
        // What was not foreseen comes at once, and not fault by fault.
        if bring(block, bytes, stream)? {
            state.report.on_demand += length.saturating_sub(brought) as u64;
        }
        Ok(())
    }

    /// Some of `bytes` will be used, nobody knows which.
    pub(crate) fn used_sparsely(&self) {
        self.lock().report.uses += 1;
    }

    /// The host has been at the buffer, or it has other memory: what was brought may be gone.
    pub(crate) fn start_over(&self) {
        let mut state = self.lock();
        state.predictor.observe_host();
        // That is no fault of the guesses.
        let wasted: usize = state.guesses.drain(..).filter(|g| g.brought.is_some()).map(|g| g.bytes.len()).sum();
        state.report.wasted += wasted as u64;
    }

    /// Brings what is thought to come next, as far as the budget goes.
    fn bring_ahead(&self, block: &Block) {
        let mut state = self.lock();
        let made = state.report.uses;
        for bytes in state.predictor.next(self.options.uses_ahead, block.size()) {
            let ahead: usize = state.guesses.iter().filter(|g| g.brought.is_some()).map(|g| g.bytes.len()).sum();
            if ahead + bytes.len() > self.options.budget {
                break;
            }
            if state.guesses.iter().any(|guess| overlap(&guess.bytes, &bytes) == bytes.len()) {
                continue;
            }
            let brought = if state.trust > 0 { self.bring_one(block, bytes.clone()) } else { Ok(None) };
            match brought {
                Ok(brought) => {
                    state.report.ahead += if brought.is_some() { bytes.len() as u64 } else { 0 };
                    state.guesses.push_back(Guess { bytes, made, brought });
                }
                Err(error) => {
                    // The work does without: its pages fault in, or come when the use is declared.
                    tracing::debug!(%error, "nothing was brought ahead");
                    state.report.failed += 1;
                    break;
                }
            }
        }
    }

    fn bring_one(&self, block: &Block, bytes: Range<usize>) -> Result<Option<Event>, DriverError> {
        if !bring(block, bytes, &self.ahead)? {
            return Ok(None);
        }
        let event = Event::new(self.ahead.device())?;
        event.record(&self.ahead)?;
        Ok(Some(event))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Gives up guesses that were not used in time.
    fn expire(&mut self, uses_ahead: usize) {
        let oldest = self.report.uses.saturating_sub(2 * uses_ahead as u64 + 2);
        while self.guesses.front().is_some_and(|guess| guess.made < oldest) {
            self.give_up();
        }
    }

    /// Counts the oldest guess as wrong.
    fn give_up(&mut self) {
        let Some(guess) = self.guesses.pop_front() else { return };
        self.report.wasted += if guess.brought.is_some() { guess.bytes.len() as u64 } else { 0 };
        if self.trust == 1 {
            self.report.backed_off += 1;
        }
        self.trust = self.trust.saturating_sub(1);
    }
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

fn overlap(a: &Range<usize>, b: &Range<usize>) -> usize {
    a.end.min(b.end).saturating_sub(a.start.max(b.start))
}

fn faults(stream: &Stream) -> Option<u64> {
    let device = stream.device();
    device.simulator().and_then(|simulator| simulator.statistics(device.id())).map(|statistics| statistics.faults)
}
