//! [`EventState`]: the point in a stream that an event recorded, and when it was reached.
#![forbid(unsafe_code)]

use super::capture::CapturedPoint;
use super::operation::StreamPoint;
use smallvec::SmallVec;

/// The state of an event.
#[derive(Debug, Clone)]
pub(super) struct EventState {
    pub(super) device: u32,
    pub(super) timing: bool,
    /// The points that were recorded last: one of a stream, or one of each busy stream of the device. An event without
    /// a point is complete.
    pub(super) points: SmallVec<[StreamPoint; 1]>,
    /// Virtual time at which the point was reached, for events with timing.
    pub(super) reached: Option<u64>,
    /// The point in a capture, if the event was last recorded by a captured stream.
    pub(super) captured: Option<CapturedPoint>,
}
