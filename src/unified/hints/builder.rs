//! [`ManagedMemoryHints`]: several hints about one range, passed to the driver together and undone together.

use super::calls::{advise, does_not_migrate, pointless, prefetch, range_attributes, slice_of};
use super::outcome::HintOutcome;
use crate::block::Block;
use crate::device::error::DeviceError;
use crate::device::notice::{Listener, Notice};
use crate::device::stream::Stream;
use crate::unified::residency::Residency;
use cumem_driver::drop_error::record_drop_error;
use cumem_driver::{Advice, Location, RangeAttributes};
use std::ops::Range;

/// A builder that collects hints about a block, or about a range of it, and passes them to the driver together. If the
/// driver rejects advice, the advice before it is undone.
///
/// # Examples
///
/// ```
/// # use cumem::sim::Profile;
/// # use cumem::unified::HintOutcome;
/// # use cumem::{Device, Location, ManagedResource, Stream, UnifiedBuffer};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let device = Device::simulated(Profile::default())?;
/// # let stream = Stream::new(&device)?;
/// let table = UnifiedBuffer::<f32, _>::zeroed(1 << 20, &stream, ManagedResource::new(&device)?)?;
/// let hints = table.hints().read_mostly().accessed_by(Location::Host).prefetch(device.id()).apply()?;
/// assert!(hints.outcomes().iter().all(|(_, outcome)| *outcome == HintOutcome::Applied));
/// hints.undo(table.block(), &stream)?;
/// assert!(!table.range_attributes()?.read_mostly);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
#[must_use = "gives no hint until it is applied"]
pub struct ManagedMemoryHints<'a> {
    block: &'a Block,
    range: Range<usize>,
    stream: &'a Stream,
    /// The listener that is notified of the prefetches: automatic prefetch of a buffer.
    observer: Option<&'a dyn Listener>,
    hints: Vec<Hint>,
}

/// A prefetch or advice, as [`AppliedHints::outcomes`] lists them.
///
/// # Examples
///
/// ```
/// use cumem::Location;
/// use cumem::unified::{Advice, Hint};
///
/// let hints = [Hint::Advise(Advice::SetReadMostly), Hint::PrefetchTo(Location::Host)];
/// assert_ne!(hints[0], hints[1]);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Hint {
    /// Advice about the range.
    Advise(Advice),
    /// A prefetch of the range to this location.
    PrefetchTo(Location),
}

impl<'a> ManagedMemoryHints<'a> {
    /// Creates a builder for hints about all of a block. Prefetches will be enqueued on `stream`.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Device, ManagedResource, Stream, UnifiedBuffer};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// use cumem::unified::ManagedMemoryHints;
    ///
    /// let buffer = UnifiedBuffer::<u8, _>::zeroed(1 << 20, &stream, ManagedResource::new(&device)?)?;
    /// let applied = ManagedMemoryHints::new(buffer.block(), &stream).read_mostly().apply()?;
    /// assert!(applied.outcomes()[0].1.is_applied());
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn new(block: &'a Block, stream: &'a Stream) -> Self {
        Self::about(block, 0..block.size(), stream, None)
    }

    /// Creates a builder for hints about a range that is within the block.
    pub(crate) fn about(
        block: &'a Block,
        range: Range<usize>,
        stream: &'a Stream,
        observer: Option<&'a dyn Listener>,
    ) -> Self {
        Self { block, range, stream, observer, hints: Vec::new() }
    }

