//! Durations: the profile's figures applied to the effects of operations. All times are integer nanoseconds.
#![forbid(unsafe_code)]

use super::profile::{Figure, Profile};
use super::uvm::{BLOCK, MigrationWork};

/// Returns a figure in whole nanoseconds.
pub(super) fn ns(figure: Figure) -> u64 {
    figure.value as u64
}

/// Returns how long `bytes` take at a bandwidth.
pub(super) fn transfer(bytes: u64, bandwidth: Figure) -> u64 {
    let rate = (bandwidth.value as u64).max(1);
    match bytes.checked_mul(1_000_000_000) {
        // A 128-bit division takes longer than the rest of a small operation.
        Some(scaled) => scaled / rate,
        None => (u128::from(bytes) * 1_000_000_000 / u128::from(rate)) as u64,
    }
}

/// Returns how long `bytes` take at a time per MiB.
pub(super) fn per_mib(bytes: u64, figure: Figure) -> u64 {
    ((u128::from(bytes) * u128::from(ns(figure))) >> 20) as u64
}

impl Profile {
    /// Returns the time of copies, population and evictions, without the faults that caused them.
    fn movement(&self, work: &MigrationWork) -> u64 {
        transfer(work.to_device.bytes, self.link_to_device)
            + transfer(work.to_host.bytes, self.link_to_host)
            + transfer(work.peer.bytes, self.link_peer)
            + transfer(work.populated, self.device_memory)
            + work.evictions * ns(self.eviction)
    }

    /// Returns the time to serve batches of faults: a fixed part for each batch, blocks, pages, copies,
    /// and waits for thrashing pages.
    fn service(&self, work: &MigrationWork, fault: Figure) -> u64 {
        work.batches * ns(fault)
            + work.new_blocks * ns(self.fault_new_block)
            + work.further_blocks * ns(self.fault_further_block)
            + work.throttles * ns(self.thrashing_nap)
            + (work.faults + work.duplicates) * ns(self.fault_entry)
            + work.pages * ns(self.fault_page)
            + work.copies() * ns(self.fault_copy)
            + self.movement(work)
    }

    /// Returns the time of a device's faults, and of its accesses over the link.
    pub(super) fn device_faults(&self, work: &MigrationWork) -> u64 {
        let wakeup = if work.batches > 0 { ns(self.fault_wakeup) } else { 0 };
        let whole = work.whole_blocks * ns(self.fault_whole_block);
        wakeup + whole + self.service(work, self.device_fault) + transfer(work.remote, self.link_to_device)
    }

    /// Returns the time of the host's faults, and of its accesses over the link.
    pub(super) fn host_faults(&self, work: &MigrationWork) -> u64 {
        self.service(work, self.host_fault) + transfer(work.remote, self.link_to_host)
    }

    /// Returns the time of a prefetch on the device.
    pub(super) fn prefetch_transfer(&self, work: &MigrationWork) -> u64 {
        let moved = work.to_device.bytes + work.to_host.bytes + work.peer.bytes;
        self.movement(work) + moved.div_ceil(BLOCK) * ns(self.prefetch_copy_block)
    }

    /// Returns how long a prefetch call blocks the host: first until the first copy can start, then for the rest.
    /// `copied` and `fresh` are the bytes that it copies and those that it only populates.
    pub(super) fn prefetch_call(&self, blocks: u64, copied: u64, fresh: u64, to_host: bool) -> (u64, u64) {
        if copied + fresh == 0 {
            return (ns(self.prefetch_resident), blocks * ns(self.prefetch_resident_block));
        }
        let rest = fresh / BLOCK * ns(self.prefetch_fresh_block);
        if copied == 0 {
            return (ns(self.prefetch_fresh), rest);
        }
        let rate = if to_host { self.prefetch_to_host_per_mib } else { self.prefetch_to_device_per_mib };
        let first = ns(self.prefetch_call) + ns(self.prefetch_block) + per_mib(copied.min(BLOCK), rate);
        (first, rest + (blocks - 1) * ns(self.prefetch_block) + per_mib(copied.saturating_sub(BLOCK), rate))
    }

    /// Returns the time of a kernel without its faults.
    pub(super) fn kernel(&self, operations: u64, bytes: u64) -> u64 {
        ns(self.kernel_latency) + transfer(operations, self.operations).max(transfer(bytes, self.device_memory))
    }

    /// Returns the bytes of device memory that a plain allocation occupies.
    pub(super) fn counted(&self, bytes: u64) -> Option<u64> {
        let large = bytes >= self.large_allocation.value as u64;
        let granule = if large { self.large_granule } else { self.small_granule };
        bytes.checked_next_multiple_of(granule.value as u64)
    }
}
