//! [`PrefetchPlan`]: prefetches of many ranges, checked and merged before the first is enqueued.

use super::calls::{device_without_migration, note_prefetch, pointless, slice_of};
use super::outcome::{HintOutcome, SkipReason};
use super::ranges::{PlannedRange, Ranges};
use crate::block::Block;
use crate::device::error::DeviceError;
use crate::device::notice::{Listener, Notice};
use crate::device::stream::Stream;
use cumem_driver::CudaErrorCode;
use cumem_driver::{DriverError, Location, PrefetchRange};
use cumem_driver::{MemoryType, RawStream};
use std::marker::PhantomData;
use std::ops::Range;

/// Prefetches that belong together. It borrows the blocks, so a freed one is not in it.
///
/// Each entry is checked when it is added, and one that cannot be is refused and leaves the plan as it was. When the
/// plan is executed, entries that overlap are merged, and the ranges go to the driver ordered by address: in one call
/// where it has one (`cuMemPrefetchBatchAsync`, CUDA 13, on any stream but the legacy default one), else one by one.
///
/// All of it is enqueued on the plan's stream. A migration changes no byte, so the streams of the buffers need not
/// wait for it.
#[derive(Debug)]
pub struct PrefetchPlan<'a> {
    stream: &'a Stream,
    budget: usize,
    entries: Vec<Result<PlannedRange, SkipReason>>,
    ranges: Ranges,
    /// Entries from which automatic prefetch learns, with the observer.
    observers: Vec<(usize, &'a dyn Listener)>,
    blocks: PhantomData<&'a Block>,
}

/// Why an entry is not in a plan, or a plan was not carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// The entry was not added: its range, its target or the driver's answer about its memory.
    #[error("entry {entry} cannot be in the plan")]
    Entry {
        /// Its number, from 0.
        entry: usize,
        /// Why not.
        source: DeviceError,
    },
    /// The entry was not added: its memory does not migrate.
    #[error(
        "entry {entry} cannot be in the plan: {bytes} bytes at {addr:#x} are {memory_type} memory, which does not migrate"
    )]
    NotUnified {
        /// Its number, from 0.
        entry: usize,
        /// The first byte.
        addr: u64,
        /// Bytes.
        bytes: usize,
        /// What memory they are.
        memory_type: MemoryType,
    },
    /// The entry was not added: another one sends some of its bytes elsewhere.
    #[error(
        "entry {entry} sends {bytes} bytes at {addr:#x} to {to}, but an earlier one sends some of them to {earlier}"
    )]
    Conflict {
        /// Its number, from 0.
        entry: usize,
        /// The first byte.
        addr: u64,
        /// Bytes.
        bytes: usize,
        /// Its target.
        to: Location,
        /// The earlier entry's.
        earlier: Location,
    },
    /// The driver refused a range while the plan was carried out: those before it were enqueued, those after it were
    /// not.
    #[error("range {enqueued} of {} was refused, those before it were enqueued", ranges.len())]
    Stopped {
        /// The merged ranges, in order.
        ranges: Vec<PrefetchRange>,
        /// How many of them were enqueued: none, if they went to the driver in one call.
        enqueued: usize,
        /// The driver's answer.
        source: DeviceError,
    },
}

/// What became of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "entries may have been skipped"]
#[non_exhaustive]
pub struct PlanReport {
    /// What became of each entry, in the order in which they were added.
    pub outcomes: Vec<HintOutcome>,
    /// The ranges that were enqueued, merged and in order.
    pub ranges: Vec<PrefetchRange>,
    /// Whether they went to the driver in one call.
    pub batched: bool,
}

impl PlanReport {
    /// Bytes that were enqueued, each once.
    pub fn bytes(&self) -> usize {
        self.ranges.iter().map(|range| range.bytes).sum()
    }
}

impl<'a> PrefetchPlan<'a> {
    /// An empty plan, to be enqueued on `stream`.
    pub fn new(stream: &'a Stream) -> Self {
        let (ranges, observers) = (Ranges::default(), Vec::new());
        Self { stream, budget: usize::MAX, entries: Vec::new(), ranges, observers, blocks: PhantomData }
    }

    /// Enqueues at most `bytes` bytes: entries are taken in the order in which they were added, those that no longer
    /// fit are skipped whole.
    #[must_use]
    pub fn budget(mut self, bytes: usize) -> Self {
        self.budget = bytes;
        self
    }

