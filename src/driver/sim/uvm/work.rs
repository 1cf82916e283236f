//! [`Work`]: the effects of an operation on managed memory.

use super::pages::PAGE;
use super::space::{Processor, RangeId};

/// Counts of the effects. Time and statistics are computed from them.
#[derive(Debug, Default)]
pub(in crate::driver::sim) struct Work {
    /// Virtual time of the operation, in nanoseconds.
    pub(in crate::driver::sim) at: u64,
    /// Faults served.
    pub(in crate::driver::sim) faults: u64,
    /// Faults on a page that already had a fault in the same batch.
    pub(in crate::driver::sim) duplicates: u64,
    /// Batches: groups of faults that were served together.
    pub(in crate::driver::sim) batches: u64,
    /// Blocks with faults, beyond the first block of each batch.
    pub(in crate::driver::sim) further_blocks: u64,
    /// Served blocks of which no page was resident on the faulting processor before.
    pub(in crate::driver::sim) new_blocks: u64,
    /// Served blocks that were whole, that is 2 MiB. A block counts each time that it is served.
    pub(in crate::driver::sim) whole_blocks: u64,
    /// Waits that were imposed on a processor because pages thrashed.
    pub(in crate::driver::sim) throttles: u64,
    /// Faults on pages that were pinned, or became pinned, because they thrashed.
    pub(in crate::driver::sim) pinned: u64,
    /// Blocks that a prefetch visited.
    pub(in crate::driver::sim) prefetched_blocks: u64,
    /// Pages whose residency changed.
    pub(in crate::driver::sim) pages: u64,
    /// Copies from host to device.
    pub(in crate::driver::sim) to_device: Transfer,
    /// Copies from device to host.
    pub(in crate::driver::sim) to_host: Transfer,
    /// Copies between devices.
    pub(in crate::driver::sim) peer: Transfer,
    /// Bytes of pages that became resident without a copy, because they were resident nowhere or discarded.
    pub(in crate::driver::sim) populated: u64,
    /// Chunks of device memory that were evicted.
    pub(in crate::driver::sim) evictions: u64,
    /// Bytes of evicted pages that were copied to the host.
    pub(in crate::driver::sim) evicted: u64,
    /// Bytes of copies that were dropped and not moved, for example because a processor wrote to a read-mostly page.
    pub(in crate::driver::sim) collapsed: u64,
    /// Bytes that a processor accessed over the link, without a migration.
    pub(in crate::driver::sim) remote: u64,
    /// The reason for copies other than evictions.
    pub(in crate::driver::sim) why: Why,
    /// The single steps in order, if the caller wants them recorded.
    pub(in crate::driver::sim) steps: Option<Vec<Step>>,
}

/// Copies in one direction.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(in crate::driver::sim) struct Transfer {
    pub(in crate::driver::sim) bytes: u64,
    /// Contiguous runs of pages. Each run is one copy.
    pub(in crate::driver::sim) runs: u64,
}

/// The reason for a copy of pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Why {
    /// A processor accessed them.
    #[default]
    Fault,
    /// A prefetch requested it.
    Prefetch,
    /// A device needed the memory.
    Eviction,
}

/// One step of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::driver::sim) enum Step {
    /// A processor accessed a page that it could not reach.
    Fault { by: Processor, range: RangeId, page: u64 },
    /// A run of pages was copied.
    Transfer { why: Why, from: Processor, to: Processor, range: RangeId, page: u64, pages: u64 },
    /// A device evicted the chunk whose first page is `page`.
    Eviction { range: RangeId, page: u64 },
}

impl Work {
    /// Returns the number of copies in all directions.
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
