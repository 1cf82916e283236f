//! Which path is best: by size, direction, and whose memory the host's end is.
//!
//! The limits are from `cargo bench --bench transfer` on an H100 (PCIe 5, driver 580.159); `benches/README.md` has the
//! figures. What stands behind them: the driver copies to and from unified memory with a kernel over the link and not with
//! a copy engine, whether the pages are there or not. That costs 4 us a call and 5 to 9 % of the bandwidth.
#![forbid(unsafe_code)]

use super::Transfer;
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

/// What the host's end is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Caller {
    Pinned,
    Pageable,
    /// Memory that the driver knows, but not page-locked host memory.
    Other,
}

/// What to try; where it cannot be had, the driver's own copy remains.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Plan {
    Copy,
    TellThroughSlot,
    Tell,
    Stage,
    Ring,
}

/// Up to here copying to page-locked memory first costs less than asking whether the caller's is: the question takes
/// 0.4 us, and 1.6 us if it is not.
pub(super) const SLOT_BYTES: usize = 8 << 10;
/// Up to here a kernel that says when it is done beats the way through device memory.
const TELL_TO_DEVICE: usize = 2 << 20;
const TELL_TO_HOST: usize = 8 << 20;
/// From here on the ring beats the driver's own staging, in spite of the threads that it starts.
const RING_TO_DEVICE: usize = 8 << 20;
const RING_TO_HOST: usize = 32 << 20;
/// What the kernel moves at a time, and so the alignment of both ends.
const WORD: usize = 16;

/// Asks for the `caller` only where the answer matters.
pub(super) fn plan(transfer: Transfer, caller: impl FnOnce() -> Caller) -> Plan {
    let Transfer { host, device, bytes, direction, unified } = transfer;
    if unified && bytes <= SLOT_BYTES && device.addr().is_multiple_of(WORD) {
        return Plan::TellThroughSlot;
    }
    let (tell_to, ring_from) = match direction {
        Direction::ToDevice => (TELL_TO_DEVICE, RING_TO_DEVICE),
        Direction::ToHost => (TELL_TO_HOST, RING_TO_HOST),
    };
    if !unified && bytes < ring_from {
        return Plan::Copy;
    }
    match caller() {
        Caller::Pageable if bytes >= ring_from => Plan::Ring,
        Caller::Pinned if unified => {
            let aligned = (host.addr() | device.addr()).is_multiple_of(WORD);
            match bytes <= tell_to {
                true if aligned => Plan::Tell,
                true => Plan::Copy,
                false => Plan::Stage,
            }
        }
        Caller::Pinned | Caller::Pageable | Caller::Other => Plan::Copy,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ptr;

    fn at(bytes: usize, unified: bool, direction: Direction, caller: Caller) -> Plan {
        let end = ptr::without_provenance_mut(4096);
        plan(Transfer { host: end, device: end, bytes, direction, unified }, || caller)
    }

    #[test]
    fn the_path_follows_size_and_memory() {
        use Caller::*;
        use Direction::*;
        for (bytes, up, down, pageable) in [
            (1, Plan::TellThroughSlot, Plan::TellThroughSlot, Plan::TellThroughSlot),
            (64 << 10, Plan::Tell, Plan::Tell, Plan::Copy),
            (8 << 20, Plan::Stage, Plan::Tell, Plan::Copy),
            (32 << 20, Plan::Stage, Plan::Stage, Plan::Ring),
            (1 << 30, Plan::Stage, Plan::Stage, Plan::Ring),
        ] {
            assert_eq!(at(bytes, true, ToDevice, Pinned), up);
            assert_eq!(at(bytes, true, ToHost, Pinned), down);
            assert_eq!(at(bytes, true, ToHost, Pageable), pageable);
            assert_eq!(at(bytes, false, ToDevice, Pinned), Plan::Copy);
        }
        assert_eq!(at(8 << 20, false, ToDevice, Pageable), Plan::Ring);
        assert_eq!(at(1 << 30, true, ToHost, Other), Plan::Copy);
    }

    #[test]
    fn words_need_their_alignment() {
        let (host, device) = (ptr::without_provenance_mut(4100), ptr::without_provenance_mut(4096));
        let transfer = Transfer { host, device, bytes: 1 << 20, direction: Direction::ToDevice, unified: true };
        assert_eq!(plan(transfer, || Caller::Pinned), Plan::Copy);
    }
}
