//! [`AutoPrefetch`]: the observer of one buffer.
#![forbid(unsafe_code)]

use super::ahead::Ahead;
use super::arrival::{PrefetchEvents, Reached};
use super::faults::Faults;
use super::guesses::Guess;
use super::options::AutoPrefetchOptions;
use super::overlap::overlap;
use super::report::AutoPrefetchReport;
use super::state::{State, remember};
use crate::block::Block;
use crate::device::error::DeviceError;
use crate::device::notice::{Interest, Listener, Notice};
use crate::device::stream::Stream;
use crate::device::{Device, Locked};
use crate::unified::hints;
use crate::unified::residency::Residency;
use cumem_driver::deferral::after_locks;
use cumem_driver::{DeviceId, Location};
use std::ops::Range;
use std::sync::{Arc, Mutex};

/// Prefetches are divided into pieces of this many bytes. Smaller pieces block the host for longer. Pieces of 128 MiB
/// are not faster in every run (`benches/README.md`, H100, driver 580.159).
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
        ahead.add(&state);
        Self { ahead: Arc::clone(ahead), state }
    }

    pub(crate) fn report(&self) -> AutoPrefetchReport {
        State::report(&self.state)
    }

    /// Records that work on `stream` is about to use all of `bytes`, and prefetches the bytes that were not predicted.
    pub(crate) fn used(&self, bytes: Range<usize>, stream: &Stream) -> Result<(), DeviceError> {
        let uses_ahead = self.uses_ahead();
        let mut state = self.lock();
        let (addr, size) = state.memory;
        state.learn_from_faults(uses_ahead, size);
        let State { guesses, arrivals, report, .. } = &mut *state;
        report.uses += 1;
        let mut prefetched = 0;
        while let Some(index) = guesses.overlapping(&bytes) {
            let reached = match &guesses.get(index).prefetch {
                Some(prefetch) => prefetch.awaited_by(stream)?,
                None => Reached::Later,
            };
            if let Some(Guess { bytes: guessed, prefetch: Some(prefetch), .. }) = guesses.take(index) {
                let used = overlap(&guessed, &bytes);
                prefetched += used;
                arrivals.used(used as u64, prefetch, reached, report);
            }
        }
        state.next_turn(uses_ahead);
        let State { predictor, declared, user_prefetches, report, .. } = &mut *state;
        let by_user: usize = user_prefetches.iter().map(|prefetched| overlap(prefetched, &bytes)).sum();
        match user_prefetches.iter().position(|prefetched| *prefetched == bytes) {
            // The predictor observed this range when the user prefetched it.
            Some(index) => drop(user_prefetches.remove(index)),
            None => predictor.observe(bytes.clone()),
        }
        remember(declared, bytes.clone());
        let length = bytes.len();
        // A prefetch of the bytes that were not predicted is faster than their page faults.
        if prefetch_in_pieces(addr, bytes, stream)? {
            report.on_demand += length.saturating_sub(prefetched + by_user) as u64;
        }
        Ok(())
    }

    /// Records a use of an unknown part of the buffer. Nothing is learned from it unless page faults show the part.
    pub(crate) fn used_sparsely(&self) {
        let uses_ahead = self.uses_ahead();
        let mut state = self.lock();
        state.report.uses += 1;
        let size = state.memory.1;
        let learned = state.learn_from_faults(uses_ahead, size);
        state.next_turn(uses_ahead);
        if learned {
            drop(state);
            self.prefetch_ahead();
        }
    }

    /// Records a prefetch by the user, and prefetches the ranges that are predicted after it.
    fn prefetched(&self, addr: u64, bytes: usize, to: Location) {
        let mut state = self.lock();
        let (start, size) = state.memory;
        let start = (addr - start) as usize;
        let bytes = start..start + bytes;
        state.learn_from_faults(self.uses_ahead(), size);
        if to != Location::Device(self.ahead.device().id()) {
            return state.prefetched_elsewhere(&bytes, bytes.len() == size && to == Location::Host);
        }
        let State { predictor, guesses, user_prefetches, report, .. } = &mut *state;
        while let Some(guess) = guesses.overlapping(&bytes).and_then(|index| guesses.take(index)) {
            report.left_to_user += guess.bytes_prefetched();
        }
        predictor.observe(bytes.clone());
        remember(user_prefetches, bytes);
        state.next_turn(self.uses_ahead());
        drop(state);
        self.prefetch_ahead();
    }

    /// Records an access by the host, after which prefetched pages may be on the host again.
    fn used_by_host(&self) {
        self.lock().reset();
    }

    /// Records that the buffer has moved to another block.
    pub(crate) fn moved_to(&self, block: &Block) {
        let mut state = self.lock();
        state.reset();
        state.memory = (block.addr(), block.size());
        state.faults.iter().for_each(|faults| faults.follow(block));
    }

    /// Prefetches the ranges that are predicted next, as far as the budget allows.
    pub(super) fn prefetch_ahead(&self) {
        let State { memory: (addr, size), predictor, guesses, turn, report, .. } = &mut *self.lock();
        for bytes in predictor.next(self.uses_ahead(), *size) {
            if guesses.contain(&bytes) {
                continue;
            }
            let Some(reservation) = self.ahead.reserve(bytes.len()) else { break };
            let prefetch = match guesses.are_trusted() {
                true => self.prefetch_range(*addr, &bytes),
                false => Ok(None),
            };
            match prefetch {
                Ok(prefetch) => {
                    let _reservation = prefetch.is_some().then_some(reservation);
                    let guess = Guess { bytes, made: *turn, prefetch, _reservation };
                    report.ahead += guess.bytes_prefetched();
                    guesses.push(guess);
                }
                Err(error) => {
                    // The error is not returned, because the work runs without the prefetch: its pages are prefetched
                    // when the use is declared, or fault in.
                    after_locks(move || tracing::debug!(%error, "a prefetch of predicted ranges failed"));
                    report.failed += 1;
                    break;
                }
            }
        }
    }

    fn prefetch_range(&self, start: u64, bytes: &Range<usize>) -> Result<Option<PrefetchEvents>, DeviceError> {
        let device = self.ahead.device();
        let (addr, to) = (start + bytes.start as u64, device.id().into());
        // If all pages are on the device already, skip the events too.
        if Residency::of(device).has(device, addr, bytes.len(), to) {
            return Ok(None);
        }
        let stream = &self.ahead.stream;
        PrefetchEvents::by(stream, || prefetch_in_pieces(start, bytes.clone(), stream))
    }

    fn uses_ahead(&self) -> usize {
        self.ahead.options.get_uses_ahead()
    }

    fn lock(&self) -> Locked<'_, State> {
        State::lock(&self.state)
    }
}

impl Listener for AutoPrefetch {
    fn interest(&self) -> Interest {
        Interest::PREFETCHED | Interest::HOST_ACCESS
    }

    /// Receives the notices of the user's prefetches and of host access, for its own buffer only.
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
        self.ahead.remove(&self.state, &report);
    }
}

/// Prefetches a range of the memory at `start` to the stream's device, in pieces. Returns `false` if all pages were
/// there already.
fn prefetch_in_pieces(start: u64, bytes: Range<usize>, stream: &Stream) -> Result<bool, DeviceError> {
    let to = stream.device_id();
    let mut prefetched = false;
    for first in bytes.clone().step_by(PIECE) {
        let piece = bytes.end.min(first + PIECE) - first;
        prefetched |= hints::prefetch_span_if_needed(start + first as u64, piece, to, stream)?.is_applied();
    }
    Ok(prefetched)
}
