//! [`Journal`]: a log of what happened. It always keeps a hash, and on demand a list.
#![forbid(unsafe_code)]

use super::machine::State;
use super::uvm::{PAGE, Processor, Step, Work};
use cumem_driver::Location;
use std::time::Duration;

/// Something that happened, and its time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Virtual time since the machine was created. The steps of one operation have the time of its start.
    pub at: Duration,
    /// The thing that happened.
    pub what: Happening,
}

/// A thing that happened. Allocations are numbered from 1 in the order in which they were made.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Happening {
    /// Memory was allocated.
    Allocated {
        /// Number of the allocation.
        allocation: u64,
        /// Bytes as requested.
        bytes: u64,
    },
    /// Memory was freed.
    Freed {
        /// Number of the allocation.
        allocation: u64,
    },
    /// An operation started on a device.
    Started {
        /// The device.
        device: Location,
        /// The driver call, or the kernel's name.
        operation: &'static str,
    },
    /// An operation ended, and its effects are visible.
    Ended {
        /// The device.
        device: Location,
        /// The driver call, or the kernel's name.
        operation: &'static str,
    },
    /// A page fault happened.
    Fault {
        /// The processor that touched the page.
        by: Location,
        /// Number of the allocation that the page belongs to.
        allocation: u64,
        /// Offset of the page's first byte in the allocation.
        offset: u64,
    },
    /// A contiguous run of pages was copied.
    Transfer {
        /// The location of the pages before.
        from: Location,
        /// The location of the pages afterwards.
        to: Location,
        /// Number of the allocation that the pages belong to.
        allocation: u64,
        /// Offset of the first byte in the allocation.
        offset: u64,
        /// Bytes that were copied.
        bytes: u64,
    },
}

/// A running hash of what happened, and the records. The hash leaves out addresses, because they differ from run to
/// run.
#[derive(Debug)]
pub(super) struct Journal {
    digest: u64,
    records: Option<Vec<Record>>,
}

impl Default for Journal {
    fn default() -> Self {
        Self { digest: 0xcbf2_9ce4_8422_2325, records: None }
    }
}

impl Journal {
    pub(super) fn digest(&self) -> u64 {
        self.digest
    }

    /// Adds a word to the hash, by FNV-1a over words.
    pub(super) fn mix(&mut self, value: u64) {
        self.digest = (self.digest ^ value).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(17);
    }

    pub(super) fn record(&mut self, on: bool) {
        match on {
            true => drop(self.records.get_or_insert_default()),
            false => self.records = None,
        }
    }

    pub(super) fn recording(&self) -> bool {
        self.records.is_some()
    }

    pub(super) fn take(&mut self) -> Vec<Record> {
        self.records.as_mut().map(std::mem::take).unwrap_or_default()
    }

    pub(super) fn add(&mut self, at: u64, what: Happening) {
        if let Some(records) = &mut self.records {
            records.push(Record { at: Duration::from_nanos(at), what });
        }
    }
}

impl State {
    /// Creates the counters for work on unified memory. They collect the single steps if a list is kept or a watcher
    /// exists.
    pub(super) fn new_work(&self) -> Work {
        let wanted = self.journal.recording() || self.watchers.are_there();
        Work { steps: wanted.then(Vec::new), ..Work::default() }
    }

    /// Passes the steps of `work` to the watchers, and records them.
    pub(super) fn note_steps(&mut self, at: u64, work: &mut Work) {
        self.tell_steps(work);
        for step in work.steps.take().into_iter().flatten() {
            let what = match step {
                Step::Fault { by, range, page } => Happening::Fault {
                    by: self.location(by),
                    allocation: self.memory.serial_of(range),
                    offset: page * PAGE,
                },
                Step::Eviction { .. } => continue,
                Step::Transfer { from, to, range, page, pages, .. } => Happening::Transfer {
                    from: self.location(from),
                    to: self.location(to),
                    allocation: self.memory.serial_of(range),
                    offset: page * PAGE,
                    bytes: pages * PAGE,
                },
            };
            self.journal.add(at, what);
        }
    }

    /// Returns the public name of a processor.
    pub(super) fn location(&self, processor: Processor) -> Location {
        match processor.gpu() {
            None => Location::Host,
            Some(gpu) => Location::Device(self.devices[gpu].id),
        }
    }

    pub(super) fn note_allocation(&mut self, allocation: u64, bytes: u64) {
        self.journal.mix(allocation ^ bytes.rotate_left(32));
        self.journal.add(self.now, Happening::Allocated { allocation, bytes });
        self.memory_changed();
    }

    pub(super) fn note_free(&mut self, allocation: u64) {
        self.journal.mix(!allocation);
        self.journal.add(self.now, Happening::Freed { allocation });
        self.memory_changed();
    }
}
