//! What can be put on a memory resource.

mod ext;
pub mod limiter;
mod lock;
pub mod pool;
pub mod prefetch;
mod size;
pub mod spec;
pub mod statistics;

#[doc(no_inline)]
pub use cumem;
pub use ext::ResourceExt;
pub use limiter::{Limit, Limiter};
pub use pool::{Crossing, Pool, PoolError, PoolOptions, PoolSnapshot, PoolState, PoolStats};
pub use prefetch::{Prefetch, Prefetched};
pub use size::{Size, SizeError};
pub use spec::{AnyStack, SpecError, StackSpec};
pub use statistics::{Counters, Counts, Scope, Statistics};
