//! [`ManagedMemoryHints`]: several hints about one range, given together and undone together.

use super::calls::{advise, pointless, prefetch, range_attributes, slice_of};
use super::outcome::HintOutcome;
use crate::block::Block;
use crate::device::error::DeviceError;
use crate::device::notice::{Listener, Notice};
use crate::device::stream::Stream;
use crate::unified::residency::Residency;
use cumem_driver::drop_error::record_drop_error;
use cumem_driver::{Advice, Location, RangeAttributes};
use std::ops::Range;

/// Collects hints about a block or a range of it, which it borrows, and gives them together.
///
/// ```
/// # use cumem::sim::Profile;
/// # use cumem::unified::Advice;
/// # use cumem::{Device, HintOutcome, Location, ManagedResource, Stream, UnifiedBuffer};
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
    /// Who learns from prefetches.
    observer: Option<&'a dyn Listener>,
    hints: Vec<Hint>,
}

/// A hint of either sort.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Hint {
    /// How the range will be used.
    Advise(Advice),
    /// Where its pages shall go.
    PrefetchTo(Location),
}

impl<'a> ManagedMemoryHints<'a> {
    /// About all of a block. Prefetches will be enqueued on `stream`.
    pub fn new(block: &'a Block, stream: &'a Stream) -> Self {
        Self::about(block, 0..block.size(), stream, None)
    }

    /// About a range that is within the block.
    pub(crate) fn about(
        block: &'a Block,
        range: Range<usize>,
        stream: &'a Stream,
        observer: Option<&'a dyn Listener>,
    ) -> Self {
        Self { block, range, stream, observer, hints: Vec::new() }
    }

    /// About these bytes of the block only.
    ///
    /// # Errors
    ///
    /// [`DeviceError::OutOfRange`] if they are not within it.
    pub fn range(mut self, range: Range<usize>) -> Result<Self, DeviceError> {
        slice_of(self.block, &range)?;
        self.range = range;
        Ok(self)
    }

    /// Adds an advice.
    pub fn advise(mut self, advice: Advice) -> Self {
        self.hints.push(Hint::Advise(advice));
        self
    }

    /// Adds [`Advice::SetReadMostly`].
    pub fn read_mostly(self) -> Self {
        self.advise(Advice::SetReadMostly)
    }

    /// Adds [`Advice::SetPreferredLocation`].
    pub fn preferred_location(self, at: impl Into<Location>) -> Self {
        self.advise(Advice::SetPreferredLocation(at.into()))
    }

    /// Adds [`Advice::SetAccessedBy`].
    pub fn accessed_by(self, by: impl Into<Location>) -> Self {
        self.advise(Advice::SetAccessedBy(by.into()))
    }

    /// Adds a prefetch.
    pub fn prefetch(mut self, to: impl Into<Location>) -> Self {
        self.hints.push(Hint::PrefetchTo(to.into()));
        self
    }

    /// Gives the hints, in the order in which they were added.
    ///
    /// # Errors
    ///
    /// What the driver answers to the first hint that it rejects, such as `CUDA_ERROR_INVALID_VALUE` for memory that is
    /// not unified. Advice that was given before it has been undone then; prefetches stand.
    pub fn apply(self) -> Result<AppliedHints, DeviceError> {
        let advises = self.hints.iter().any(|hint| matches!(hint, Hint::Advise(_)));
        let before = match pointless(self.stream.device(), self.range.len()) {
            None if advises => self.told_by_parts()?,
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

    /// What each part of the range has been told. Neighbours that have been told the same are one.
    fn told_by_parts(&self) -> Result<Vec<(Range<usize>, RangeAttributes)>, DeviceError> {
        let advised = Residency::of(self.stream.device()).advised();
        let mut parts: Vec<(Range<usize>, RangeAttributes)> = Vec::new();
        for part in advised.within(self.block.addr(), self.range.clone()) {
            let told = range_attributes(self.block, part.clone(), self.stream)?;
            match parts.last_mut() {
                Some((last, same)) if same.advises_as(&told) => last.end = part.end,
                _ => parts.push((part, told)),
            }
        }
        Ok(parts)
    }
}

/// What became of hints that were given together, and how to undo them.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "hints may have been skipped"]
pub struct AppliedHints {
    addr: u64,
    range: Range<usize>,
    /// What each part had been told.
    before: Vec<(Range<usize>, RangeAttributes)>,
    outcomes: Vec<(Hint, HintOutcome)>,
}

impl AppliedHints {
    /// What became of each hint, in the order in which they were given.
    pub fn outcomes(&self) -> &[(Hint, HintOutcome)] {
        &self.outcomes
    }

    /// Takes the advice back, the last first: what the range had been told before holds again, for each part of it that
    /// was advised through this library. What others told the driver about parts only is not known, and is gone. Pages
    /// stay where prefetches brought them.
    ///
    /// # Errors
    ///
    /// [`DeviceError::OtherBlock`] if it was given about another block, or what the driver answers; what was taken
    /// back until then stays so.
    pub fn undo(&self, block: &Block, stream: &Stream) -> Result<(), DeviceError> {
        if block.addr() != self.addr || block.size() < self.range.end {
            return Err(DeviceError::OtherBlock { expected: self.addr, found: block.addr() });
        }
        for (hint, outcome) in self.outcomes.iter().rev() {
            let (Hint::Advise(advice), HintOutcome::Applied) = (hint, outcome) else { continue };
            for (part, told) in &self.before {
                let _given_where_it_was = advise(block, part.clone(), told.restoring(*advice), stream)?;
            }
        }
        Ok(())
    }
}
