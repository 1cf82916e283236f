//! [`StreamState`]: a stream's queue.
#![forbid(unsafe_code)]

use super::capture::Membership;
use super::handles::{Handles, Key};
use super::operation::{Operation, StreamPoint};
use smallvec::SmallVec;
use std::collections::VecDeque;

/// The state of a stream: a first-in, first-out queue of operations.
#[derive(Debug)]
pub(super) struct StreamState {
    pub(super) device: u32,
    /// The stream waits for the legacy default stream, and that stream waits for it.
    pub(super) blocking: bool,
    /// The simulator created the stream for a branch of a graph.
    pub(super) internal: bool,
    /// The capture that the stream is part of, while it is captured.
    pub(super) captured: Option<Membership>,
    /// The stream was destroyed: it gets no more work, and is removed when its work is done.
    pub(super) closing: bool,
    /// Operations that are not done yet. The first one is running, or runs next.
    pub(super) queue: VecDeque<Operation>,
    /// Number of operations ever enqueued.
    pub(super) submitted: u64,
    /// Number of operations done.
    pub(super) completed: u64,
    /// The first operation has started, is on the agenda, or waits for an engine or another stream.
    pub(super) engaged: bool,
    /// Streams that wait until the first so many operations of this stream are done.
    pub(super) waiters: SmallVec<[(u64, Key); 2]>,
}

impl StreamState {
    pub(super) fn new(device: u32, blocking: bool) -> Self {
        Self {
            device,
            blocking,
            internal: false,
            captured: None,
            closing: false,
            queue: VecDeque::new(),
            submitted: 0,
            completed: 0,
            engaged: false,
            waiters: SmallVec::new(),
        }
    }

    /// Creates a stream that the program did not create.
    pub(super) fn internal(device: u32) -> Self {
        Self { internal: true, ..Self::new(device, false) }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.completed == self.submitted
    }
}

impl Handles<StreamState> {
    /// Reports whether a point of a stream has been passed. A stream that no longer exists had done all its work.
    pub(super) fn passed(&self, point: StreamPoint) -> bool {
        self.get(point.stream).is_none_or(|stream| stream.completed >= point.seq)
    }
}
