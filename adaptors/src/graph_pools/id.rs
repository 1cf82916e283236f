//! [`GraphPoolId`]: the name of a private pool.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The name of a private pool of a [`GraphPools`](super::GraphPools): two numbers, as in PyTorch's `MempoolId_t`.
///
/// # Examples
///
/// ```
/// use cumem_adaptors::graph_pools::GraphPoolId;
///
/// assert_ne!(GraphPoolId::unique(), GraphPoolId::unique());
/// let of_another_library = GraphPoolId(0, 1);
/// assert_eq!(of_another_library, GraphPoolId(0, 1));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct GraphPoolId(pub u64, pub u64);

impl GraphPoolId {
    /// Returns an id that this function returns only once in a process. PyTorch's ids have a 0 in one of the numbers, and
    /// these have not.
    pub fn unique() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self(u64::MAX, NEXT.fetch_add(1, Relaxed))
    }
}
