//! [`Buffer`]: an owned, typed array on a device and a stream.

mod array;
mod auto;
mod copy;
mod hints;
mod host;
mod resize;
mod transfer;

pub use crate::transfer::TransferPath;
pub use array::{Buffer, UnifiedBuffer};
pub use host::{HostRead, HostWrite};
