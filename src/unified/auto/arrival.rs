//! [`Arrivals`]: how much of what was brought ahead was there when the device came to its use.
//!
//! The host declares a use long before the device comes to it, so that is not known then. An event on the stream of the
//! work takes the time at which it does, and two on the stream of the prefetch the times at which that began and ended.
#![forbid(unsafe_code)]

use super::report::AutoPrefetchReport;
use crate::device::error::DeviceError;
use crate::device::event::Event;
use crate::device::stream::Stream;
use cumem_driver::CudaErrorCode;
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

/// When the device comes to the use of something that was brought.
#[derive(Debug)]
pub(super) enum Reached {
    /// After it was there.
    Later,
    At(Event),
    /// No event could be made that says so.
    Unknown,
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
        enqueue: impl FnOnce() -> Result<bool, DeviceError>,
    ) -> Result<Option<Self>, DeviceError> {
        let (begun, done) = (Event::with_timing(stream.device())?, Event::with_timing(stream.device())?);
        begun.record(stream)?;
        if !enqueue()? {
            return Ok(None);
        }
        done.record(stream)?;
        Ok(Some(Self { begun, done }))
    }

    /// Makes `stream` wait for it, unless it is done, and says when the stream begins to. The use does not depend on
    /// whether that can be told.
    pub(super) fn awaited_by(&self, stream: &Stream) -> Result<Reached, DeviceError> {
        if matches!(self.done.is_done(), Ok(true)) {
            return Ok(Reached::Later);
        }
        let event = Event::with_timing(stream.device())
            .map_err(DeviceError::from)
            .and_then(|event| event.record(stream).map(|()| event));
        stream.wait(&self.done)?;
        Ok(event.inspect_err(stays_unknown).map_or(Reached::Unknown, Reached::At))
    }
}

impl Arrivals {
    /// `bytes` of what was brought are used.
    pub(super) fn used(&mut self, bytes: u64, brought: Brought, reached: Reached, report: &mut AutoPrefetchReport) {
        report.ahead_used += bytes;
        let reached = match reached {
            Reached::Later => return report.ahead_in_time += bytes,
            Reached::At(event) => event,
            Reached::Unknown => return report.ahead_undecided += bytes,
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
                stays_unknown(&error);
                false
            }
        });
    }
}

fn stays_unknown(error: &DeviceError) {
    tracing::debug!(%error, "whether it was in time stays unknown");
}

impl Arrival {
    /// Bytes that were there when the device came to the use, the transfer taken as even, and for how long it waited
    /// for the others.
    fn outcome(&self) -> Result<(u64, Duration), DeviceError> {
        let waited = self.brought.done.elapsed_since(&self.reached)?;
        let transfer = self.brought.done.elapsed_since(&self.brought.begun)?;
        let late = waited.as_secs_f64() / transfer.as_secs_f64().max(f64::MIN_POSITIVE);
        Ok(((self.bytes as f64 * (1.0 - late.min(1.0))) as u64, waited))
    }
}
