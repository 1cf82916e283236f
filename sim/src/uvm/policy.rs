//! [`Policy`]: the advice in force on a range of pages.

use super::ids::Processor;
use cumem_driver::Location;

/// The advice in force on a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Policy {
    pub(super) read_mostly: bool,
    pub(super) preferred: Option<Preferred>,
    pub(super) accessed_by: Processors,
}

impl Policy {
    /// Reports whether no advice is in force.
    pub(super) fn is_empty(&self) -> bool {
        !self.read_mostly && self.preferred.is_none() && self.accessed_by.0 == 0
    }
}

/// A preferred location as the program named it, for example `HostNuma(0)`, and the processor that owns it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Preferred {
    pub(super) location: Location,
    pub(super) processor: Processor,
}

/// A set of processors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Processors(u64);

impl Processors {
    pub(super) fn contains(self, processor: Processor) -> bool {
        self.0 >> processor.index() & 1 != 0
    }

    pub(super) fn with(self, processor: Processor) -> Self {
        Self(self.0 | 1 << processor.index())
    }

    pub(super) fn without(self, processor: Processor) -> Self {
        Self(self.0 & !(1 << processor.index()))
    }

    pub(super) fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}
