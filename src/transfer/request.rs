//! [`Transfer`]: one transfer between the host and device-accessible memory, and the types that describe it.

use std::fmt;

/// The path of a transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TransferPath {
    /// No copy, because there were no bytes to move.
    Nothing,
    /// One copy call of the driver.
    Copy,
    /// A kernel that copies over the link, and writes a word to pinned memory when it is done.
    Kernel,
    /// A copy engine between pinned and plain device memory, overlapped with a copy within the device.
    Staged,
    /// Through pinned memory of this library, with host copies and copies over the link overlapped.
    Ring,
    /// A copy by the host, because the pages were on the host.
    HostPages,
}

impl fmt::Display for TransferPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Nothing => "nothing",
            Self::Copy => "copy",
            Self::Kernel => "kernel",
            Self::Staged => "staged",
            Self::Ring => "ring",
            Self::HostPages => "host pages",
        })
    }
}

/// The direction of a transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    ToDevice,
    ToHost,
}

/// The two ends of a copy, which may be sent to another thread.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ends {
    pub(crate) to: *mut u8,
    pub(crate) from: *const u8,
    pub(crate) bytes: usize,
}

// SAFETY: the pointers are only addresses here; the unsafe call that copies has the contract for their memory.
unsafe impl Send for Ends {}
// SAFETY: a shared reference gives only the same addresses.
unsafe impl Sync for Ends {}

/// One transfer between the host and device-accessible memory.
///
/// # Contract
///
/// Functions that run a transfer on a stream return when the transfer is complete, or when it has failed and neither
/// end is in use any more. Their callers must ensure until then:
///
/// - `host` and `device` are valid for `bytes` bytes, and the end that is written is valid for writes.
/// - Nothing uses the host's end in a conflicting way.
/// - Nothing uses the device's end in a conflicting way, except work that was enqueued on the stream before the call.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Transfer {
    /// The host's end.
    pub(crate) host: *mut u8,
    /// The device's end.
    pub(crate) device: *mut u8,
    /// Bytes to move, not 0.
    pub(crate) bytes: usize,
    pub(crate) direction: Direction,
    /// Whether the device's end is unified (managed) memory. The driver copies such memory in another way than plain
    /// device memory.
    pub(crate) unified: bool,
    /// The path that the caller requested, or `None` for the fastest one.
    pub(crate) by: Option<TransferPath>,
}

impl Transfer {
    pub(super) fn ends(&self) -> Ends {
        let Self { host, device, bytes, direction, .. } = *self;
        match direction {
            Direction::ToDevice => Ends { to: device, from: host, bytes },
            Direction::ToHost => Ends { to: host, from: device, bytes },
        }
    }
}

/// A part of a transfer, with the pinned memory that is the host's end of this part.
#[derive(Debug, Clone, Copy)]
pub(super) struct Part {
    /// Offset of the part in the transfer, in bytes.
    pub(super) start: usize,
    pub(super) bytes: usize,
    pub(super) host: *mut u8,
}
