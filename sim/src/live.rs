//! [`LiveAllocations`]: what is out, and [`LiveCount`]: that, kept up to date, with its peak.
#![forbid(unsafe_code)]

use super::memory::Kind;
use std::fmt;

/// Blocks and bytes, as they were asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Live {
    /// Blocks.
    pub blocks: u64,
    /// Bytes.
    pub bytes: u64,
}

/// What was allocated from the driver and not given back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct LiveAllocations {
    /// `cuMemAlloc`.
    pub device: Live,
    /// `cuMemAllocManaged`.
    pub managed: Live,
    /// `cuMemAllocHost`.
    pub pinned: Live,
    /// `cuMemAllocFromPoolAsync`.
    pub stream_ordered: Live,
    /// `cuMemMap`.
    pub mapped: Live,
    /// `cuMemMap` of memory that is mapped already, by piece: addresses, not memory.
    pub aliased: Live,
    /// `cuMemAddressReserve`: addresses, not memory.
    pub reserved: Live,
    /// Streams that were created and not destroyed.
    pub streams: u64,
    /// Events that were created and not destroyed.
    pub events: u64,
    /// Memory pools of the driver that were created and not destroyed.
    pub pools: u64,
}

impl LiveAllocations {
    /// Whether no memory is out.
    pub fn no_memory(&self) -> bool {
        self.memory().iter().all(|(_, live)| live.blocks == 0)
    }

    /// Bytes of memory of all kinds.
    pub fn bytes(&self) -> u64 {
        self.memory().iter().map(|(_, live)| live.bytes).sum()
    }

    fn memory(&self) -> [(&'static str, Live); 5] {
        [
            ("device memory", self.device),
            ("unified memory", self.managed),
            ("page-locked memory", self.pinned),
            ("stream-ordered memory", self.stream_ordered),
            ("mapped memory", self.mapped),
        ]
    }
}

/// `4096 bytes of device memory in 1 blocks, 2 streams`, or `nothing`.
impl fmt::Display for LiveAllocations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        let addresses = [("further addresses of mapped memory", self.aliased), ("reserved addresses", self.reserved)];
        for (what, live) in self.memory().into_iter().chain(addresses) {
            if live.blocks > 0 {
                parts.push(format!("{} bytes of {what} in {} blocks", live.bytes, live.blocks));
            }
        }
        for (what, count) in [("streams", self.streams), ("events", self.events), ("pools", self.pools)] {
            if count > 0 {
                parts.push(format!("{count} {what}"));
            }
        }
        f.write_str(if parts.is_empty() { "nothing".into() } else { parts.join(", ") }.as_str())
    }
}

/// The counts of memory as it comes and goes; streams, events and pools are counted where they are.
#[derive(Debug, Default)]
pub(super) struct LiveCount {
    now: LiveAllocations,
    peak: u64,
}

impl LiveCount {
    pub(super) fn now(&self) -> LiveAllocations {
        self.now
    }

    pub(super) fn peak(&self) -> u64 {
        self.peak
    }

    pub(super) fn restart_peak(&mut self) {
        self.peak = self.now.bytes();
    }

    /// Counts an allocation of the driver's (1) or its end (-1).
    pub(super) fn count(&mut self, kind: Kind, blocks: i64, bytes: u64) {
        let live = match kind {
            Kind::Device => &mut self.now.device,
            Kind::Managed(_) => &mut self.now.managed,
            Kind::Pinned => &mut self.now.pinned,
            Kind::Mapped(_) => &mut self.now.mapped,
            Kind::Alias(_) => &mut self.now.aliased,
            // Its blocks are counted.
            Kind::Segment(_) => return,
        };
        change(live, blocks, bytes);
        self.peak = self.peak.max(self.now.bytes());
    }

    /// The same for a block of a stream-ordered pool.
    pub(super) fn count_stream_ordered(&mut self, blocks: i64, bytes: u64) {
        change(&mut self.now.stream_ordered, blocks, bytes);
        self.peak = self.peak.max(self.now.bytes());
    }

    /// The same for reserved addresses.
    pub(super) fn count_reserved(&mut self, blocks: i64, bytes: u64) {
        change(&mut self.now.reserved, blocks, bytes);
    }
}

fn change(live: &mut Live, blocks: i64, bytes: u64) {
    live.blocks = live.blocks.wrapping_add_signed(blocks);
    live.bytes = live.bytes.wrapping_add_signed(blocks * bytes as i64);
}
