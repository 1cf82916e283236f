//! Copies between the host and a buffer, each by its fastest path.
//!
//! [`Transfers`] holds the objects that a device keeps for such copies. For each transfer, the type chooses a path by
//! size, direction and memory, and borrows the staging memory that this path needs.
//!
//! | file | contents |
//! |---|---|
//! | `request` | a transfer: its ends, its direction, its path, and the contract of the functions that run it |
//! | `sizes` | sizes of staging memory that several files use |
//! | `path` | the choice of the path, and the measured limits behind it |
//! | `lease` | objects that transfers borrow in turn, a limited number of each |
//! | `copy_threads` | the threads of this process that copy |
//! | `host_copy` | copies by the host, with stores that bypass the caches |
//! | `enqueue` | enqueuing a copy on a stream, and waiting for a stream |
//! | `pipeline` | the order in which threads of the host copy the pieces of a transfer |
//! | `device_staging` | large copies of pinned memory: through plain device memory, which copy engines write |
//! | `host_ring` | copies of pageable memory: through pinned memory, with host copies and link copies overlapped |
//! | `kernel_copy` | small copies of pinned memory: by a kernel that writes a word to pinned memory at its end |
//! | `copy.cu`, `copy.ptx` | that kernel |
//! | `value_slots` | pinned memory for single values that are copied while the host does not wait |
//! | `stagings` | all staging memory of a device, which is freed when a leaf is out of memory |
//! | `transfers` | the objects that a device keeps for transfers, and the run of a transfer |

mod copy_threads;
mod device_staging;
mod enqueue;
mod host_copy;
mod host_ring;
mod kernel_copy;
mod lease;
mod path;
mod pipeline;
mod request;
mod sizes;
mod stagings;
mod transfers;
mod value_slots;

pub use request::TransferPath;

pub(crate) use enqueue::{enqueue_copy, wait_for_stream};
pub(crate) use host_copy::copy as host_copy;
pub(crate) use request::{Direction, Ends, Transfer};
pub(crate) use transfers::Transfers;
pub(crate) use value_slots::{PendingBytes, VALUE_SLOT};
