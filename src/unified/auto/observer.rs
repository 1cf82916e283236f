//! [`AutoPrefetch`]: the observer of one buffer.
#![forbid(unsafe_code)]

use super::ahead::Ahead;
use super::arrival::{Brought, Reached};
use super::faults::Faults;
use super::guesses::Guess;
use super::options::AutoPrefetchOptions;
use super::overlap::overlap;
use super::report::AutoPrefetchReport;
use super::state::{State, remember};
use crate::block::Block;
use crate::device::Device;
use crate::device::error::DeviceError;
use crate::device::notice::{Interest, Listener, Notice};
use crate::device::stream::Stream;
use crate::unified::hints;
use crate::unified::residency::Residency;
use cumem_driver::{DeviceId, Location};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard};

/// Prefetches are made in pieces of this size: smaller ones hold the host for longer, and those of 128 MiB are no
/// faster in every run (`benches/README.md`, H100, driver 580.159).
const PIECE: usize = 32 << 20;

/// The observer of one buffer.
#[derive(Debug)]
pub(crate) struct AutoPrefetch {
    ahead: Arc<Ahead>,
    state: Arc<Mutex<State>>,
}

impl AutoPrefetch {
    pub(crate) fn new(block: &Block, device: &Device, options: AutoPrefetchOptions) -> Result<Self, DeviceError> {
        Ok(Self::over(&Arc::new(Ahead::new(device, options)?), block))
    }

    pub(super) fn over(ahead: &Arc<Ahead>, block: &Block) -> Self {
        let state = State {
            memory: (block.addr(), block.size()),
            faults: Faults::of(ahead.device(), block),
            ..State::default()
        };
        let state = Arc::new(Mutex::new(state));
        ahead.enter(&state);
        Self { ahead: Arc::clone(ahead), state }
    }

    pub(crate) fn report(&self) -> AutoPrefetchReport {
        State::report(&self.state)
    }

    /// All of `bytes` is about to be used by work on `stream`.
    pub(crate) fn used(&self, bytes: Range<usize>, stream: &Stream) -> Result<(), DeviceError> {
        let uses_ahead = self.ahead.options.uses_ahead;
        let mut state = self.lock();
        let (addr, size) = state.memory;
        state.learn_from_faults(uses_ahead, size);
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
        if bring(addr, bytes, stream)? {
            report.on_demand += length.saturating_sub(brought + prepared) as u64;
        }
        Ok(())
    }

    /// Some of the buffer will be used, nobody knows which, unless faults have told.
    pub(crate) fn used_sparsely(&self) {
        let uses_ahead = self.ahead.options.uses_ahead;
        let mut state = self.lock();
        state.report.uses += 1;
        let size = state.memory.1;
        let learnt = state.learn_from_faults(uses_ahead, size);
        state.next_turn(uses_ahead);
        if learnt {
            drop(state);
            self.bring_ahead();
        }
    }

    /// The user has enqueued a prefetch.
    fn prefetched(&self, addr: u64, bytes: usize, to: Location) {
        let mut state = self.lock();
        let (start, size) = state.memory;
        let start = (addr - start) as usize;
        let bytes = start..start + bytes;
        state.learn_from_faults(self.ahead.options.uses_ahead, size);
        if to != Location::Device(self.ahead.device().id()) {
            return state.sent_away(&bytes, bytes.len() == size && to == Location::Host);
        }
        let State { predictor, guesses, promised, report, .. } = &mut *state;
        while let Some(guess) = guesses.met_by(&bytes).and_then(|index| guesses.take(index)) {
            report.left_to_user += guess.bytes_brought();
        }
        predictor.observe(bytes.clone());
        remember(promised, bytes);
        state.next_turn(self.ahead.options.uses_ahead);
        drop(state);
        self.bring_ahead();
    }

    /// The host has been at the buffer: what was brought may be gone.
    fn used_by_host(&self) {
        self.lock().start_over();
    }

    /// The buffer has other memory.
    pub(crate) fn moved_to(&self, block: &Block) {
        let mut state = self.lock();
        state.start_over();
        state.memory = (block.addr(), block.size());
        state.faults.iter().for_each(|faults| faults.follow(block));
    }

    /// Brings what is thought to come next, as far as the budget goes.
    pub(super) fn bring_ahead(&self) {
        let State { memory: (addr, size), predictor, guesses, turn, report, .. } = &mut *self.lock();
        for bytes in predictor.next(self.ahead.options.uses_ahead, *size) {
            if guesses.contain(&bytes) {
                continue;
            }
            let Some(room) = self.ahead.room(bytes.len()) else { break };
            let brought = match guesses.are_trusted() {
                true => self.bring_one(*addr, &bytes),
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

    fn bring_one(&self, start: u64, bytes: &Range<usize>) -> Result<Option<Brought>, DeviceError> {
        let device = self.ahead.device();
        let (addr, to) = (start + bytes.start as u64, device.id().into());
        // Events around a prefetch of what is there would be for nothing.
        if Residency::of(device).has(device, addr, bytes.len(), to) {
            return Ok(None);
        }
        let stream = &self.ahead.stream;
        Brought::by(stream, || bring(start, bytes.clone(), stream))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        State::lock(&self.state)
    }
}

impl Listener for AutoPrefetch {
    fn interest(&self) -> Interest {
        Interest::PREFETCHED | Interest::HOST_ACCESS
    }

    /// Hears of prefetches by the user and of host access, of its own buffer only.
    fn hear(&self, _: DeviceId, notice: &Notice<'_>) {
        match *notice {
            Notice::Prefetched { addr, bytes, to } => self.prefetched(addr, bytes, to),
            Notice::HostAccess { .. } => self.used_by_host(),
            _ => {}
        }
    }
}

impl Drop for AutoPrefetch {
    fn drop(&mut self) {
        let report = self.report();
        self.ahead.leave(&self.state, &report);
    }
}

/// Prefetches a range of the memory at `start`, unless it is there; says whether it was prefetched.
fn bring(start: u64, bytes: Range<usize>, stream: &Stream) -> Result<bool, DeviceError> {
    let to = stream.device_id();
    let mut brought = false;
    for first in bytes.clone().step_by(PIECE) {
        let piece = bytes.end.min(first + PIECE) - first;
        brought |= hints::prefetch_span_if_needed(start + first as u64, piece, to, stream)?.is_applied();
    }
    Ok(brought)
}
