//! [`AccessPattern`]: who uses which bytes in which order.

use super::report::Cause;
use cumem_driver::AccessMode;
use cumem_driver::Location;
use std::ops::Range;

/// Who uses memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Processor {
    /// The host.
    Host,
    /// The device.
    Device,
}

/// One step of a pattern: all bytes of a range, in ascending order.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Step {
    /// Memory is used.
    Used {
        /// Which, by its number in the pattern.
        memory: usize,
        /// Its bytes.
        range: Range<usize>,
        /// By whom.
        by: Processor,
        /// How.
        mode: AccessMode,
    },
    /// Memory is prefetched.
    Prefetched {
        /// Which, by its number in the pattern.
        memory: usize,
        /// Its bytes.
        range: Range<usize>,
        /// To whom.
        to: Processor,
    },
}

impl Step {
    /// The steps that something that was asked stands for.
    pub(super) fn of(cause: Cause, to: Location, memory: usize, range: Range<usize>) -> Option<Self> {
        let place = if let Location::Device(_) = to { Processor::Device } else { Processor::Host };
        let used = |by, mode| Some(Self::Used { memory, range: range.clone(), by, mode });
        match cause {
            Cause::Prefetched => Some(Self::Prefetched { memory, range, to: place }),
            Cause::HostRead => used(Processor::Host, AccessMode::Read),
            Cause::HostWrite => used(Processor::Host, AccessMode::Write),
            // The device's engines do the copying; what declared uses do is not known, and a write is the worse.
            Cause::Upload | Cause::KernelWrite | Cause::DeviceUse => used(Processor::Device, AccessMode::Write),
            Cause::Download | Cause::KernelRead => used(Processor::Device, AccessMode::Read),
        }
    }

    /// Returns the number of the memory that the step uses.
    pub fn memory(&self) -> usize {
        match self {
            Self::Used { memory, .. } | Self::Prefetched { memory, .. } => *memory,
        }
    }

    /// Returns the bytes that the step uses.
    pub fn range(&self) -> &Range<usize> {
        match self {
            Self::Used { range, .. } | Self::Prefetched { range, .. } => range,
        }
    }
}

/// Memory of a pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Memory {
    /// What it is called.
    pub name: String,
    /// Bytes.
    pub bytes: usize,
}

/// Who uses which bytes of which memory, in order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AccessPattern {
    memories: Vec<Memory>,
    steps: Vec<Step>,
}

impl AccessPattern {
    /// One without memory or steps.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds memory, and answers its number.
    pub fn memory(&mut self, name: impl Into<String>, bytes: usize) -> usize {
        self.memories.push(Memory { name: name.into(), bytes });
        self.memories.len() - 1
    }

    /// Adds a step.
    ///
    /// # Panics
    ///
    /// If there is no such memory, or it has no such bytes.
    pub fn push(&mut self, step: Step) {
        let (bytes, range) = (self.memories[step.memory()].bytes, step.range());
        assert!(range.start <= range.end && range.end <= bytes, "{range:?} is not within the memory's {bytes} bytes");
        self.steps.push(step);
    }

    /// Adds a use of memory.
    ///
    /// # Panics
    ///
    /// As [`push`](Self::push).
    pub fn used(&mut self, memory: usize, range: Range<usize>, by: Processor, mode: AccessMode) {
        self.push(Step::Used { memory, range, by, mode });
    }

    /// Its memory.
    pub fn memories(&self) -> &[Memory] {
        &self.memories
    }

    /// Its steps.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }
}
