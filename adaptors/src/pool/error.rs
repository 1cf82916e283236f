//! What can go wrong with a pool as a whole.

use cumem::{AllocError, DeallocReason, DriverError, DropError, SkipReason};
use std::fmt;

/// A pool that could not be made, or could not give memory back.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PoolError {
    /// More was asked for at construction than the pool may ever have.
    #[error("the pool's initial size, {initial} bytes, is above its maximum, {maximum}")]
    InitialAboveMaximum {
        /// Bytes asked for at construction.
        initial: usize,
        /// The most that the pool may have.
        maximum: usize,
    },
    /// Powers of two cannot be divided evenly into so many sizes.
    #[error("a pool rounds to a power of two of divisions, not to {divisions}")]
    Divisions {
        /// Divisions asked for.
        divisions: u32,
    },
    /// The upstream did not give the initial chunk.
    #[error("the pool's initial chunk could not be allocated: {0}")]
    Initial(#[source] AllocError),
    /// Memory was to be prefetched that the device cannot prefetch.
    #[error("the pool's chunks cannot be prefetched: {0}")]
    NoPrefetch(SkipReason),
    /// The driver refused.
    #[error(transparent)]
    Driver(#[from] DriverError),
}

/// What a pool could not give back when it was dropped.
pub(super) struct Unreturned {
    pub(super) blocks: usize,
    pub(super) bytes: usize,
    pub(super) refused: Option<DeallocReason>,
}

impl fmt::Display for Unreturned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes of chunks stay allocated, with {} live blocks", self.bytes, self.blocks)?;
        self.refused.as_ref().map_or(Ok(()), |reason| write!(f, "; {reason}"))
    }
}

impl DropError for Unreturned {
    fn driver_is_gone(&self) -> bool {
        matches!(&self.refused, Some(DeallocReason::Driver(error)) if error.driver_is_gone())
    }
}
