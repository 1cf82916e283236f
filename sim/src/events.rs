//! [`EventState`]: a recorded point, and its time if that is wanted.
#![forbid(unsafe_code)]

use super::streams::Mark;

/// An event.
#[derive(Debug)]
pub(super) struct EventState {
    pub(super) device: u32,
    pub(super) timing: bool,
    /// The point last recorded; before the first record there is nothing to wait for.
    pub(super) mark: Option<Mark>,
    /// When it was reached, for events with timing.
    pub(super) reached: Option<u64>,
}
