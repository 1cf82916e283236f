//! [`StreamState`]: a stream's queue, and [`Mark`]: a point in it.
#![forbid(unsafe_code)]

use super::handles::Key;
use super::operations::What;
use smallvec::SmallVec;
use std::collections::VecDeque;

/// A point in a stream's work: done when so many of its operations are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) stream: Key,
    pub(super) seq: u64,
}

/// A first-in, first-out queue of operations.
#[derive(Debug)]
pub(super) struct StreamState {
    pub(super) device: u32,
    /// It waits for the legacy default stream, and is waited for.
    pub(super) blocking: bool,
    /// Nobody can give it work any more; it goes when it is done.
    pub(super) closing: bool,
    /// Operations not done yet, the one that runs first.
    pub(super) queue: VecDeque<Operation>,
    /// Operations ever enqueued.
    pub(super) submitted: u64,
    /// Operations done.
    pub(super) completed: u64,
    /// The first operation has been started, is on the agenda, or waits for its turn elsewhere.
    pub(super) engaged: bool,
    /// Streams that wait until so many operations here are done.
    pub(super) waiters: SmallVec<[(u64, Key); 2]>,
}

/// Something to do, not before `ready`.
#[derive(Debug)]
pub(super) struct Operation {
    pub(super) ready: u64,
    pub(super) name: &'static str,
    pub(super) what: What,
}

impl StreamState {
    pub(super) fn new(device: u32, blocking: bool) -> Self {
        Self {
            device,
            blocking,
            closing: false,
            queue: VecDeque::new(),
            submitted: 0,
            completed: 0,
            engaged: false,
            waiters: SmallVec::new(),
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.completed == self.submitted
    }
}
