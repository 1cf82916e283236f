//! Patterns in the contents of blocks, which are written and verified by the host or on the device.

mod access;
mod device;
mod host;
mod pattern;
mod probe;

pub use access::Contents;