    /// Restricts all hints to these bytes of the block.
    ///
    /// # Errors
    ///
    /// Returns [`DeviceError::OutOfRange`] if the range is not within the block.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Device, ManagedResource, Stream, UnifiedBuffer};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// use cumem::unified::hints;
    ///
    /// let buffer = UnifiedBuffer::<u8, _>::zeroed(1 << 20, &stream, ManagedResource::new(&device)?)?;
    /// let _applied = buffer.hints().range(0..4096)?.read_mostly().apply()?;
    /// assert!(hints::range_attributes(buffer.block(), 0..4096, &stream)?.read_mostly);
    /// assert!(!hints::range_attributes(buffer.block(), 0..8192, &stream)?.read_mostly);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn range(mut self, range: Range<usize>) -> Result<Self, DeviceError> {
        slice_of(self.block, &range)?;
        self.range = range;
        Ok(self)
    }

    /// Adds advice.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Device, ManagedResource, Stream, UnifiedBuffer};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// use cumem::unified::Advice;
    ///
    /// let buffer = UnifiedBuffer::<u8, _>::zeroed(1 << 20, &stream, ManagedResource::new(&device)?)?;
    /// let _applied = buffer.hints().advise(Advice::SetReadMostly).apply()?;
    /// assert!(buffer.range_attributes()?.read_mostly);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn advise(mut self, advice: Advice) -> Self {
        self.hints.push(Hint::Advise(advice));
        self
    }

    /// Adds [`Advice::SetReadMostly`].
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Device, ManagedResource, Stream, UnifiedBuffer};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// let buffer = UnifiedBuffer::<u8, _>::zeroed(1 << 20, &stream, ManagedResource::new(&device)?)?;
    /// let _applied = buffer.hints().read_mostly().apply()?;
    /// assert!(buffer.range_attributes()?.read_mostly);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn read_mostly(self) -> Self {
        self.advise(Advice::SetReadMostly)
    }

    /// Adds [`Advice::SetPreferredLocation`].
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Device, Location, ManagedResource, Stream, UnifiedBuffer};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// let buffer = UnifiedBuffer::<u8, _>::zeroed(1 << 20, &stream, ManagedResource::new(&device)?)?;
    /// let _applied = buffer.hints().preferred_location(Location::Host).apply()?;
    /// assert_eq!(buffer.range_attributes()?.preferred_location, Some(Location::Host));
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn preferred_location(self, at: impl Into<Location>) -> Self {
        self.advise(Advice::SetPreferredLocation(at.into()))
    }

    /// Adds [`Advice::SetAccessedBy`].
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Device, Location, ManagedResource, Stream, UnifiedBuffer};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// let buffer = UnifiedBuffer::<u8, _>::zeroed(1 << 20, &stream, ManagedResource::new(&device)?)?;
    /// let _applied = buffer.hints().accessed_by(device.id()).apply()?;
    /// assert_eq!(buffer.range_attributes()?.accessed_by[..], [Location::Device(device.id())]);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn accessed_by(self, by: impl Into<Location>) -> Self {
        self.advise(Advice::SetAccessedBy(by.into()))
    }

    /// Adds a prefetch.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Device, Location, ManagedResource, Stream, UnifiedBuffer};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// let buffer = UnifiedBuffer::<u8, _>::zeroed(1 << 20, &stream, ManagedResource::new(&device)?)?;
    /// let _applied = buffer.hints().prefetch(Location::Host).apply()?;
    /// assert_eq!(buffer.range_attributes()?.last_prefetch_location, Some(Location::Host));
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn prefetch(mut self, to: impl Into<Location>) -> Self {
        self.hints.push(Hint::PrefetchTo(to.into()));
        self
    }

    /// Passes the hints to the driver, in the order in which they were added.
    ///
    /// # Errors
    ///
    /// Returns the driver's error for the first hint that it rejects, for example `CUDA_ERROR_INVALID_VALUE` for memory
    /// that is not unified. Advice that was given before that hint is undone. Prefetches that were enqueued before it
    /// stay enqueued.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Device, Location, ManagedResource, Stream, UnifiedBuffer};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// let buffer = UnifiedBuffer::<u8, _>::zeroed(1 << 20, &stream, ManagedResource::new(&device)?)?;
    /// let missing = Location::HostNuma(99); // this NUMA node does not exist
    /// assert!(buffer.hints().read_mostly().prefetch(missing).apply().is_err());
    /// assert!(!buffer.range_attributes()?.read_mostly); // undone
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn apply(self) -> Result<AppliedHints, DeviceError> {
        let advises = self.hints.iter().any(|hint| matches!(hint, Hint::Advise(_)));
        let before = match pointless(self.stream.device(), self.range.len()) {
            None if advises => match self.attributes_by_part() {
                // Every hint is then skipped.
                Err(_) if does_not_migrate(self.stream.device(), self.block.as_ptr()).is_some() => Vec::new(),
                attributes => attributes?,
            },
            _ => Vec::new(),
        };
        let addr = self.block.addr();
        let mut applied = AppliedHints { addr, range: self.range.clone(), before, outcomes: Vec::new() };
        for hint in &self.hints {
            let outcome = match *hint {
                Hint::Advise(advice) => advise(self.block, self.range.clone(), advice, self.stream),
                Hint::PrefetchTo(to) => prefetch(self.block, self.range.clone(), to, self.stream),
            };
            match outcome {
                Ok(outcome) => {
                    if let (Some(observer), Hint::PrefetchTo(to), HintOutcome::Applied) = (self.observer, hint, outcome)
                    {
                        let addr = self.block.addr() + self.range.start as u64;
                        let notice = Notice::Prefetched { addr, bytes: self.range.len(), to: *to };
                        observer.hear(self.stream.device_id(), &notice);
                    }
                    applied.outcomes.push((*hint, outcome));
                }
                Err(error) => {
                    let undone = applied.undo(self.block, self.stream);
                    record_drop_error("advice that another hint's refusal ended", undone);
                    return Err(error);
                }
            }
        }
        Ok(applied)
    }

    /// Returns the attributes of each part of the range. Neighbouring parts with the same advice are merged.
    fn attributes_by_part(&self) -> Result<Vec<(Range<usize>, RangeAttributes)>, DeviceError> {
        let advised = Residency::of(self.stream.device()).advised();
        let mut parts: Vec<(Range<usize>, RangeAttributes)> = Vec::new();
        for part in advised.within(self.block.addr(), self.range.clone()) {
            let attributes = range_attributes(self.block, part.clone(), self.stream)?;
            match parts.last_mut() {
                Some((last, same)) if same.advises_as(&attributes) => last.end = part.end,
                _ => parts.push((part, attributes)),
            }
        }
        Ok(parts)
    }
}

