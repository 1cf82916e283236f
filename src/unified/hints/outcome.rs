//! [`HintOutcome`]: what became of a hint.

use cumem_driver::DeviceId;
use std::fmt;

/// What became of a hint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "a hint may have been skipped"]
pub enum HintOutcome {
    /// The driver accepted it.
    Applied,
    /// It was not passed to the driver.
    Skipped(SkipReason),
}

impl HintOutcome {
    /// Reports whether the hint was carried out.
    pub fn is_applied(self) -> bool {
        self == Self::Applied
    }
}

/// Why a hint was not passed to the driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SkipReason {
    /// The range has no bytes.
    EmptyRange,
    /// A device in question has no concurrent managed access, where the driver rejects hints.
    NoConcurrentManagedAccess(DeviceId),
    /// All pages are there already, by what this library knows.
    AlreadyThere,
    /// The range would have taken a plan past its budget.
    OverBudget {
        /// Bytes that it would have added.
        bytes: usize,
        /// Bytes that were left.
        left: usize,
    },
}

impl fmt::Display for SkipReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EmptyRange => f.write_str("the range is empty"),
            Self::NoConcurrentManagedAccess(id) => write!(f, "{id} has no concurrent managed access"),
            Self::AlreadyThere => f.write_str("the pages are there already"),
            Self::OverBudget { bytes, left } => write!(f, "{bytes} bytes more, {left} are left of the budget"),
        }
    }
}
