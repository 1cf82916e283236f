//! [`PrefetchPlan`]: prefetches of many ranges, checked and merged before the first is enqueued.

use super::calls::{incapable, note_prefetch, pointless, slice_of};
use super::ranges::{PlannedRange, Ranges};
use super::{Outcome, SkipReason};
use crate::auto::AutoPrefetch;
use crate::block::Block;
use crate::buffer::Buffer;
use crate::code::CudaErrorCode;
use crate::driver::{MemoryType, RawStream};
use crate::error::DriverError;
use crate::kind::Migratable;
use crate::location::Location;
use crate::resource::MemoryResource;
use crate::stream::Stream;
use bytemuck::Pod;
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
    observers: Vec<(usize, &'a AutoPrefetch, &'a Block)>,
    blocks: PhantomData<&'a Block>,
}

/// Why an entry is not in a plan, or a plan was not carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// The entry was not added: its range, its target or the driver's answer about its memory.
    #[error("entry {entry} cannot be in the plan: {source}")]
    Entry {
        /// Its number, from 0.
        entry: usize,
        /// Why not.
        source: DriverError,
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
    #[error("range {enqueued} of {} was refused, those before it were enqueued: {source}", ranges.len())]
    Stopped {
        /// The merged ranges, in order.
        ranges: Vec<PlannedRange>,
        /// How many of them were enqueued: none, if they went to the driver in one call.
        enqueued: usize,
        /// The driver's answer.
        source: DriverError,
    },
}

/// What became of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "entries may have been skipped"]
#[non_exhaustive]
pub struct PlanReport {
    /// What became of each entry, in the order in which they were added.
    pub outcomes: Vec<Outcome>,
    /// The ranges that were enqueued, merged and in order.
    pub ranges: Vec<PlannedRange>,
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
    /// [`PlanError::Entry`] with [`DriverError::OutOfRange`], [`DriverError::NoSuchDevice`],
    /// [`DriverError::WrongDevice`] for a target of another machine, or what the driver answers about the memory;
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
        let incapable = incapable(device, to).map_err(fail)?.map(SkipReason::NoConcurrentManagedAccess);
        let planned = PlannedRange { addr: ptr as u64, bytes, to, block: block.addr() };
        if let Some(reason) = pointless(device, bytes).or(incapable) {
            self.entries.push(Err(reason));
            return Ok(self);
        }
        let memory_type = device.pointer_info(ptr).map_err(fail)?.memory_type;
        if memory_type != MemoryType::Unified {
            return Err(PlanError::NotUnified { entry, addr: planned.addr, bytes, memory_type });
        }
        if let Some(earlier) = self.ranges.conflicting(&planned) {
            let earlier = earlier.to;
            return Err(PlanError::Conflict { entry, addr: planned.addr, bytes, to, earlier });
        }
        self.ranges.insert(planned);
        self.entries.push(Ok(planned));
        Ok(self)
    }

    /// Adds some elements of a buffer.
    ///
    /// # Errors
    ///
    /// Those of [`add`](Self::add).
    pub fn add_buffer<T: Pod, R: MemoryResource<Kind: Migratable>>(
        &mut self,
        buffer: &'a Buffer<T, R>,
        elements: Range<usize>,
        to: impl Into<Location>,
    ) -> Result<&mut Self, PlanError> {
        let entry = self.entries.len();
        let bytes = buffer.bytes_of(elements).map_err(|source| PlanError::Entry { entry, source })?;
        self.add(buffer.block(), bytes, to)?;
        self.observers.extend(buffer.observer().map(|observer| (entry, observer, buffer.block())));
        Ok(self)
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
                Err(reason) => return Outcome::Skipped(*reason),
            };
            let bytes = accepted.missing(range);
            if bytes > left {
                return Outcome::Skipped(SkipReason::OverBudget { bytes, left });
            }
            left -= bytes;
            accepted.insert(*range);
            Outcome::Applied
        };
        let outcomes: Vec<_> = self.entries.iter().map(take).collect();
        let ranges = accepted.to_vec();
        let batched = self.enqueue(&ranges)?;
        for &(entry, observer, block) in &self.observers {
            if let (Ok(range), Outcome::Applied) = (&self.entries[entry], outcomes[entry]) {
                let start = (range.addr - block.addr()) as usize;
                observer.prefetched(block, start..start + range.bytes, range.to);
            }
        }
        Ok(PlanReport { outcomes, ranges, batched })
    }

    /// Whether it went in one call.
    fn enqueue(&self, ranges: &[PlannedRange]) -> Result<bool, PlanError> {
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
                Err(source) => return Err(stopped(0, source)),
            }
        }
        for (enqueued, range) in ranges.iter().enumerate() {
            let ptr = range.addr as *const u8;
            // SAFETY: as above.
            unsafe { device.driver().prefetch(device.ordinal(), ptr, range.bytes, range.to, stream) }
                .map_err(|source| stopped(enqueued, source))?;
            note_prefetch(device, range.addr, range.bytes, range.to);
        }
        Ok(false)
    }
}
