//! [`EventState`]: the point in a stream that an event recorded, and when it was reached.
#![forbid(unsafe_code)]

use super::operation::StreamPoint;

/// The state of an event.
#[derive(Debug)]
pub(super) struct EventState {
    pub(super) device: u32,
    pub(super) timing: bool,
    /// The point that was recorded last. An event without one is complete.
    pub(super) point: Option<StreamPoint>,
    /// Virtual time at which the point was reached, for events with timing.
    pub(super) reached: Option<u64>,
}
