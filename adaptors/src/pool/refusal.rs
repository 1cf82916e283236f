//! Why a pool did not grow, or did not free a chunk.
#![forbid(unsafe_code)]

use super::shared::Shared;
use super::state::PoolState;
use cumem::AllocError;
use cumem::error::{DeallocReason, is_reported};

/// The result of freeing chunks.
#[derive(Debug)]
pub(super) struct Released {
    pub(super) bytes: usize,
    /// Why the upstream last refused a chunk, if it refused any.
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
    /// Returns the refusal if the pool is at its maximum or the upstream is out of memory. Any other error of the
    /// upstream ends the search, and is returned as the error.
    pub(super) fn unless_fatal(self) -> Result<Self, AllocError> {
        match self {
            Self::Upstream(error) if !error.is_out_of_memory() => Err(error),
            other => Ok(other),
        }
    }
}

/// Returns the error of a request for which no memory could be found.
pub(super) fn exhausted(state: &PoolState, shared: &Shared, requested: usize, refused: Refusal) -> AllocError {
    let held = Box::new(if is_reported() { state.held(shared) } else { state.held_in_part(shared) });
    let upstream = match refused {
        Refusal::AtMaximum => None,
        Refusal::Upstream(error) => Some(Box::new(error)),
    };
    AllocError::Exhausted { layer: "pool", requested, held, upstream }
}
