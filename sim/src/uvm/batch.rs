//! Faults of many threads. The faults are served in batches; each batch is sorted, then served block by block
//! (`service_fault_batch`).

use super::ids::{BlockId, NoMemory, Processor, RangeId};
use super::pages::{PAGE, PAGES_PER_BLOCK, PageSet};
use super::space::Space;
use super::work::MigrationWork;

/// The pages of one block that a processor can access without a fault, and those that are resident with it.
struct BlockAccess {
    block: u32,
    reachable: PageSet,
    resident: PageSet,
}

impl Space {
    /// Reads or writes pages of an allocation as `by`, in the given order, with up to `in_flight` faults outstanding.
    /// All outstanding faults are served together; then the accesses continue.
    pub(crate) fn touch_in_order(
        &mut self,
        range: RangeId,
        mut order: impl Iterator<Item = u64>,
        by: Processor,
        write: bool,
        in_flight: usize,
        work: &mut MigrationWork,
    ) -> Result<(), NoMemory> {
        let batch = self.rules.batch.min(in_flight).max(1);
        let mut faults = Vec::with_capacity(batch);
        let mut access: Option<BlockAccess> = None;
        loop {
            while faults.len() < batch
                && let Some(page) = order.next()
            {
                let (block, within) = split(page);
                if access.as_ref().is_none_or(|access| access.block != block) {
                    access = Some(self.block_access(BlockId { range, index: block }, by, write, work.at));
                }
                match &access {
                    Some(access) if access.reachable.contains(within) => {
                        work.remote += if access.resident.contains(within) { 0 } else { PAGE };
                    }
                    _ => faults.push(page),
                }
            }
            if faults.is_empty() {
                return Ok(());
            }
            let entries = faults.len();
            faults.sort_unstable();
            faults.dedup();
            work.batches += 1;
            work.duplicates += (entries - faults.len()) as u64;
            let blocks = faults.chunk_by(|a, b| split(*a).0 == split(*b).0);
            for (i, pages) in blocks.enumerate() {
                work.further_blocks += u64::from(i > 0);
                self.serve_pages(range, pages, by, write, work)?;
            }
            faults.clear();
            access = None;
        }
    }

    fn block_access(&mut self, id: BlockId, by: Processor, write: bool, now: u64) -> BlockAccess {
        let mut block = self.take(id);
        self.pass_time(&mut block, now);
        let access = BlockAccess {
            block: id.index,
            reachable: self.reachable(id, &block, by, write),
            resident: *block.resident(by),
        };
        self.put(id, block);
        access
    }

    /// Serves faults on pages that all lie in one block.
    fn serve_pages(
        &mut self,
        range: RangeId,
        pages: &[u64],
        by: Processor,
        write: bool,
        work: &mut MigrationWork,
    ) -> Result<(), NoMemory> {
        let Some(&first) = pages.first() else { return Ok(()) };
        let id = BlockId { range, index: split(first).0 };
        let mut faulted = PageSet::EMPTY;
        pages.iter().for_each(|page| faulted.insert(split(*page).1));
        let mut block = self.take(id);
        let served = self.serve(id, &mut block, &faulted, by, write, work);
        work.remote += faulted.minus(block.resident(by)).count() as u64 * PAGE;
        self.put(id, block);
        served
    }
}

/// Returns the block of a page, and the page's number within the block.
fn split(page: u64) -> (u32, usize) {
    let per = PAGES_PER_BLOCK as u64;
    ((page / per) as u32, (page % per) as usize)
}
