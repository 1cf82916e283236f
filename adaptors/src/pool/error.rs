//! Errors of a pool as a whole.

use crate::size::Size;
use cumem::error::ErrorReport;
use cumem::error::{DeallocReason, DropError};
use cumem::unified::SkipReason;
use cumem::{AllocError, DeviceError, DriverError};
use std::fmt;

/// Why a pool could not be created, or could not prefetch its memory.
///
/// # Examples
///
/// ```
/// use cumem::sim::Profile;
/// use cumem::{CudaResource, Device};
/// use cumem_adaptors::{PoolError, PoolOptions, ResourceExt};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let device = Device::simulated(Profile::default())?;
/// let refused = CudaResource::new(&device).pool(PoolOptions::new().divisions(6));
/// assert_eq!(refused.unwrap_err(), PoolError::Divisions { divisions: 6 });
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PoolError {
    /// The initial size is larger than the maximum.
    #[error("the pool's initial size, {initial} bytes, is above its maximum, {maximum}")]
    InitialAboveMaximum {
        /// The initial size, in bytes.
        initial: usize,
        /// The maximum, in bytes.
        maximum: usize,
    },
    /// The number of divisions is not a power of two, so powers of two cannot be divided evenly into that many sizes.
    #[error("a pool rounds to a power of two of divisions, not to {divisions}")]
    Divisions {
        /// The number of divisions.
        divisions: u32,
    },
    /// The slack is a share of the device's free memory. A slack can be bytes, or a share of the live bytes.
    #[error("a pool's slack is bytes or a share of its live bytes, not `{slack}`")]
    Slack {
        /// The slack of the options.
        slack: Size,
    },
    /// The upstream refused the initial chunk.
    #[error("the pool's initial chunk could not be allocated")]
    Initial(#[source] AllocError),
    /// The device cannot prefetch the pool's memory.
    #[error("the pool's chunks cannot be prefetched: {0}")]
    NoPrefetch(SkipReason),
    /// A [`Scrub`](crate::Scrub) is beneath, and would not clear the blocks that the pool hands out again.
    #[error("`pool` over `scrub` would hand out memory that is not cleared: `scrub` stands over the pool")]
    OverScrub,
    /// The driver returned an error.
    #[error(transparent)]
    Device(#[from] DeviceError),
}

impl From<DriverError> for PoolError {
    fn from(error: DriverError) -> Self {
        Self::Device(error.into())
    }
}

/// The chunks that a pool could not free when it was dropped.
pub(super) struct Unreturned {
    pub(super) blocks: usize,
    pub(super) bytes: usize,
    pub(super) refused: Option<DeallocReason>,
}

impl fmt::Display for Unreturned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes of chunks stay allocated, with {} live blocks", self.bytes, self.blocks)?;
        self.refused.as_ref().map_or(Ok(()), |reason| write!(f, "; {}", ErrorReport::of(reason)))
    }
}

impl DropError for Unreturned {
    fn is_driver_shut_down(&self) -> bool {
        matches!(&self.refused, Some(DeallocReason::Device(error)) if error.is_driver_shut_down())
    }
}