    /// Adds `range` (bytes of `block`).
    ///
    /// # Errors
    ///
    /// [`PlanError::Entry`] with [`DeviceError::OutOfRange`], [`DriverError::NoSuchDevice`],
    /// [`DeviceError::WrongDevice`] for a target of another machine, or what the driver answers about the memory;
    /// [`PlanError::NotUnified`]; [`PlanError::Conflict`]. The plan is as it was then. A NUMA node is only known to
    /// the driver, which answers when the plan is executed.
    pub fn add(
        &mut self,
        block: &'a Block,
        range: Range<usize>,
        to: impl Into<Location>,
    ) -> Result<&mut Self, PlanError> {
        let (entry, to) = (self.entries.len(), to.into());
        let fail = |source| PlanError::Entry { entry, source };
        let (ptr, bytes) = slice_of(block, &range).map_err(fail)?;
        let device = self.stream.device();
        let without = device_without_migration(device, to).map_err(fail)?.map(SkipReason::NoConcurrentManagedAccess);
        let range = PrefetchRange { addr: ptr as u64, bytes, to };
        let planned = PlannedRange { range, block: block.addr() };
        if let Some(reason) = pointless(device, bytes).or(without) {
            self.entries.push(Err(reason));
            return Ok(self);
        }
        let memory_type = device.pointer_info(ptr).map_err(|error| fail(error.into()))?.memory_type;
        if memory_type != MemoryType::Unified {
            return Err(PlanError::NotUnified { entry, addr: range.addr, bytes, memory_type });
        }
        if let Some(earlier) = self.ranges.conflicting(&planned) {
            let earlier = earlier.range.to;
            return Err(PlanError::Conflict { entry, addr: range.addr, bytes, to, earlier });
        }
        self.ranges.insert(planned);
        self.entries.push(Ok(planned));
        Ok(self)
    }

    /// Has `observer` hear of the entry that was added last, when it is enqueued.
    pub(crate) fn observe(&mut self, observer: Option<&'a dyn Listener>) {
        self.observers.extend(observer.map(|observer| (self.entries.len() - 1, observer)));
    }

    /// The number of the entry that is added next.
    pub(crate) fn next_entry(&self) -> usize {
        self.entries.len()
    }

    /// Entries in it.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Enqueues it, within its budget. It may be executed again.
    ///
    /// # Errors
    ///
    /// [`PlanError::Stopped`] with the driver's answer, and what was enqueued and what was not.
    pub fn execute(&self) -> Result<PlanReport, PlanError> {
        let mut accepted = Ranges::default();
        let mut left = self.budget;
        let take = |entry: &Result<PlannedRange, SkipReason>| {
            let range = match entry {
                Ok(range) => range,
                Err(reason) => return HintOutcome::Skipped(*reason),
            };
            let bytes = accepted.missing(range);
            if bytes > left {
                return HintOutcome::Skipped(SkipReason::OverBudget { bytes, left });
            }
            left -= bytes;
            accepted.insert(*range);
            HintOutcome::Applied
        };
        let outcomes: Vec<_> = self.entries.iter().map(take).collect();
        let ranges = accepted.to_vec();
        let batched = self.enqueue(&ranges)?;
        for &(entry, observer) in &self.observers {
            if let (Ok(PlannedRange { range, .. }), HintOutcome::Applied) = (&self.entries[entry], outcomes[entry]) {
                let notice = Notice::Prefetched { addr: range.addr, bytes: range.bytes, to: range.to };
                observer.hear(self.stream.device_id(), &notice);
            }
        }
        Ok(PlanReport { outcomes, ranges, batched })
    }

    /// Whether it went in one call.
    fn enqueue(&self, ranges: &[PrefetchRange]) -> Result<bool, PlanError> {
        if ranges.is_empty() {
            return Ok(false);
        }
        let stopped = |enqueued, source| PlanError::Stopped { ranges: ranges.to_vec(), enqueued, source };
        let device = self.stream.device();
        let stream = self.stream.raw().map_err(|source| stopped(0, source))?;
        if stream != RawStream::LEGACY && ranges.len() > 1 {
            // SAFETY: the stream's handle is alive, and the blocks are borrowed; a migration changes no byte.
            match unsafe { device.driver().prefetch_batch(device.ordinal(), ranges, stream) } {
                Ok(()) => {
                    ranges.iter().for_each(|range| note_prefetch(device, range.addr, range.bytes, range.to));
                    return Ok(true);
                }
                // An older driver, or a device in the machine that has no concurrent managed access.
                Err(DriverError::MissingSymbol { .. }) => {}
                Err(error) if error.code() == Some(CudaErrorCode::NOT_SUPPORTED) => {}
                Err(error) => return Err(stopped(0, error.into())),
            }
        }
        for (enqueued, range) in ranges.iter().enumerate() {
            let ptr = range.addr as *const u8;
            // SAFETY: as above.
            unsafe { device.driver().prefetch(device.ordinal(), ptr, range.bytes, range.to, stream) }
                .map_err(|error| stopped(enqueued, error.into()))?;
            note_prefetch(device, range.addr, range.bytes, range.to);
        }
        Ok(false)
    }
}
