//! [`PrefetchPlan`]: prefetches of many ranges, checked and merged before the first is enqueued.

use super::calls::{device_without_migration, note_prefetch, pointless, raw_for_hint, slice_of};
use super::outcome::{HintOutcome, SkipReason};
use super::ranges::{PlannedRange, Ranges};
use crate::block::Block;
use crate::device::error::DeviceError;
use crate::device::notice::{Listener, Notice};
use crate::device::stream::Stream;
use cumem_driver::{CudaErrorCode, DriverError, Location, MemoryType, PrefetchRange, RawStream};
use std::marker::PhantomData;
use std::ops::Range;

/// A plan of prefetches of many ranges, which are enqueued together. The plan borrows the blocks, so none of them can
/// be freed before it.
///
/// Each entry is checked when it is added. An entry that fails a check is not added. [`execute`](Self::execute) merges
/// entries that overlap or touch within a block, and passes the ranges to the driver in the order of their addresses.
/// The plan makes one driver call (`cuMemPrefetchBatchAsync`) if the driver has that function (CUDA 13) and the stream
/// is not the legacy default stream. Otherwise the plan makes one call for each range.
///
/// All prefetches are enqueued on the plan's stream. A migration changes no byte, so the streams of the buffers need
/// not wait for the prefetches.
///
/// # Examples
///
/// ```
/// # use cumem::sim::Profile;
/// # use cumem::{Device, Location, ManagedResource, Stream, UnifiedBuffer};
/// # let device = Device::simulated(Profile::default())?;
/// # let stream = Stream::new(&device)?;
/// use cumem::unified::PrefetchPlan;
///
/// let memory = ManagedResource::new(&device)?;
/// let weights = UnifiedBuffer::<f32, _>::zeroed(1 << 20, &stream, &memory)?;
/// let results = UnifiedBuffer::<f32, _>::zeroed(1 << 20, &stream, &memory)?;
/// let mut plan = PrefetchPlan::new(&stream);
/// plan.add_buffer(&weights, 0..1 << 20, device.id())?.add_buffer(&results, 0..1 << 20, Location::Host)?;
/// let report = plan.execute()?;
/// assert_eq!(report.bytes(), 8 << 20);
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct PrefetchPlan<'a> {
    stream: &'a Stream,
    budget: usize,
    entries: Vec<Result<PlannedRange, SkipReason>>,
    ranges: Ranges,
    /// The positions of entries whose buffers have automatic prefetch, each with the listener to notify.
    observers: Vec<(usize, &'a dyn Listener)>,
    blocks: PhantomData<&'a Block>,
}

/// The error for an entry that cannot be added to a plan, and for a plan that was not executed to its end.
///
/// # Examples
///
/// ```
/// # use cumem::sim::Profile;
/// # use cumem::{Device, Location, ManagedResource, Stream, UnifiedBuffer};
/// # let device = Device::simulated(Profile::default())?;
/// # let stream = Stream::new(&device)?;
/// use cumem::unified::{PlanError, PrefetchPlan};
///
/// let buffer = UnifiedBuffer::<u8, _>::zeroed(4096, &stream, ManagedResource::new(&device)?)?;
/// let mut plan = PrefetchPlan::new(&stream);
/// plan.add_buffer(&buffer, 0..4096, device.id())?;
/// let error = plan.add_buffer(&buffer, 0..100, Location::Host).unwrap_err();
/// assert!(matches!(error, PlanError::Conflict { entry: 1, .. }));
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// The entry was not added because of its range, its target, or a driver error for its memory.
    #[error("entry {entry} cannot be in the plan")]
    Entry {
        /// The position of the entry, counted from 0.
        entry: usize,
        /// The cause.
        source: DeviceError,
    },
    /// The entry was not added because its memory does not migrate.
    #[error(
        "entry {entry} cannot be in the plan: {bytes} bytes at {addr:#x} are {memory_type} memory, which does not migrate"
    )]
    NotUnified {
        /// The position of the entry, counted from 0.
        entry: usize,
        /// The address of the first byte.
        addr: u64,
        /// The length of the entry, in bytes.
        bytes: usize,
        /// The type of the memory, according to the driver.
        memory_type: MemoryType,
    },
    /// The entry was not added because an earlier entry prefetches some of its bytes to another location.
    #[error(
        "entry {entry} sends {bytes} bytes at {addr:#x} to {to}, but an earlier one sends some of them to {earlier}"
    )]
    Conflict {
        /// The position of the entry, counted from 0.
        entry: usize,
        /// The address of the first byte.
        addr: u64,
        /// The length of the entry, in bytes.
        bytes: usize,
        /// The target of the entry.
        to: Location,
        /// The target of the earlier entry.
        earlier: Location,
    },
    /// The driver rejected a range during [`execute`](PrefetchPlan::execute). The ranges before it were enqueued, and
    /// the ranges after it were not.
    #[error("range {enqueued} of {} was refused, those before it were enqueued", ranges.len())]
    Stopped {
        /// The merged ranges, in the order of their addresses.
        ranges: Vec<PrefetchRange>,
        /// The number of ranges that were enqueued; 0 if the plan used one driver call for all.
        enqueued: usize,
        /// The driver's error.
        source: DeviceError,
    },
}

