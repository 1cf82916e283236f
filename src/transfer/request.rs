//! [`Transfer`]: one transfer between the host and device-accessible memory, and the words for it.

use std::fmt;

/// The way that a transfer took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TransferPath {
    /// There was nothing to move.
    Nothing,
    /// One copy call of the driver.
    Copy,
    /// A kernel over the link that says when it is done.
    Kernel,
    /// A copy engine between page-locked and plain device memory, and a copy within the device, overlapped.
    Staged,
    /// Through page-locked memory of this library, host copies and link overlapped.
    Ring,
    /// A copy of the host's: the pages were there.
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

/// Which way the bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    ToDevice,
    ToHost,
}

/// Two ends of a copy, for another thread.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ends {
    pub(crate) to: *mut u8,
    pub(crate) from: *const u8,
    pub(crate) bytes: usize,
}

// SAFETY: addresses; who copies vouches for what is there.
unsafe impl Send for Ends {}
// SAFETY: as above.
unsafe impl Sync for Ends {}

/// One transfer between the host and device-accessible memory.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Transfer {
    /// The host's end.
    pub(crate) host: *mut u8,
    /// The device's end.
    pub(crate) device: *mut u8,
    /// Not zero.
    pub(crate) bytes: usize,
    pub(crate) direction: Direction,
    /// The device's end is unified memory, to which the driver copies otherwise than to device memory.
    pub(crate) unified: bool,
    /// The path that somebody has asked for.
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
