//! [`DeviceStatistics`]: what a device has done since it was made.
#![forbid(unsafe_code)]

use super::machine::State;
use super::uvm::{Processor, Work};

/// What happened on a device, in bytes and occurrences. Residency counts whole 4 KiB pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct DeviceStatistics {
    /// Page faults of the device that were served.
    pub faults: u64,
    /// Page faults of the host, in unified memory that was allocated on the device.
    pub host_faults: u64,
    /// Bytes of pages that migrated, or were copied, from the host to the device.
    pub migrated_to_device: u64,
    /// Bytes of pages that migrated, or were copied, from the device to the host; evictions included.
    pub migrated_to_host: u64,
    /// Bytes of pages that came from another device.
    pub migrated_from_peers: u64,
    /// Bytes of pages that had been nowhere before.
    pub populated: u64,
    /// 2 MiB chunks of the device that were taken from unified memory for something else.
    pub evictions: u64,
    /// Bytes of them that had to be copied to the host.
    pub evicted: u64,
    /// Bytes of read-mostly copies that writes ended.
    pub collapsed: u64,
    /// Bytes that kernels used over the link, in place.
    pub accessed_remotely: u64,
    /// Bytes that copies moved from host memory to the device.
    pub copied_to_device: u64,
    /// Bytes that copies moved from the device to host memory.
    pub copied_to_host: u64,
    /// Bytes that copies moved within the device or between devices.
    pub copied_between: u64,
    /// Bytes that fills wrote.
    pub filled: u64,
    /// Kernels that ran.
    pub kernels: u64,
    /// Prefetches that were carried out.
    pub prefetches: u64,
}

impl State {
    /// Adds what work of `by`, for or on device `d`, did.
    pub(super) fn account(&mut self, d: u32, by: Processor, work: &Work) {
        let statistics = &mut self.devices[d as usize].statistics;
        match by {
            Processor::HOST => statistics.host_faults += work.faults,
            _ => statistics.faults += work.faults,
        }
        statistics.migrated_to_device += work.to_device.bytes;
        statistics.migrated_to_host += work.to_host.bytes;
        statistics.migrated_from_peers += work.peer.bytes;
        statistics.populated += work.populated;
        statistics.evictions += work.evictions;
        statistics.evicted += work.evicted;
        statistics.collapsed += work.collapsed;
        statistics.accessed_remotely += work.remote;
        for value in [work.faults, work.to_device.bytes, work.to_host.bytes, work.populated, work.evictions] {
            self.journal.mix(value);
        }
    }
}
