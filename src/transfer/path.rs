//! The choice of a transfer's path: by size, direction, and the memory at the host's end.
//!
//! The limits are from `cargo bench --bench paths` on an H100 (PCIe 5, driver 580.159): `benches/paths-h100.csv`. They
//! follow from one fact: the driver copies to and from unified memory with a kernel over the link, and not with a copy
//! engine, even if the pages are on the device. That costs 4 us a call and 5 to 9 % of the bandwidth
//! (`cargo bench --bench transfer`; `benches/README.md`).
#![forbid(unsafe_code)]

use super::request::{Direction, Transfer, TransferPath};
use super::sizes::{KERNEL_SLOT, STAGING_SLOT};

/// The memory at the host's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HostMemory {
    Pinned,
    Pageable,
    /// Memory that the driver knows, other than pinned memory.
    Other,
}

/// The path to try. If its memory is not available, the transfer is a [`Copy`](Self::Copy).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Plan {
    /// One copy call of the driver.
    Copy,
    /// A kernel between the device and a pinned slot, and a host copy between that slot and the host's end.
    KernelSlot,
    /// A kernel between the device and the host's end, which is pinned.
    Kernel,
    /// A copy engine to staging memory on the device, and one kernel that waits for it and copies from there.
    KernelGather,
    /// Chunks through staging memory on the device: copy engines over the link, and copies within the device.
    Staged,
    /// Chunks through pinned memory, which threads of the host fill or empty.
    Ring,
}

/// Largest copy that uses the pinned slot without asking the driver whether the host's end is pinned. Such a query
/// takes longer than the detour. To the device the limit is lower, because the device is slower to read what the host
/// has just written.
const UNQUERIED_TO_DEVICE_MAX: usize = 2 << 10;
const UNQUERIED_TO_HOST_MAX: usize = KERNEL_SLOT;
/// Largest copy for which a kernel that moves the bytes over the link is faster than staging on the device.
const KERNEL_TO_DEVICE_MAX: usize = 256 << 10;
const KERNEL_TO_HOST_MAX: usize = 8 << 20;
/// Largest copy for which one kernel that waits for a copy engine is faster than many copies.
const GATHER_MAX: usize = STAGING_SLOT;
/// Smallest copy for which the ring is faster than the driver's own staging, although it has to wake threads.
const RING_TO_DEVICE_MIN: usize = 2 << 20;
const RING_TO_HOST_MIN: usize = 1 << 20;
/// Bytes that the kernel moves at a time, and so the alignment that it needs of both ends.
const WORD: usize = 16;

/// Chooses the path. Calls `host_memory`, which queries the driver, only if the path depends on it.
pub(super) fn plan(transfer: Transfer, host_memory: impl FnOnce() -> HostMemory) -> Plan {
    match transfer.by {
        None => best(transfer, host_memory),
        Some(path) => requested(path, transfer, host_memory()),
    }
}

/// Returns the plan for the path that the caller requested, or `Copy` if this transfer cannot take that path.
fn requested(path: TransferPath, transfer: Transfer, host_memory: HostMemory) -> Plan {
    let aligned = transfer.is_aligned();
    match (path, host_memory) {
        (TransferPath::Kernel, _) if transfer.bytes <= KERNEL_SLOT && transfer.device.addr().is_multiple_of(WORD) => {
            Plan::KernelSlot
        }
        (TransferPath::Kernel, HostMemory::Pinned) if aligned => Plan::Kernel,
        (TransferPath::Staged, HostMemory::Pinned) if transfer.unified => staged(transfer, aligned),
        (TransferPath::Ring, HostMemory::Pinned | HostMemory::Pageable) => Plan::Ring,
        _ => Plan::Copy,
    }
}

/// Returns the plan for pinned memory that is staged on the device.
fn staged(transfer: Transfer, aligned: bool) -> Plan {
    let gathers = transfer.direction == Direction::ToDevice && transfer.bytes <= GATHER_MAX && aligned;
    if gathers { Plan::KernelGather } else { Plan::Staged }
}

impl Transfer {
    fn is_aligned(&self) -> bool {
        (self.host.addr() | self.device.addr()).is_multiple_of(WORD)
    }
}

