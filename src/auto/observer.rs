//! [`AutoPrefetch`]: the observer of one buffer.
#![forbid(unsafe_code)]

use super::arrival::{Arrivals, Brought};
use super::guesses::{Guess, Guesses};
use super::predictor::Predictor;
use super::{AutoPrefetchOptions, AutoPrefetchReport, overlap};
use crate::block::Block;
use crate::error::DriverError;
use crate::hints::{self, Outcome};
use crate::stream::Stream;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Prefetches are made in pieces of this size: of 2, 8, 32 and 128 MiB these go fastest and hold the host for the shortest time
/// (`benches/README.md`, H100, driver 580.159).
const PIECE: usize = 32 << 20;

/// The observer of one buffer.
#[derive(Debug)]
pub(crate) struct AutoPrefetch {
    options: AutoPrefetchOptions,
    ahead: Stream,
    /// Faults of the device when it was turned on, where they can be read.
    faults: Option<u64>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    predictor: Predictor,
    guesses: Guesses,
    arrivals: Arrivals,
    report: AutoPrefetchReport,
}

impl AutoPrefetch {
    pub(crate) fn new(stream: &Stream, options: AutoPrefetchOptions) -> Result<Self, DriverError> {
        let ahead = Stream::new(stream.device())?;
        Ok(Self { options, faults: faults(stream), ahead, state: Mutex::default() })
    }

    pub(crate) fn report(&self) -> AutoPrefetchReport {
        let faults = self.faults.zip(faults(&self.ahead)).map(|(before, now)| now - before);
        let State { arrivals, report, .. } = &mut *self.lock();
        arrivals.decide(report);
        AutoPrefetchReport { faults, ..report.clone() }
    }

    /// All of `bytes` is about to be used by work on `stream`.
    pub(crate) fn used(&self, block: &Block, bytes: Range<usize>, stream: &Stream) -> Result<(), DriverError> {
        let State { predictor, guesses, arrivals, report } = &mut *self.lock();
        report.uses += 1;
        let mut brought = 0;
        while let Some(index) = guesses.met_by(&bytes) {
            let reached = match &guesses.get(index).brought {
                Some(brought) => brought.awaited_by(stream)?,
                None => None,
            };
            if let Some(Guess { bytes: guessed, brought: Some(prefetch), .. }) = guesses.take(index) {
                let used = overlap(&guessed, &bytes);
                brought += used;
                arrivals.used(used as u64, prefetch, reached, report);
            }
        }
        guesses.expire(report.uses.saturating_sub(2 * self.options.uses_ahead as u64 + 2), report);
        let length = bytes.len();
        predictor.observe(bytes.clone());
        // What was not foreseen comes at once, and not fault by fault.
        if bring(block, bytes, stream)? {
            report.on_demand += length.saturating_sub(brought) as u64;
        }
        Ok(())
    }

    /// Some of `bytes` will be used, nobody knows which.
    pub(crate) fn used_sparsely(&self) {
        self.lock().report.uses += 1;
    }

    /// The host has been at the buffer, or it has other memory: what was brought may be gone.
    pub(crate) fn start_over(&self) {
        let State { predictor, guesses, report, .. } = &mut *self.lock();
        predictor.observe_host();
        report.wasted += guesses.forget();
    }

    /// Brings what is thought to come next, as far as the budget goes.
    pub(super) fn bring_ahead(&self, block: &Block) {
        let State { predictor, guesses, report, .. } = &mut *self.lock();
        let made = report.uses;
        for bytes in predictor.next(self.options.uses_ahead, block.size()) {
            if guesses.bytes_ahead() + bytes.len() > self.options.budget {
                break;
            }
            if guesses.contain(&bytes) {
                continue;
            }
            let brought = match guesses.are_trusted() && !is_there(block, &bytes, &self.ahead) {
                true => Brought::by(&self.ahead, || bring(block, bytes.clone(), &self.ahead)),
                false => Ok(None),
            };
            match brought {
                Ok(brought) => {
                    report.ahead += if brought.is_some() { bytes.len() as u64 } else { 0 };
                    guesses.push(Guess { bytes, made, brought });
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

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
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

/// Whether all of it is assumed to be there, so that events around its prefetch would be for nothing.
fn is_there(block: &Block, bytes: &Range<usize>, stream: &Stream) -> bool {
    let device = stream.device();
    device.residency().has(device, block.addr() + bytes.start as u64, bytes.len(), device.id().into())
}

fn faults(stream: &Stream) -> Option<u64> {
    let device = stream.device();
    device.simulator().and_then(|simulator| simulator.statistics(device.id())).map(|statistics| statistics.faults)
}