/// The outcomes of hints that were passed to the driver together, and the advice that held before them.
///
/// # Examples
///
/// ```
/// # use cumem::sim::Profile;
/// # use cumem::{Device, ManagedResource, Stream, UnifiedBuffer};
/// # let device = Device::simulated(Profile::default())?;
/// # let stream = Stream::new(&device)?;
/// let table = UnifiedBuffer::<f32, _>::zeroed(1000, &stream, ManagedResource::new(&device)?)?;
/// let applied = table.hints().read_mostly().apply()?;
/// applied.undo(table.block(), &stream)?;
/// assert!(!table.range_attributes()?.read_mostly);
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "hints may have been skipped"]
pub struct AppliedHints {
    addr: u64,
    range: Range<usize>,
    /// The attributes of each part before the hints.
    before: Vec<(Range<usize>, RangeAttributes)>,
    outcomes: Vec<(Hint, HintOutcome)>,
}

impl AppliedHints {
    /// Returns each hint with its outcome, in the order in which the hints were added.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Device, ManagedResource, Stream, UnifiedBuffer};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// use cumem::unified::{Hint, HintOutcome};
    ///
    /// let table = UnifiedBuffer::<f32, _>::zeroed(1000, &stream, ManagedResource::new(&device)?)?;
    /// let applied = table.hints().prefetch(device.id()).apply()?;
    /// assert_eq!(applied.outcomes(), [(Hint::PrefetchTo(device.id().into()), HintOutcome::Applied)]);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn outcomes(&self) -> &[(Hint, HintOutcome)] {
        &self.outcomes
    }

    /// Undoes the advice, the last first. Each part of the range that was advised through this library gets the advice
    /// back that it had before. Advice that other code gave about a part of the range is unknown to this library, and
    /// is lost. Pages stay where prefetches migrated them.
    ///
    /// # Errors
    ///
    /// Returns [`DeviceError::OtherBlock`] if the hints were given about another block. Returns the driver's error if
    /// it rejects advice; the advice that was undone before stays undone.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Device, ManagedResource, Stream, UnifiedBuffer};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// use cumem::unified::Advice;
    ///
    /// let table = UnifiedBuffer::<f32, _>::zeroed(1000, &stream, ManagedResource::new(&device)?)?;
    /// assert!(table.advise(Advice::SetReadMostly)?.is_applied());
    /// let applied = table.hints().advise(Advice::UnsetReadMostly).apply()?;
    /// applied.undo(table.block(), &stream)?;
    /// assert!(table.range_attributes()?.read_mostly); // as before
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn undo(&self, block: &Block, stream: &Stream) -> Result<(), DeviceError> {
        if block.addr() != self.addr || block.size() < self.range.end {
            return Err(DeviceError::OtherBlock { expected: self.addr, found: block.addr() });
        }
        for (hint, outcome) in self.outcomes.iter().rev() {
            let (Hint::Advise(advice), HintOutcome::Applied) = (hint, outcome) else { continue };
            for (part, attributes) in &self.before {
                let _applied = advise(block, part.clone(), attributes.restoring(*advice), stream)?;
            }
        }
        Ok(())
    }
}
