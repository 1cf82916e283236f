//! [`Agenda`]: the steps of streams that are to come, and [`Engine`]: a part of a device that operations wait for.
#![forbid(unsafe_code)]

use super::handles::Key;
use cumem_driver::HostKernel;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

/// The pending steps of streams, ordered by time, then by insertion.
#[derive(Debug, Default)]
pub(super) struct Agenda {
    heap: BinaryHeap<Reverse<(u64, u64, AgendaEntry)>>,
    inserted: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct AgendaEntry {
    end: bool,
    stream: u64,
}

/// A part of a device that runs one operation at a time.
#[derive(Debug, Default)]
pub(super) struct Engine {
    pub(super) busy: bool,
    pub(super) waiting: VecDeque<Key>,
}

/// The result of one step.
#[derive(Debug)]
pub(super) enum StepResult {
    /// The step is done.
    Done,
    /// No step is due yet.
    NothingDue,
    /// The simulated duration of a kernel is over: the caller runs it now, outside the lock.
    Kernel { stream: Key, kernel: Box<HostKernel> },
    /// A kernel will not run: the caller drops it, outside the lock.
    Discard(Box<HostKernel>),
}

impl Agenda {
    /// Adds an entry: at time `at`, the first operation of `stream` ends if `end` is true, or can start otherwise.
    pub(super) fn add(&mut self, at: u64, end: bool, stream: Key) {
        self.inserted += 1;
        self.heap.push(Reverse((at, self.inserted, AgendaEntry { end, stream: stream.handle() })));
    }

    /// Returns the stream whose first operation ends next, or `None` if another step comes first.
    pub(super) fn next_end(&self) -> Option<Key> {
        let Reverse((_, _, AgendaEntry { end, stream })) = self.heap.peek()?;
        end.then(|| Key::from_handle(*stream)).flatten()
    }

    /// Removes the first entry if it is due by `limit`. Returns its time, whether an operation ends then, and the
    /// stream.
    pub(super) fn pop(&mut self, limit: u64) -> Option<(u64, bool, Option<Key>)> {
        self.heap.peek().filter(|Reverse((at, _, _))| *at <= limit)?;
        let Reverse((at, _, AgendaEntry { end, stream })) = self.heap.pop()?;
        Some((at, end, Key::from_handle(stream)))
    }
}