/// Returns the plan for the fastest path.
fn best(transfer: Transfer, host_memory: impl FnOnce() -> HostMemory) -> Plan {
    let Transfer { device, bytes, direction, unified, .. } = transfer;
    let (unqueried_max, kernel_max, ring_min) = match direction {
        Direction::ToDevice => (UNQUERIED_TO_DEVICE_MAX, KERNEL_TO_DEVICE_MAX, RING_TO_DEVICE_MIN),
        Direction::ToHost => (UNQUERIED_TO_HOST_MAX, KERNEL_TO_HOST_MAX, RING_TO_HOST_MIN),
    };
    let through_slot = unified && bytes <= KERNEL_SLOT && device.addr().is_multiple_of(WORD);
    if through_slot && bytes <= unqueried_max {
        return Plan::KernelSlot;
    }
    if !unified && bytes < ring_min {
        return Plan::Copy;
    }
    match host_memory() {
        HostMemory::Pageable if bytes >= ring_min => Plan::Ring,
        HostMemory::Pinned if unified => {
            let aligned = transfer.is_aligned();
            match bytes <= kernel_max {
                true if aligned => Plan::Kernel,
                true if through_slot => Plan::KernelSlot,
                true => Plan::Copy,
                false => staged(transfer, aligned),
            }
        }
        _ if through_slot => Plan::KernelSlot,
        HostMemory::Pinned | HostMemory::Pageable | HostMemory::Other => Plan::Copy,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ptr;

    fn at(bytes: usize, unified: bool, direction: Direction, host_memory: HostMemory) -> Plan {
        let end = ptr::without_provenance_mut(4096);
        plan(Transfer { host: end, device: end, bytes, direction, unified, by: None }, || host_memory)
    }

    #[test]
    fn the_path_follows_size_and_memory() {
        use Direction::*;
        use HostMemory::*;
        for (bytes, up, down, pageable) in [
            (1, Plan::KernelSlot, Plan::KernelSlot, Plan::KernelSlot),
            (64 << 10, Plan::Kernel, Plan::Kernel, Plan::Copy),
            (1 << 20, Plan::KernelGather, Plan::Kernel, Plan::Ring),
            (8 << 20, Plan::KernelGather, Plan::Kernel, Plan::Ring),
            (32 << 20, Plan::Staged, Plan::Staged, Plan::Ring),
            (1 << 30, Plan::Staged, Plan::Staged, Plan::Ring),
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
        assert_eq!(plan(transfer, || HostMemory::Pinned), Plan::Copy);
    }

    /// The output of `cargo bench --bench paths` on the GPU that the limits are from.
    const MEASURED: &str = include_str!("../../benches/paths-h100.csv");

    #[test]
    fn the_chosen_path_is_near_the_fastest_measured_one() {
        let mut rows: Vec<Vec<&str>> = MEASURED.lines().skip(2).map(|line| line.split(',').collect()).collect();
        rows.retain(|row| row[3] != "explicit");
        let micros = |row: &[&str]| row[4].parse::<f64>().unwrap();
        let groups: Vec<&[Vec<&str>]> = rows.chunk_by(|one, other| one[..3] == other[..3]).collect();
        assert!(groups.len() >= 4 * 10);
        for group in groups {
            let direction = if group[0][0] == "up" { Direction::ToDevice } else { Direction::ToHost };
            let host_memory = if group[0][1] == "pageable" { HostMemory::Pageable } else { HostMemory::Pinned };
            let chosen = match at(group[0][2].parse().unwrap(), true, direction, host_memory) {
                Plan::Copy => TransferPath::Copy,
                Plan::KernelSlot | Plan::Kernel => TransferPath::Kernel,
                Plan::KernelGather | Plan::Staged => TransferPath::Staged,
                Plan::Ring => TransferPath::Ring,
            };
            let chosen = group.iter().find(|row| row[3] == chosen.to_string()).expect("a path that was measured");
            let best = group.iter().map(|row| micros(row)).fold(f64::INFINITY, f64::min);
            assert!(micros(chosen) <= 1.1 * best, "{chosen:?}: {best} us is possible");
        }
    }
}
