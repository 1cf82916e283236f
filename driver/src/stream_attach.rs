//! [`StreamAttach`]: the processors that may access a range of managed memory.
#![forbid(unsafe_code)]

/// The processors that may access managed memory (`CUmemAttach_flags`). On a device without concurrent managed access the
/// attachment decides whether the host may access the memory while the device works.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StreamAttach {
    /// Any stream on any device.
    Global,
    /// The host only: no device may access the memory.
    Host,
    /// The one stream of the call. The host may access the memory while that stream has no work.
    Single,
}
