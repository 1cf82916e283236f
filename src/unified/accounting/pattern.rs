//! [`AccessPattern`]: a sequence of accesses to memory.

use super::report::Cause;
use cumem_driver::{AccessMode, Location};
use std::ops::Range;

/// The processor that accesses memory.
///
/// # Examples
///
/// ```
/// use cumem::kernel::AccessMode;
/// use cumem::unified::accounting::{AccessPattern, Processor};
///
/// let mut pattern = AccessPattern::new();
/// let weights = pattern.memory("weights", 1 << 20);
/// pattern.used(weights, 0..1 << 20, Processor::Device, AccessMode::Read);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Processor {
    /// The host.
    Host,
    /// The device.
    Device,
}

/// One step of a pattern: an access to, or a prefetch of, all bytes of a range in ascending order.
///
/// # Examples
///
/// ```
/// use cumem::unified::accounting::{Processor, Step};
///
/// let step = Step::Prefetched { memory: 0, range: 0..4096, to: Processor::Device };
/// assert_eq!((step.memory(), step.range().len()), (0, 4096));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Step {
    /// A processor accesses memory.
    Used {
        /// The index of the memory in the pattern.
        memory: usize,
        /// The bytes that are accessed.
        range: Range<usize>,
        /// The processor.
        by: Processor,
        /// Whether the processor reads or writes.
        mode: AccessMode,
    },
    /// Memory is prefetched.
    Prefetched {
        /// The index of the memory in the pattern.
        memory: usize,
        /// The bytes that are prefetched.
        range: Range<usize>,
        /// The processor that they are prefetched to.
        to: Processor,
    },
}

impl Step {
    /// Returns the step for a request.
    pub(super) fn of(cause: Cause, to: Location, memory: usize, range: Range<usize>) -> Option<Self> {
        let place = if let Location::Device(_) = to { Processor::Device } else { Processor::Host };
        let used = |by, mode| Some(Self::Used { memory, range: range.clone(), by, mode });
        match cause {
            Cause::Prefetched => Some(Self::Prefetched { memory, range, to: place }),
            Cause::HostRead => used(Processor::Host, AccessMode::Read),
            Cause::HostWrite => used(Processor::Host, AccessMode::Write),
            // The device's copy engines access the memory. A declared use may read or write, so it counts as a write,
            // the more expensive of the two.
            Cause::Upload | Cause::KernelWrite | Cause::DeviceUse => used(Processor::Device, AccessMode::Write),
            Cause::Download | Cause::KernelRead => used(Processor::Device, AccessMode::Read),
        }
    }

    /// Returns the index of the memory that the step uses.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem::unified::accounting::{Processor, Step};
    ///
    /// let step = Step::Prefetched { memory: 3, range: 0..4096, to: Processor::Host };
    /// assert_eq!(step.memory(), 3);
    /// ```
    pub fn memory(&self) -> usize {
        match self {
            Self::Used { memory, .. } | Self::Prefetched { memory, .. } => *memory,
        }
    }

    /// Returns the bytes that the step uses.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem::unified::accounting::{Processor, Step};
    ///
    /// let step = Step::Prefetched { memory: 3, range: 0..4096, to: Processor::Host };
    /// assert_eq!(*step.range(), 0..4096);
    /// ```
    pub fn range(&self) -> &Range<usize> {
        match self {
            Self::Used { range, .. } | Self::Prefetched { range, .. } => range,
        }
    }
}

/// The name and the size of memory in a pattern.
///
/// # Examples
///
/// ```
/// use cumem::unified::accounting::{AccessPattern, Memory};
///
/// let mut pattern = AccessPattern::new();
/// pattern.memory("weights", 1 << 20);
/// assert_eq!(pattern.memories(), [Memory { name: "weights".into(), bytes: 1 << 20 }]);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Memory {
    /// The name.
    pub name: String,
    /// The size, in bytes.
    pub bytes: usize,
}

/// A sequence of accesses to named memory by the host and by a device.
///
/// # Examples
///
/// ```
/// use cumem::kernel::AccessMode;
/// use cumem::unified::accounting::{AccessPattern, Processor};
///
/// let mut pattern = AccessPattern::new();
/// let weights = pattern.memory("weights", 1 << 20);
/// pattern.used(weights, 0..1 << 20, Processor::Host, AccessMode::Write);
/// pattern.used(weights, 0..1 << 20, Processor::Device, AccessMode::Read);
/// assert_eq!(pattern.steps().len(), 2);
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AccessPattern {
    memories: Vec<Memory>,
    steps: Vec<Step>,
}

impl AccessPattern {
    /// Creates a pattern without memory and steps.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem::unified::accounting::AccessPattern;
    ///
    /// assert!(AccessPattern::new().steps().is_empty());
    /// ```
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds memory, and returns its index.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem::unified::accounting::AccessPattern;
    ///
    /// let mut pattern = AccessPattern::new();
    /// assert_eq!(pattern.memory("weights", 1 << 20), 0);
    /// assert_eq!(pattern.memory("results", 4096), 1);
    /// ```
    pub fn memory(&mut self, name: impl Into<String>, bytes: usize) -> usize {
        self.memories.push(Memory { name: name.into(), bytes });
        self.memories.len() - 1
    }

    /// Adds a step.
    ///
    /// # Panics
    ///
    /// Panics if the pattern has no memory with this index, or if the range is not within the memory.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem::unified::accounting::{AccessPattern, Processor, Step};
    ///
    /// let mut pattern = AccessPattern::new();
    /// let memory = pattern.memory("weights", 1 << 20);
    /// pattern.push(Step::Prefetched { memory, range: 0..1 << 20, to: Processor::Device });
    /// assert_eq!(pattern.steps().len(), 1);
    /// ```
    pub fn push(&mut self, step: Step) {
        let (bytes, range) = (self.memories[step.memory()].bytes, step.range());
        assert!(range.start <= range.end && range.end <= bytes, "{range:?} is not within the memory's {bytes} bytes");
        self.steps.push(step);
    }

    /// Adds an access to memory.
    ///
    /// # Panics
    ///
    /// Panics under the conditions of [`push`](Self::push).
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem::kernel::AccessMode;
    /// use cumem::unified::accounting::{AccessPattern, Processor};
    ///
    /// let mut pattern = AccessPattern::new();
    /// let weights = pattern.memory("weights", 1 << 20);
    /// pattern.used(weights, 0..4096, Processor::Host, AccessMode::Write);
    /// assert_eq!(*pattern.steps()[0].range(), 0..4096);
    /// ```
    pub fn used(&mut self, memory: usize, range: Range<usize>, by: Processor, mode: AccessMode) {
        self.push(Step::Used { memory, range, by, mode });
    }

    /// Returns the memory of the pattern, in the order of the indices.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem::unified::accounting::AccessPattern;
    ///
    /// let mut pattern = AccessPattern::new();
    /// pattern.memory("weights", 1 << 20);
    /// assert_eq!(pattern.memories()[0].name, "weights");
    /// ```
    pub fn memories(&self) -> &[Memory] {
        &self.memories
    }

    /// Returns the steps, in order.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem::kernel::AccessMode;
    /// use cumem::unified::accounting::{AccessPattern, Processor, Step};
    ///
    /// let mut pattern = AccessPattern::new();
    /// let weights = pattern.memory("weights", 4096);
    /// pattern.used(weights, 0..4096, Processor::Device, AccessMode::Read);
    /// assert!(matches!(pattern.steps(), [Step::Used { by: Processor::Device, .. }]));
    /// ```
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }
}
