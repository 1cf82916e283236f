//! [`HintOutcome`]: whether a hint was applied or skipped.

use cumem_driver::{DeviceId, MemoryType};
use std::fmt;

/// The outcome of a hint: applied, or skipped with the reason.
///
/// # Examples
///
/// ```
/// # use cumem::sim::Profile;
/// # use cumem::{Device, ManagedResource, Stream, UnifiedBuffer};
/// # let device = Device::simulated(Profile::default())?;
/// # let stream = Stream::new(&device)?;
/// use cumem::unified::{HintOutcome, SkipReason};
///
/// let buffer = UnifiedBuffer::<u8, _>::zeroed(1 << 20, &stream, ManagedResource::new(&device)?)?;
/// assert_eq!(buffer.prefetch(device.id())?, HintOutcome::Applied);
/// let empty = buffer.prefetch_range(0..0, device.id())?;
/// assert_eq!(empty, HintOutcome::Skipped(SkipReason::EmptyRange));
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "a hint may have been skipped"]
pub enum HintOutcome {
    /// The driver accepted the hint.
    Applied,
    /// The hint has no effect on this memory. It was not passed to the driver, or the driver rejected it.
    Skipped(SkipReason),
}

impl HintOutcome {
    /// Reports whether the driver accepted the hint.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem::unified::{HintOutcome, SkipReason};
    ///
    /// assert!(HintOutcome::Applied.is_applied());
    /// assert!(!HintOutcome::Skipped(SkipReason::EmptyRange).is_applied());
    /// ```
    pub fn is_applied(self) -> bool {
        self == Self::Applied
    }
}

/// Writes `applied`, or `skipped: ` and the reason.
impl fmt::Display for HintOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Applied => f.write_str("applied"),
            Self::Skipped(reason) => write!(f, "skipped: {reason}"),
        }
    }
}

/// The reason why a hint had no effect.
///
/// # Examples
///
/// ```
/// use cumem::unified::SkipReason;
///
/// assert_eq!(SkipReason::EmptyRange.to_string(), "the range is empty");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SkipReason {
    /// The range has no bytes.
    EmptyRange,
    /// This device, the stream's or the target, has no concurrent managed access. The driver rejects hints there.
    NoConcurrentManagedAccess(DeviceId),
    /// All pages are at the location already, according to this library's record.
    AlreadyThere,
    /// The memory is of this type, whose pages do not migrate.
    DoesNotMigrate(MemoryType),
    /// The range does not fit the rest of the plan's [budget](crate::unified::PrefetchPlan::budget).
    OverBudget {
        /// Bytes that the range would have added.
        bytes: usize,
        /// Bytes that were left of the budget.
        left: usize,
    },
}

impl fmt::Display for SkipReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EmptyRange => f.write_str("the range is empty"),
            Self::NoConcurrentManagedAccess(id) => write!(f, "{id} has no concurrent managed access"),
            Self::DoesNotMigrate(memory) => write!(f, "{memory} memory does not migrate"),
            Self::AlreadyThere => f.write_str("the pages are at the location already"),
            Self::OverBudget { bytes, left } => write!(f, "{bytes} bytes more, {left} are left of the budget"),
        }
    }
}
