//! Why a pool did not grow, or did not give a chunk back.
#![forbid(unsafe_code)]

use super::shared::Shared;
use super::state::PoolState;
use cumem::{AllocError, DeallocReason};

/// What became of an attempt to give chunks back.
#[derive(Debug)]
pub(super) struct Released {
    pub(super) bytes: usize,
    /// Why the upstream did not take a chunk, the last time that it did not.
    pub(super) refused: Option<DeallocReason>,
}

/// Why the pool did not grow.
#[derive(Debug)]
pub(super) enum Refusal {
    AtMaximum,
    Upstream(AllocError),
}

impl From<AllocError> for Refusal {
    fn from(error: AllocError) -> Self {
        Self::Upstream(error)
    }
}

impl Refusal {
    /// An error of the upstream that is not want of memory ends the search: it is returned as it is.
    pub(super) fn unless_fatal(self) -> Result<Self, AllocError> {
        match self {
            Self::Upstream(error) if !error.is_out_of_memory() => Err(error),
            other => Ok(other),
        }
    }
}

/// The error of a request that nothing could be found for.
pub(super) fn exhausted(state: &PoolState, shared: &Shared, requested: usize, refused: Refusal) -> AllocError {
    let held = Box::new(state.held(shared));
    let upstream = match refused {
        Refusal::AtMaximum => None,
        Refusal::Upstream(error) => Some(Box::new(error)),
    };
    AllocError::Exhausted { layer: "pool", requested, held, upstream }
}
