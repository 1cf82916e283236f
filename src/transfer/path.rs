//! Which path is best: by size, direction, and whose memory the host's end is.
//!
//! The limits are from `cargo bench --bench paths` on an H100 (PCIe 5, driver 580.159): `benches/paths-h100.csv`. What
//! stands behind them: the driver copies to and from unified memory with a kernel over the link and not with
//! a copy engine, whether the pages are there or not. That costs 4 us a call and 5 to 9 % of the bandwidth
//! (`cargo bench --bench transfer`; `benches/README.md`).
#![forbid(unsafe_code)]

use super::request::{Direction, Transfer, TransferPath};

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
    Gather,
    Stage,
    Ring,
}

/// Bytes of one slot of the device memory that copies are staged in.
pub(super) const STAGING_SLOT: usize = 8 << 20;
/// Up to here what is not page-locked goes through memory that is.
pub(super) const SLOT_BYTES: usize = 8 << 10;
/// Up to here so does everything: asking whether the caller's memory is page-locked takes longer.
/// What the host has just written takes the device longer to read.
const UNASKED_TO_DEVICE: usize = 2 << 10;
const UNASKED_TO_HOST: usize = SLOT_BYTES;
/// Up to here a kernel that moves the bytes over the link beats the way through device memory.
const TELL_TO_DEVICE: usize = 256 << 10;
const TELL_TO_HOST: usize = 8 << 20;
/// Up to here one kernel that waits for a copy engine beats many copies.
const GATHER: usize = STAGING_SLOT;
/// From here on the ring beats the driver's own staging, in spite of the threads that it wakes.
const RING_TO_DEVICE: usize = 2 << 20;
const RING_TO_HOST: usize = 1 << 20;
/// What the kernel moves at a time, and so the alignment of both ends.
const WORD: usize = 16;

/// Asks for the `caller` only where the answer matters.
pub(super) fn plan(transfer: Transfer, caller: impl FnOnce() -> Caller) -> Plan {
    match transfer.by {
        None => best(transfer, caller),
        Some(path) => named(path, transfer, caller()),
    }
}

/// By the path that somebody has asked for, where this transfer can take it.
fn named(path: TransferPath, transfer: Transfer, caller: Caller) -> Plan {
    let aligned = transfer.aligned();
    match (path, caller) {
        (TransferPath::Kernel, _) if transfer.bytes <= SLOT_BYTES && transfer.device.addr().is_multiple_of(WORD) => {
            Plan::TellThroughSlot
        }
        (TransferPath::Kernel, Caller::Pinned) if aligned => Plan::Tell,
        (TransferPath::Staged, Caller::Pinned) if transfer.unified => staged(transfer, aligned),
        (TransferPath::Ring, Caller::Pinned | Caller::Pageable) => Plan::Ring,
        _ => Plan::Copy,
    }
}

/// Through device memory, for page-locked memory.
fn staged(transfer: Transfer, aligned: bool) -> Plan {
    let gathers = transfer.direction == Direction::ToDevice && transfer.bytes <= GATHER && aligned;
    if gathers { Plan::Gather } else { Plan::Stage }
}

impl Transfer {
    fn aligned(&self) -> bool {
        (self.host.addr() | self.device.addr()).is_multiple_of(WORD)
    }
}

fn best(transfer: Transfer, caller: impl FnOnce() -> Caller) -> Plan {
    let Transfer { device, bytes, direction, unified, .. } = transfer;
    let (unasked, tell_to, ring_from) = match direction {
        Direction::ToDevice => (UNASKED_TO_DEVICE, TELL_TO_DEVICE, RING_TO_DEVICE),
        Direction::ToHost => (UNASKED_TO_HOST, TELL_TO_HOST, RING_TO_HOST),
    };
    let through_slot = unified && bytes <= SLOT_BYTES && device.addr().is_multiple_of(WORD);
    if through_slot && bytes <= unasked {
        return Plan::TellThroughSlot;
    }
    if !unified && bytes < ring_from {
        return Plan::Copy;
    }
    match caller() {
        Caller::Pageable if bytes >= ring_from => Plan::Ring,
        Caller::Pinned if unified => {
            let aligned = transfer.aligned();
            match bytes <= tell_to {
                true if aligned => Plan::Tell,
                true if through_slot => Plan::TellThroughSlot,
                true => Plan::Copy,
                false => staged(transfer, aligned),
            }
        }
        _ if through_slot => Plan::TellThroughSlot,
        Caller::Pinned | Caller::Pageable | Caller::Other => Plan::Copy,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ptr;

    fn at(bytes: usize, unified: bool, direction: Direction, caller: Caller) -> Plan {
        let end = ptr::without_provenance_mut(4096);
        plan(Transfer { host: end, device: end, bytes, direction, unified, by: None }, || caller)
    }

    #[test]
    fn the_path_follows_size_and_memory() {
        use Caller::*;
        use Direction::*;
        for (bytes, up, down, pageable) in [
            (1, Plan::TellThroughSlot, Plan::TellThroughSlot, Plan::TellThroughSlot),
            (64 << 10, Plan::Tell, Plan::Tell, Plan::Copy),
            (1 << 20, Plan::Gather, Plan::Tell, Plan::Ring),
            (8 << 20, Plan::Gather, Plan::Tell, Plan::Ring),
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
        let transfer = Transfer { host, device, bytes: 1 << 20, direction: Direction::ToHost, unified: true, by: None };
        assert_eq!(plan(transfer, || Caller::Pinned), Plan::Copy);
    }
    /// What `cargo bench --bench paths` printed on the GPU that the limits are from.
    const MEASURED: &str = include_str!("../../benches/paths-h100.csv");

    #[test]
    fn what_is_chosen_is_near_the_best_that_was_measured() {
        let mut rows: Vec<Vec<&str>> = MEASURED.lines().skip(2).map(|line| line.split(',').collect()).collect();
        rows.retain(|row| row[3] != "explicit");
        let micros = |row: &[&str]| row[4].parse::<f64>().unwrap();
        let groups: Vec<&[Vec<&str>]> = rows.chunk_by(|one, other| one[..3] == other[..3]).collect();
        assert!(groups.len() >= 4 * 10);
        for group in groups {
            let direction = if group[0][0] == "up" { Direction::ToDevice } else { Direction::ToHost };
            let caller = if group[0][1] == "pageable" { Caller::Pageable } else { Caller::Pinned };
            let chosen = match at(group[0][2].parse().unwrap(), true, direction, caller) {
                Plan::Copy => TransferPath::Copy,
                Plan::TellThroughSlot | Plan::Tell => TransferPath::Kernel,
                Plan::Gather | Plan::Stage => TransferPath::Staged,
                Plan::Ring => TransferPath::Ring,
            };
            let chosen = group.iter().find(|row| row[3] == chosen.to_string()).expect("a path that was measured");
            let best = group.iter().map(|row| micros(row)).fold(f64::INFINITY, f64::min);
            assert!(micros(chosen) <= 1.1 * best, "{chosen:?}: {best} us is possible");
        }
    }
}
