//! [`GraphPoolError`].

use super::id::GraphPoolId;
use crate::pool::PoolError;
use cumem::DeviceError;

/// Why a capture with a private pool cannot begin or end.
///
/// # Examples
///
/// ```
/// use cumem::sim::Profile;
/// use cumem::{CudaResource, Device};
/// use cumem_adaptors::ResourceExt;
/// use cumem_adaptors::graph_pools::{GraphPoolError, GraphPoolId};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let device = Device::simulated(Profile::default())?;
/// let stack = CudaResource::new(&device).graph_pools();
/// let error = stack.state().end(GraphPoolId(0, 7)).unwrap_err();
/// assert_eq!(error, GraphPoolError::NotOpen { id: GraphPoolId(0, 7) });
/// assert_eq!(error.to_string(), "no capture with the graph pool (0, 7) is underway");
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GraphPoolError {
    /// A capture with this private pool is underway.
    #[error("a capture with the graph pool ({}, {}) is underway already", id.0, id.1)]
    AlreadyOpen {
        /// The pool's name.
        id: GraphPoolId,
    },
    /// No capture with this private pool is underway.
    #[error("no capture with the graph pool ({}, {}) is underway", id.0, id.1)]
    NotOpen {
        /// The pool's name.
        id: GraphPoolId,
    },
    /// The private pool does not exist, or each of its captures was released already.
    #[error("the graph pool ({}, {}) has no capture that was not released", id.0, id.1)]
    NotHeld {
        /// The pool's name.
        id: GraphPoolId,
    },
    /// The private pool could not be created.
    #[error("the private pool could not be created")]
    Pool(#[from] PoolError),
    /// The capture could not begin or end.
    #[error(transparent)]
    Device(#[from] DeviceError),
}
