//! [`Arrivals`]: how much of a prefetch was complete when the device reached the use of its bytes.
//!
//! The host declares a use long before the device reaches it, so the answer is not known at that time. An event on the
//! stream of the work records the time at which the device reaches the use. Two events on the stream of the prefetch
//! record the times at which the prefetch began and ended.
#![forbid(unsafe_code)]

use super::report::AutoPrefetchReport;
use crate::device::error::DeviceError;
use crate::device::event::Event;
use crate::device::stream::Stream;
use cumem_driver::CudaErrorCode;
use cumem_driver::deferral::after_locks;
use std::collections::VecDeque;
use std::time::Duration;

/// The most undecided uses that are kept. If there are more, the events are queried; if the uses are still undecided,
/// the oldest are discarded.
const MOST_UNDECIDED: usize = 64;

/// The events before and after an enqueued prefetch.
#[derive(Debug)]
pub(super) struct PrefetchEvents {
    begun: Event,
    done: Event,
}

/// The use of bytes whose prefetch was not complete when the use was declared.
#[derive(Debug)]
struct Arrival {
    bytes: u64,
    prefetch: PrefetchEvents,
    /// The event that the device records when it reaches the use.
    reached: Event,
}

/// The time at which the device reaches the use of prefetched bytes.
#[derive(Debug)]
pub(super) enum Reached {
    /// After the prefetch was complete.
    Later,
    /// At the time of this event.
    At(Event),
    /// Unknown, because the event could not be created or recorded.
    Unknown,
}

/// The uses that the device had not reached when the events were last queried.
#[derive(Debug, Default)]
pub(super) struct Arrivals {
    undecided: VecDeque<Arrival>,
}

impl PrefetchEvents {
    /// Records an event on `stream`, calls `enqueue`, and records the second event. Returns `None` if `enqueue` reports
    /// that it enqueued nothing.
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

    /// Makes `stream` wait for the prefetch, unless it is done, and returns the time at which the wait begins. If that
    /// time cannot be recorded, the wait is enqueued nevertheless.
    pub(super) fn awaited_by(&self, stream: &Stream) -> Result<Reached, DeviceError> {
        if matches!(self.done.is_done(), Ok(true)) {
            return Ok(Reached::Later);
        }
        let event = Event::with_timing(stream.device())
            .map_err(DeviceError::from)
            .and_then(|event| event.record(stream).map(|()| event));
        stream.wait(&self.done)?;
        Ok(event.inspect_err(|error| log_unknown(error.clone())).map_or(Reached::Unknown, Reached::At))
    }
}

impl Arrivals {
    /// Counts a use of `bytes` prefetched bytes.
    pub(super) fn used(
        &mut self,
        bytes: u64,
        prefetch: PrefetchEvents,
        reached: Reached,
        report: &mut AutoPrefetchReport,
    ) {
        report.ahead_used += bytes;
        let reached = match reached {
            Reached::Later => return report.ahead_in_time += bytes,
            Reached::At(event) => event,
            Reached::Unknown => return report.ahead_undecided += bytes,
        };
        report.ahead_undecided += bytes;
        self.undecided.push_back(Arrival { bytes, prefetch, reached });
        if self.undecided.len() > MOST_UNDECIDED {
            self.decide(report);
            let excess = self.undecided.len().saturating_sub(MOST_UNDECIDED);
            self.undecided.drain(..excess);
        }
    }

    /// Counts the uses that the device has reached since the last call.
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
                log_unknown(error);
                false
            }
        });
    }
}

fn log_unknown(error: DeviceError) {
    after_locks(move || tracing::debug!(%error, "the time of a prefetch is unknown"));
}

impl Arrival {
    /// Returns the bytes that had been migrated when the device reached the use, and how long the device waited for the
    /// other bytes. The transfer is assumed to be even over its time.
    fn outcome(&self) -> Result<(u64, Duration), DeviceError> {
        let waited = self.prefetch.done.elapsed_since(&self.reached)?;
        let transfer = self.prefetch.done.elapsed_since(&self.prefetch.begun)?;
        let late = waited.as_secs_f64() / transfer.as_secs_f64().max(f64::MIN_POSITIVE);
        Ok(((self.bytes as f64 * (1.0 - late.min(1.0))) as u64, waited))
    }
}
