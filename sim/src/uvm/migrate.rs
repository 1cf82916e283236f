//! Migration of pages, by faults and by prefetches (`uvm_migrate`).

use super::block::Block;
use super::ids::{BlockId, ManagedMode, NoMemory, Processor, RangeId};
use super::pages::{PAGE, PAGES_PER_BLOCK, PageSet, blocks_over};
use super::space::Space;
use super::work::MigrationWork;
use cumem_driver::Location;
use std::ops::Range;

/// The effect on copies of the pages on other processors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MigrationMode {
    /// The copies are dropped.
    Move,
    /// The copies stay, and all copies are read-only.
    Duplicate,
}

impl Space {
    /// Makes `pages` of a block resident on `to`, and then the pages `along` that are fetched with them.
    /// Returns the pages that were copied from another processor.
    #[expect(clippy::too_many_arguments, reason = "what a migration is")]
    pub(super) fn make_resident(
        &mut self,
        id: BlockId,
        block: &mut Block,
        to: Processor,
        pages: &PageSet,
        along: &PageSet,
        mode: MigrationMode,
        work: &mut MigrationWork,
    ) -> Result<PageSet, NoMemory> {
        let all = pages.or(along);
        if all.is_empty() {
            return Ok(PageSet::EMPTY);
        }
        let fixed = matches!(self.range(id.range).mode, ManagedMode::Fixed(_));
        if let (Some(gpu), false) = (to.gpu(), fixed) {
            self.back(gpu, id, block, &all, work)?;
        }
        let missing = all.minus(block.resident(to));
        let copied = missing.and(&block.anywhere()).minus(&block.discarded);
        work.populated += missing.minus(&copied).count() as u64 * PAGE;
        work.pages += missing.count() as u64;
        self.copy_runs(id, block, to, copied.and(pages), work);
        self.copy_runs(id, block, to, copied.minus(pages), work);
        *block.resident_mut(to) = block.resident(to).or(&all);
        for other in block.processors().filter(|other| *other != to) {
            // The page's mappings are dropped when it moves. The next fault or the advice in force restores them.
            block.unmap_remote(other, &missing);
            let there = block.resident(other).and(&all);
            if mode == MigrationMode::Move && !there.is_empty() {
                work.collapsed += there.minus(&copied).count() as u64 * PAGE;
                *block.resident_mut(other) = block.resident(other).minus(&all);
                if let Some(gpu) = other.gpu() {
                    self.move_if_unused(gpu, block);
                }
            }
        }
        block.unmap_remote(to, &all);
        block.discarded = block.discarded.minus(&all);
        Ok(copied)
    }

    /// Records the copies of `copied` to `to`: one copy for each contiguous run that one processor holds.
    /// Between devices without peer access, each run takes two copies, through the host.
    fn copy_runs(&self, id: BlockId, block: &Block, to: Processor, copied: PageSet, work: &mut MigrationWork) {
        let first = u64::from(id.index) * PAGES_PER_BLOCK as u64;
        if copied.is_empty() {
            return;
        }
        let mut left = copied;
        for from in block.processors().filter(|from| *from != to) {
            let part = left.and(block.resident(from));
            left = left.minus(&part);
            for (start, end) in part.runs() {
                let (page, pages) = (first + start as u64, (end - start) as u64);
                if from == Processor::HOST || to == Processor::HOST || self.can_map(to, from) {
                    work.transfer(from, to, id.range, page, pages);
                } else {
                    work.transfer(from, Processor::HOST, id.range, page, pages);
                    work.transfer(Processor::HOST, to, id.range, page, pages);
                }
            }
        }
    }

    /// Returns how many bytes of `pages` a prefetch to `to` would copy, and for how many it would only allocate memory.
    pub(crate) fn to_prefetch(&self, range: RangeId, pages: Range<u64>, to: Processor) -> (u64, u64) {
        let mut bytes = (0, 0);
        for (index, within) in blocks_over(pages) {
            let wanted = PageSet::range(within.start, within.end);
            let (copied, fresh) = match &self.range(range).blocks[index as usize] {
                None => (0, wanted.count()),
                Some(block) => {
                    let missing = wanted.minus(block.resident(to));
                    let copied = missing.and(&block.anywhere()).minus(&block.discarded).count();
                    (copied, missing.count() - copied)
                }
            };
            bytes.0 += copied as u64 * PAGE;
            bytes.1 += fresh as u64 * PAGE;
        }
        bytes
    }

    /// Prefetches `pages` to a processor. Read-mostly pages are duplicated; all others move, whatever their advice.
    /// A range larger than the device's memory is no error: its later blocks evict its earlier ones.
    pub(crate) fn prefetch(
        &mut self,
        range: RangeId,
        pages: Range<u64>,
        to: Processor,
        work: &mut MigrationWork,
    ) -> Result<(), NoMemory> {
        let several = blocks_over(pages.clone()).count() > 1;
        let second = several && to.gpu().is_none_or(|gpu| self.gpus[gpu].config.second_pass);
        for pass in 0..=u32::from(second) {
            for (index, within) in blocks_over(pages.clone()) {
                let id = BlockId { range, index };
                work.prefetched_blocks += u64::from(pass == 0);
                let mut block = self.take(id);
                let wanted = PageSet::range(within.start, within.end);
                // The second pass fetches again the blocks that were evicted meanwhile, and leaves all others alone.
                let moved = if pass == 1 && wanted.minus(block.resident(to)).is_empty() {
                    Ok(())
                } else {
                    self.prefetch_block(id, &mut block, wanted, to, work)
                };
                self.put(id, block);
                moved?;
            }
        }
        Ok(())
    }

    fn prefetch_block(
        &mut self,
        id: BlockId,
        block: &mut Block,
        wanted: PageSet,
        to: Processor,
        work: &mut MigrationWork,
    ) -> Result<(), NoMemory> {
        let first = u64::from(id.index) * PAGES_PER_BLOCK as u64;
        let span = first..first + block.pages as u64;
        let segments: smallvec::SmallVec<[_; 2]> = self.range(id.range).policy.over(span).collect();
        for (segment, policy) in segments {
            let segment = PageSet::range((segment.start - first) as usize, (segment.end - first) as usize);
            let mode = if policy.read_mostly { MigrationMode::Duplicate } else { MigrationMode::Move };
            self.make_resident(id, block, to, &wanted.and(&segment), &PageSet::EMPTY, mode, work)?;
        }
        block.thrashing.reset(&wanted);
        Ok(())
    }

    /// Records the target of the last prefetch of `pages`. This changes no residency.
    pub(crate) fn record_prefetch_target(&mut self, range: RangeId, pages: Range<u64>, to: Location) {
        self.range_mut(range).last_prefetch.update(pages, |_| Some(to));
    }

    /// Migrates all managed memory of device `to` back to that device.
    /// A kernel launch does this on a device without concurrent managed access.
    pub(crate) fn return_to_device(&mut self, to: Processor, work: &mut MigrationWork) -> Result<(), NoMemory> {
        for range in (0..self.ranges.len() as u32).map(RangeId) {
            let home = self.ranges[range.0 as usize].as_ref().filter(|r| r.mode == ManagedMode::Fixed(to));
            let Some(home) = home else { continue };
            let pages = 0..home.pages;
            for (index, within) in blocks_over(pages) {
                let id = BlockId { range, index };
                let mut block = self.take(id);
                let all = PageSet::range(within.start, within.end);
                let moved = self.make_resident(id, &mut block, to, &all, &PageSet::EMPTY, MigrationMode::Move, work);
                self.put(id, block);
                moved?;
            }
        }
        Ok(())
    }
}
