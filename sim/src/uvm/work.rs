//! [`Work`]: what an operation on unified memory did.

use super::pages::PAGE;
use super::space::{Processor, RangeId};
use cumem_driver::MigrationCause;

/// Counts of what was done, from which time and statistics follow.
#[derive(Debug, Default)]
pub(crate) struct Work {
    /// Nanoseconds of virtual time at which it happens.
    pub(crate) at: u64,
    /// Faults served.
    pub(crate) faults: u64,
    /// Faults of pages that others of the same batch were for.
    pub(crate) duplicates: u64,
    /// Groups of faults that were served together.
    pub(crate) batches: u64,
    /// Blocks that they were for, beyond the first of each batch.
    pub(crate) further_blocks: u64,
    /// Blocks of which the faulting processor had no page before.
    pub(crate) new_blocks: u64,
    /// Times that service went to a block of whole 2 MiB.
    pub(crate) whole_blocks: u64,
    /// Waits that were imposed because pages thrashed.
    pub(crate) throttles: u64,
    /// Faults that found pages pinned, or had them pinned, because they thrashed.
    pub(crate) pinned: u64,
    /// Blocks that a prefetch went over.
    pub(crate) prefetched_blocks: u64,
    /// Pages whose residency changed.
    pub(crate) pages: u64,
    /// Copies from host to device.
    pub(crate) to_device: Transfer,
    /// Copies from device to host.
    pub(crate) to_host: Transfer,
    /// Copies between devices.
    pub(crate) peer: Transfer,
    /// Bytes of pages that had been nowhere.
    pub(crate) populated: u64,
    /// Chunks of device memory taken from unified memory.
    pub(crate) evictions: u64,
    /// Bytes of them that had to be copied to the host.
    pub(crate) evicted: u64,
    /// Copies of read-mostly pages that a write ended, in bytes.
    pub(crate) collapsed: u64,
    /// Bytes accessed over the link, where they are.
    pub(crate) remote: u64,
    /// Why pages are copied, unless they are evicted.
    pub(crate) cause: MigrationCause,
    /// The single steps in their order, where somebody wants them.
    pub(crate) steps: Option<Vec<Step>>,
}

/// Copies in one direction.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Transfer {
    pub(crate) bytes: u64,
    /// Contiguous runs of pages, each of them one copy.
    pub(crate) runs: u64,
}

/// One step of the work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// A processor touched a page that it could not reach.
    Fault { by: Processor, range: RangeId, page: u64 },
    /// A run of pages was copied.
    Transfer { cause: MigrationCause, from: Processor, to: Processor, range: RangeId, page: u64, pages: u64 },
    /// A device took back the chunk that begins with this page.
    Eviction { range: RangeId, page: u64 },
}

impl Work {
    /// Copies in all directions.
    pub(crate) fn copies(&self) -> u64 {
        self.to_device.runs + self.to_host.runs + self.peer.runs
    }

    pub(super) fn fault(&mut self, by: Processor, range: RangeId, page: u64) {
        self.faults += 1;
        if let Some(steps) = &mut self.steps {
            steps.push(Step::Fault { by, range, page });
        }
    }

    pub(super) fn transfer(&mut self, from: Processor, to: Processor, range: RangeId, page: u64, pages: u64) {
        self.copied(self.cause, from, to, range, page, pages);
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
            self.copied(MigrationCause::Eviction, from, Processor::HOST, range, page, pages);
        }
    }

    fn copied(&mut self, cause: MigrationCause, from: Processor, to: Processor, range: RangeId, page: u64, pages: u64) {
        let direction = match (from, to) {
            (Processor::HOST, _) => &mut self.to_device,
            (_, Processor::HOST) => &mut self.to_host,
            _ => &mut self.peer,
        };
        direction.bytes += pages * PAGE;
        direction.runs += 1;
        if let Some(steps) = &mut self.steps {
            steps.push(Step::Transfer { cause, from, to, range, page, pages });
        }
    }
}
