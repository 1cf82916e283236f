//! [`Work`]: what an operation on unified memory did.

use super::pages::PAGE;
use super::space::{Processor, RangeId};

/// Counts of what was done, from which time and statistics follow.
#[derive(Debug, Default)]
pub(in crate::driver::sim) struct Work {
    /// Nanoseconds of virtual time at which it happens.
    pub(in crate::driver::sim) at: u64,
    /// Faults served.
    pub(in crate::driver::sim) faults: u64,
    /// Faults of pages that others of the same batch were for.
    pub(in crate::driver::sim) duplicates: u64,
    /// Groups of faults that were served together.
    pub(in crate::driver::sim) batches: u64,
    /// Blocks that they were for, beyond the first of each batch.
    pub(in crate::driver::sim) further_blocks: u64,
    /// Blocks of which the faulting processor had no page before.
    pub(in crate::driver::sim) new_blocks: u64,
    /// Times that service went to a block of whole 2 MiB.
    pub(in crate::driver::sim) whole_blocks: u64,
    /// Waits that were imposed because pages thrashed.
    pub(in crate::driver::sim) throttles: u64,
    /// Faults that found pages pinned, or had them pinned, because they thrashed.
    pub(in crate::driver::sim) pinned: u64,
    /// Blocks that a prefetch went over.
    pub(in crate::driver::sim) prefetched_blocks: u64,
    /// Pages whose residency changed.
    pub(in crate::driver::sim) pages: u64,
    /// Copies from host to device.
    pub(in crate::driver::sim) to_device: Transfer,
    /// Copies from device to host.
    pub(in crate::driver::sim) to_host: Transfer,
    /// Copies between devices.
    pub(in crate::driver::sim) peer: Transfer,
    /// Bytes of pages that had been nowhere.
    pub(in crate::driver::sim) populated: u64,
    /// Chunks of device memory taken from unified memory.
    pub(in crate::driver::sim) evictions: u64,
    /// Bytes of them that had to be copied to the host.
    pub(in crate::driver::sim) evicted: u64,
    /// Copies of read-mostly pages that a write ended, in bytes.
    pub(in crate::driver::sim) collapsed: u64,
    /// Bytes accessed over the link, where they are.
    pub(in crate::driver::sim) remote: u64,
    /// Why pages are copied, unless they are evicted.
    pub(in crate::driver::sim) why: Why,
    /// The single steps in their order, where somebody wants them.
    pub(in crate::driver::sim) steps: Option<Vec<Step>>,
}

/// Copies in one direction.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(in crate::driver::sim) struct Transfer {
    pub(in crate::driver::sim) bytes: u64,
    /// Contiguous runs of pages, each of them one copy.
    pub(in crate::driver::sim) runs: u64,
}

/// Why pages were copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Why {
    /// Somebody touched them.
    #[default]
    Fault,
    /// A prefetch asked for it.
    Prefetch,
    /// A device needed the memory.
    Eviction,
}

/// One step of the work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::driver::sim) enum Step {
    /// A processor touched a page that it could not reach.
    Fault { by: Processor, range: RangeId, page: u64 },
    /// A run of pages was copied.
    Transfer { why: Why, from: Processor, to: Processor, range: RangeId, page: u64, pages: u64 },
    /// A device took back the chunk that begins with this page.
    Eviction { range: RangeId, page: u64 },
}

impl Work {
    /// Copies in all directions.
    pub(in crate::driver::sim) fn copies(&self) -> u64 {
        self.to_device.runs + self.to_host.runs + self.peer.runs
    }

    pub(super) fn fault(&mut self, by: Processor, range: RangeId, page: u64) {
        self.faults += 1;
        if let Some(steps) = &mut self.steps {
            steps.push(Step::Fault { by, range, page });
        }
    }

    pub(super) fn transfer(&mut self, from: Processor, to: Processor, range: RangeId, page: u64, pages: u64) {
        self.copied(self.why, from, to, range, page, pages);
    }

    /// A chunk that begins with page `first` leaves a device; runs of pages of it are copied to the host.
    pub(super) fn eviction(
        &mut self,
        from: Processor,
        range: RangeId,
        first: u64,
        runs: impl Iterator<Item = (u64, u64)>,
    ) {
        self.evictions += 1;
        if let Some(steps) = &mut self.steps {
            steps.push(Step::Eviction { range, page: first });
        }
        for (page, pages) in runs {
            self.evicted += pages * PAGE;
            self.copied(Why::Eviction, from, Processor::HOST, range, page, pages);
        }
    }

    fn copied(&mut self, why: Why, from: Processor, to: Processor, range: RangeId, page: u64, pages: u64) {
        let direction = match (from, to) {
            (Processor::HOST, _) => &mut self.to_device,
            (_, Processor::HOST) => &mut self.to_host,
            _ => &mut self.peer,
        };
        direction.bytes += pages * PAGE;
        direction.runs += 1;
        if let Some(steps) = &mut self.steps {
            steps.push(Step::Transfer { why, from, to, range, page, pages });
        }
    }
}
