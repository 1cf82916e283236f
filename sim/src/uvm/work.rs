//! [`MigrationWork`]: the effects of an operation on managed memory.

use super::ids::{Processor, RangeId};
use super::pages::PAGE;
use cumem_driver::MigrationCause;

/// Counts of the effects. Time and statistics are computed from them.
#[derive(Debug, Default)]
pub(crate) struct MigrationWork {
    /// Virtual time of the operation, in nanoseconds.
    pub(crate) at: u64,
    /// Faults served.
    pub(crate) faults: u64,
    /// Faults on a page that already had a fault in the same batch.
    pub(crate) duplicates: u64,
    /// Batches: groups of faults that were served together.
    pub(crate) batches: u64,
    /// Blocks with faults, beyond the first block of each batch.
    pub(crate) further_blocks: u64,
    /// Served blocks of which no page was resident on the faulting processor before.
    pub(crate) new_blocks: u64,
    /// Served blocks that were whole, that is 2 MiB. A block counts each time that it is served.
    pub(crate) whole_blocks: u64,
    /// Waits that were imposed on a processor because pages thrashed.
    pub(crate) throttles: u64,
    /// Faults on pages that were pinned, or became pinned, because they thrashed.
    pub(crate) pinned: u64,
    /// Blocks that a prefetch visited.
    pub(crate) prefetched_blocks: u64,
    /// Pages whose residency changed.
    pub(crate) pages: u64,
    /// Copies from host to device.
    pub(crate) to_device: Transfer,
    /// Copies from device to host.
    pub(crate) to_host: Transfer,
    /// Copies between devices.
    pub(crate) peer: Transfer,
    /// Bytes of pages that became resident without a copy, because they were resident nowhere or discarded.
    pub(crate) populated: u64,
    /// Chunks of device memory that were evicted.
    pub(crate) evictions: u64,
    /// Bytes of evicted pages that were copied to the host.
    pub(crate) evicted: u64,
    /// Bytes of copies that were dropped and not moved, for example because a processor wrote to a read-mostly page.
    pub(crate) collapsed: u64,
    /// Bytes that a processor accessed over the link, without a migration.
    pub(crate) remote: u64,
    /// The reason for copies other than evictions.
    pub(crate) cause: MigrationCause,
    /// The single steps in order, if the caller wants them recorded.
    pub(crate) steps: Option<Vec<MigrationStep>>,
}

/// Copies in one direction.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Transfer {
    pub(crate) bytes: u64,
    /// Contiguous runs of pages. Each run is one copy.
    pub(crate) runs: u64,
}

/// One step of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MigrationStep {
    /// A processor accessed a page that it could not reach.
    Fault { by: Processor, range: RangeId, page: u64 },
    /// A run of pages was copied.
    Transfer { cause: MigrationCause, from: Processor, to: Processor, range: RangeId, page: u64, pages: u64 },
    /// A device evicted the chunk whose first page is `page`.
    Eviction { range: RangeId, page: u64 },
}

impl MigrationWork {
    /// Returns the number of copies in all directions.
    pub(crate) fn copies(&self) -> u64 {
        self.to_device.runs + self.to_host.runs + self.peer.runs
    }

    pub(super) fn fault(&mut self, by: Processor, range: RangeId, page: u64) {
        self.faults += 1;
        if let Some(steps) = &mut self.steps {
            steps.push(MigrationStep::Fault { by, range, page });
        }
    }

    pub(super) fn transfer(&mut self, from: Processor, to: Processor, range: RangeId, page: u64, pages: u64) {
        self.copied(self.cause, from, to, range, page, pages);
    }

    /// Records the eviction of the chunk whose first page is `first`, and the copy of `runs` of its pages to the host.
    pub(super) fn eviction(
        &mut self,
        from: Processor,
        range: RangeId,
        first: u64,
        runs: impl Iterator<Item = (u64, u64)>,
    ) {
        self.evictions += 1;
        if let Some(steps) = &mut self.steps {
            steps.push(MigrationStep::Eviction { range, page: first });
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
            steps.push(MigrationStep::Transfer { cause, from, to, range, page, pages });
        }
    }
}
