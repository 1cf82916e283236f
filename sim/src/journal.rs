//! [`Journal`]: a log of events: always a hash of all events, and on demand a list.
#![forbid(unsafe_code)]

use cumem_driver::Location;
use std::time::Duration;

/// An event of the journal, and its time.
///
/// # Examples
///
/// ```
/// use cumem_driver::Driver;
/// use cumem_sim::{JournalEvent, Profile, Simulator};
///
/// let sim = Simulator::new([Profile::h100_pcie5()])?;
/// sim.record(true);
/// let stream = sim.create_stream(0, false)?;
/// let memory = sim.allocate_device(0, 4096)?;
/// // SAFETY: the stream and the memory are live.
/// unsafe { sim.fill_async(0, memory.as_ptr(), 0, 4096, stream) }?;
/// sim.synchronize_device(0)?;
///
/// let records = sim.take_records();
/// assert!(matches!(records[1].event, JournalEvent::Started { operation: "cuMemsetD8Async", .. }));
/// assert!(matches!(records[2].event, JournalEvent::Ended { operation: "cuMemsetD8Async", .. }));
/// assert!(records[1].at < records[2].at);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Virtual time since the machine was created. The steps of one operation have the time of its start.
    pub at: Duration,
    /// The event.
    pub event: JournalEvent,
}

/// An event of the journal. Allocations are numbered from 1 in the order in which they were made.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum JournalEvent {
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

/// A running hash of all events, and the records. The hash leaves out addresses, because they differ from run to
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

    pub(super) fn add(&mut self, at: u64, event: JournalEvent) {
        if let Some(records) = &mut self.records {
            records.push(Record { at: Duration::from_nanos(at), event });
        }
    }
}