/// The outcome of a plan that was executed.
///
/// # Examples
///
/// ```
/// # use cumem::sim::Profile;
/// # use cumem::{Device, ManagedResource, Stream, UnifiedBuffer};
/// # let device = Device::simulated(Profile::default())?;
/// # let stream = Stream::new(&device)?;
/// use cumem::unified::{HintOutcome, PrefetchPlan};
///
/// let buffer = UnifiedBuffer::<u8, _>::zeroed(1 << 20, &stream, ManagedResource::new(&device)?)?;
/// let mut plan = PrefetchPlan::new(&stream);
/// plan.add_buffer(&buffer, 0..1 << 20, device.id())?;
/// let report = plan.execute()?;
/// assert_eq!((report.outcomes, report.batched), (vec![HintOutcome::Applied], false));
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "entries may have been skipped"]
#[non_exhaustive]
pub struct PlanReport {
    /// The outcome of each entry, in the order in which the entries were added.
    pub outcomes: Vec<HintOutcome>,
    /// The ranges that were enqueued, merged, in the order of their addresses.
    pub ranges: Vec<PrefetchRange>,
    /// Whether one driver call enqueued all ranges.
    pub batched: bool,
}

impl PlanReport {
    /// Returns the number of bytes that were enqueued. Bytes of several entries count once.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Device, ManagedResource, Stream, UnifiedBuffer};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// use cumem::unified::PrefetchPlan;
    ///
    /// let buffer = UnifiedBuffer::<u8, _>::zeroed(1 << 20, &stream, ManagedResource::new(&device)?)?;
    /// let mut plan = PrefetchPlan::new(&stream);
    /// plan.add_buffer(&buffer, 0..3000, device.id())?.add_buffer(&buffer, 2000..5000, device.id())?;
    /// assert_eq!(plan.execute()?.bytes(), 5000);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn bytes(&self) -> usize {
        self.ranges.iter().map(|range| range.bytes).sum()
    }
}

impl<'a> PrefetchPlan<'a> {
    /// Creates an empty plan whose prefetches will be enqueued on `stream`.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Device, ManagedResource, Stream, UnifiedBuffer};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// use cumem::unified::PrefetchPlan;
    ///
    /// let plan = PrefetchPlan::new(&stream);
    /// assert!(plan.is_empty());
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn new(stream: &'a Stream) -> Self {
        let (ranges, observers) = (Ranges::default(), Vec::new());
        Self { stream, budget: usize::MAX, entries: Vec::new(), ranges, observers, blocks: PhantomData }
    }

