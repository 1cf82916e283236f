//! [`Arrivals`]: how much of what was brought ahead was there when the device came to its use.
//!
//! The host declares a use long before the device comes to it, so that is not known then. An event on the stream of the
//! work takes the time at which it does, and two on the stream of the prefetch the times at which that began and ended.
#![forbid(unsafe_code)]

use super::report::AutoPrefetchReport;
use crate::code::CudaErrorCode;
use crate::error::DriverError;
use crate::event::Event;
use crate::stream::Stream;
use std::collections::VecDeque;
use std::time::Duration;

/// Uses that are looked at when there are more, and the oldest of which are given up if none has come to its end.
const MOST_UNDECIDED: usize = 64;

/// A prefetch on its way, or done.
#[derive(Debug)]
pub(super) struct Brought {
    begun: Event,
    done: Event,
}

/// The use of something that was on its way when the use was declared.
#[derive(Debug)]
struct Arrival {
    bytes: u64,
    brought: Brought,
    /// The device comes to the use.
    reached: Event,
}

/// Uses that the device has not come to, as far as is known.
#[derive(Debug, Default)]
pub(super) struct Arrivals {
    undecided: VecDeque<Arrival>,
}

impl Brought {
    /// The prefetch that `enqueue` puts on `stream`, if it does.
    pub(super) fn by(
        stream: &Stream,
        enqueue: impl FnOnce() -> Result<bool, DriverError>,
    ) -> Result<Option<Self>, DriverError> {
        let (begun, done) = (Event::with_timing(stream.device())?, Event::with_timing(stream.device())?);
        begun.record(stream)?;
        if !enqueue()? {
            return Ok(None);
        }
        done.record(stream)?;
        Ok(Some(Self { begun, done }))
    }

    /// Makes `stream` wait for it, unless it is done; the event at which the stream begins to.
    pub(super) fn awaited_by(&self, stream: &Stream) -> Result<Option<Event>, DriverError> {
        if self.done.is_done()? {
            return Ok(None);
        }
        let reached = Event::with_timing(stream.device())?;
        reached.record(stream)?;
        stream.wait(&self.done)?;
        Ok(Some(reached))
    }
}

impl Arrivals {
    /// `bytes` of what was brought are used, at `reached` unless they were there when that was declared.
    pub(super) fn used(
        &mut self,
        bytes: u64,
        brought: Brought,
        reached: Option<Event>,
        report: &mut AutoPrefetchReport,
    ) {
        report.ahead_used += bytes;
        let Some(reached) = reached else {
            report.ahead_in_time += bytes;
            return;
        };
        report.ahead_undecided += bytes;
        self.undecided.push_back(Arrival { bytes, brought, reached });
        if self.undecided.len() > MOST_UNDECIDED {
            self.decide(report);
            let excess = self.undecided.len().saturating_sub(MOST_UNDECIDED);
            self.undecided.drain(..excess);
        }
    }

    /// Counts what the device has come to.
    pub(super) fn decide(&mut self, report: &mut AutoPrefetchReport) {
        self.undecided.retain(|arrival| match arrival.outcome() {
            Ok((in_time, waited)) => {
                report.ahead_undecided -= arrival.bytes;
                report.ahead_in_time += in_time;
                report.waited += waited;
                false
            }
            Err(error) if error.code() == Some(CudaErrorCode::NOT_READY) => true,
            Err(error) => {
                tracing::debug!(%error, "whether it was in time stays unknown");
                false
            }
        });
    }
}

impl Arrival {
    /// Bytes that were there when the device came to the use, the transfer taken as even, and for how long it waited
    /// for the others.
    fn outcome(&self) -> Result<(u64, Duration), DriverError> {
        let waited = self.brought.done.elapsed_since(&self.reached)?;
        let transfer = self.brought.done.elapsed_since(&self.brought.begun)?;
        let late = waited.as_secs_f64() / transfer.as_secs_f64().max(f64::MIN_POSITIVE);
        Ok(((self.bytes as f64 * (1.0 - late.min(1.0))) as u64, waited))
    }
}
