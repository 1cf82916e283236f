//! The parsed words of a description.

use crate::{PoolOptions, PressureOptions, ScrubTime, Size};
use std::ops::Range;

/// The layers of a stack that may be an upstream: the leaf and all adaptors but `prefetch`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Layers {
    pub(super) leaf: Word<Leaf>,
    pub(super) adaptors: Vec<Word<Adaptor>>,
}

impl Layers {
    /// Inserts `statistics` over the leaf, and over the leaves of the stacks that this one spills to.
    pub(super) fn count_leaf(&mut self) {
        let span = self.leaf.span.clone();
        self.adaptors.insert(0, Word { span, value: Adaptor::Statistics });
        self.spilled_to().for_each(Self::count_leaf);
    }

    /// Iterates over the stacks that this one spills to.
    pub(super) fn spilled_to(&mut self) -> impl Iterator<Item = &mut Self> {
        self.adaptors.iter_mut().filter_map(|word| match &mut word.value {
            Adaptor::Spill(second) => Some(second),
            _ => None,
        })
    }
}

/// A parsed word, and its range in the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Word<T> {
    pub(super) span: Range<usize>,
    pub(super) value: T,
}

impl Leaf {
    /// Reports whether the pages of the memory migrate.
    pub(super) fn is_managed(self) -> bool {
        matches!(self, Self::Managed | Self::ManagedAsync(_) | Self::System { .. })
    }
}

/// The options of a stream-ordered pool of the driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Pool {
    pub(super) of_device: bool,
    pub(super) threshold: Option<Size>,
    pub(super) initial: Option<Size>,
    pub(super) maximum: Option<Size>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leaf {
    Device,
    Async(Pool),
    Virtual,
    Managed,
    ManagedAsync(Pool),
    Pinned { node: Option<u32>, huge: bool },
    PinnedAsync(Pool),
    System { headroom: Option<Size> },
    Host,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Adaptor {
    Pool(PoolOptions),
    /// The size of the blocks.
    FixedSize {
        size: usize,
        keep: Option<usize>,
    },
    Binning {
        sizes: Vec<usize>,
        keep: Option<usize>,
    },
    Aligned {
        alignment: usize,
        threshold: usize,
    },
    Advise(Advised),
    Scrub {
        pattern: u8,
        time: ScrubTime,
    },
    Limit {
        size: Size,
        name: Option<String>,
        rounding: Option<usize>,
    },
    /// The action is `trim`, because text cannot name a function.
    OnFailure {
        attempts: Option<u32>,
    },
    Statistics,
    /// The file is the environment's if there is no path.
    Log {
        path: Option<String>,
        flush: bool,
    },
    Tracking {
        traces: bool,
    },
    Events,
    GraphPools {
        detect: bool,
    },
    Tagged(String),
    Pressure(PressureOptions),
    Spill(Layers),
    AutoPrefetch {
        budget: Option<Size>,
        uses_ahead: Option<usize>,
        pass_through: bool,
    },
}

/// The options of `advise`. A policy names devices, and the device is known only when the stack is built.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Advised {
    pub(super) read_mostly: bool,
    pub(super) prefer: Option<Target>,
    pub(super) accessed_by: Option<Target>,
    pub(super) threshold: usize,
    pub(super) pass_through: bool,
}

/// The adaptor that must be outermost: `prefetch`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Outermost {
    pub(super) target: Target,
    pub(super) pass_through: bool,
    pub(super) always: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Target {
    Own,
    Host,
    Device(u32),
}