    /// Limits the plan to `bytes` bytes. Entries are enqueued in the order in which they were added, and an entry that
    /// does not fit the rest of the budget is skipped as a whole.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Device, ManagedResource, Stream, UnifiedBuffer};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// use cumem::unified::{HintOutcome, PrefetchPlan, SkipReason};
    ///
    /// let buffer = UnifiedBuffer::<u8, _>::zeroed(1 << 20, &stream, ManagedResource::new(&device)?)?;
    /// let mut plan = PrefetchPlan::new(&stream).budget(5000);
    /// plan.add_buffer(&buffer, 0..4000, device.id())?.add_buffer(&buffer, 4000..8000, device.id())?;
    /// let skipped = HintOutcome::Skipped(SkipReason::OverBudget { bytes: 4000, left: 1000 });
    /// assert_eq!(plan.execute()?.outcomes, [HintOutcome::Applied, skipped]);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn budget(mut self, bytes: usize) -> Self {
        self.budget = bytes;
        self
    }

    /// Adds the prefetch of `range` (bytes of `block`) to a location.
    ///
    /// # Errors
    ///
    /// The plan is unchanged after an error.
    /// - Returns [`PlanError::Entry`] if the range is not within the block, if the target does not exist or belongs to
    ///   another machine, and if the driver's query of the memory fails.
    /// - Returns [`PlanError::NotUnified`] if the memory does not migrate.
    /// - Returns [`PlanError::Conflict`] if an earlier entry prefetches some of the bytes to another location.
    ///
    /// A NUMA node that does not exist is an error of [`execute`](Self::execute), because only the driver has the
    /// list of nodes.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Device, ManagedResource, Stream, UnifiedBuffer};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// use cumem::unified::PrefetchPlan;
    ///
    /// let buffer = UnifiedBuffer::<u8, _>::zeroed(1 << 20, &stream, ManagedResource::new(&device)?)?;
    /// let mut plan = PrefetchPlan::new(&stream);
    /// plan.add(buffer.block(), 0..4096, device.id())?;
    /// assert!(plan.add(buffer.block(), 0..2 << 20, device.id()).is_err()); // out of range
    /// assert_eq!(plan.len(), 1);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
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

    /// Registers `observer` to be notified when the entry that was added last is enqueued.
    pub(crate) fn observe(&mut self, observer: Option<&'a dyn Listener>) {
        self.observers.extend(observer.map(|observer| (self.entries.len() - 1, observer)));
    }

    /// Returns the position that the next entry will have.
    pub(crate) fn next_entry(&self) -> usize {
        self.entries.len()
    }

    /// Returns the number of entries. Entries that will be skipped count too.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Device, ManagedResource, Stream, UnifiedBuffer};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// use cumem::unified::PrefetchPlan;
    ///
    /// let buffer = UnifiedBuffer::<u8, _>::zeroed(1 << 20, &stream, ManagedResource::new(&device)?)?;
    /// let mut plan = PrefetchPlan::new(&stream);
    /// plan.add_buffer(&buffer, 0..4096, device.id())?;
    /// assert_eq!(plan.len(), 1);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Reports whether the plan has no entries.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Device, ManagedResource, Stream, UnifiedBuffer};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// use cumem::unified::PrefetchPlan;
    ///
    /// let plan = PrefetchPlan::new(&stream);
    /// assert!(plan.is_empty());
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Enqueues the prefetches, within the budget. A plan may be executed several times.
    ///
    /// # Errors
    ///
    /// Returns [`PlanError::Stopped`] if the driver rejects a range. The error lists the ranges and the number of them
    /// that were enqueued.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Device, ManagedResource, Stream, UnifiedBuffer};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// use cumem::unified::PrefetchPlan;
    ///
    /// let buffer = UnifiedBuffer::<u8, _>::zeroed(1 << 20, &stream, ManagedResource::new(&device)?)?;
    /// let mut plan = PrefetchPlan::new(&stream);
    /// plan.add_buffer(&buffer, 0..1 << 20, device.id())?;
    /// for _step in 0..3 {
    ///     assert_eq!(plan.execute()?.bytes(), 1 << 20);
    /// }
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
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

    /// Enqueues the ranges, and reports whether one driver call enqueued all of them.
    fn enqueue(&self, ranges: &[PrefetchRange]) -> Result<bool, PlanError> {
        if ranges.is_empty() {
            return Ok(false);
        }
        let stopped = |enqueued, source| PlanError::Stopped { ranges: ranges.to_vec(), enqueued, source };
        let device = self.stream.device();
        let stream = raw_for_hint(self.stream);
        if stream != RawStream::LEGACY && ranges.len() > 1 {
            // SAFETY: the stream's handle is alive, and the plan borrows the blocks, so they are allocated. A migration
            // changes no byte.
            match unsafe { device.driver().prefetch_batch(device.ordinal(), ranges, stream) } {
                Ok(()) => {
                    ranges.iter().for_each(|range| note_prefetch(device, range.addr, range.bytes, range.to));
                    return Ok(true);
                }
                // The driver is older than CUDA 13, or a device of the machine has no concurrent managed access.
                Err(DriverError::MissingSymbol { .. }) => {}
                Err(error) if error.code() == Some(CudaErrorCode::NOT_SUPPORTED) => {}
                Err(error) => return Err(stopped(0, error.into())),
            }
        }
        for (enqueued, range) in ranges.iter().enumerate() {
            let ptr = range.addr as *const u8;
            // SAFETY: as for the batch call above.
            unsafe { device.driver().prefetch(device.ordinal(), ptr, range.bytes, range.to, stream) }
                .map_err(|error| stopped(enqueued, error.into()))?;
            note_prefetch(device, range.addr, range.bytes, range.to);
        }
        Ok(false)
    }
}
