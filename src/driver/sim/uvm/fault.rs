//! Touching pages: faults, one block at a time, in the order of the accesses.

use super::block::Block;
use super::migrate::Mode;
use super::pages::{PAGE, PAGES_PER_BLOCK, PageSet};
use super::policy::Policy;
use super::select::Destination;
use super::space::{BlockId, Managed, NoMemory, Processor, RangeId, Space, blocks_over};
use super::tree;
use super::work::Work;
use std::ops::Range;

impl Space {
    /// `by` reads or writes `pages` of an allocation, in ascending order; each page that it cannot reach is
    /// a fault of its own, which may bring others along.
    pub(in crate::driver::sim) fn touch(
        &mut self,
        range: RangeId,
        pages: Range<u64>,
        by: Processor,
        write: bool,
        work: &mut Work,
    ) -> Result<(), NoMemory> {
        for (index, within) in blocks_over(pages) {
            let id = BlockId { range, index };
            let mut block = self.take(id);
            let served = self.touch_block(id, &mut block, within, by, write, work);
            self.put(id, block);
            served?;
        }
        Ok(())
    }

    fn touch_block(
        &mut self,
        id: BlockId,
        block: &mut Block,
        within: Range<usize>,
        by: Processor,
        write: bool,
        work: &mut Work,
    ) -> Result<(), NoMemory> {
        let wanted = PageSet::range(within.start, within.end);
        let mut faulted = false;
        let first = u64::from(id.index) * PAGES_PER_BLOCK as u64;
        while let Some(page) = wanted.minus(&self.reachable(id, block, by, write)).first() {
            work.fault(by, id.range, first + page as u64);
            work.faulting_blocks += u64::from(!std::mem::replace(&mut faulted, true));
            self.serve(id, block, page, by, write, work)?;
        }
        let remote = wanted.minus(block.resident(by));
        work.remote += remote.count() as u64 * PAGE;
        Ok(())
    }

    /// The pages of a block that `by` can use without a fault.
    fn reachable(&self, id: BlockId, block: &Block, by: Processor, write: bool) -> PageSet {
        let mut reachable = *block.resident(by);
        if write {
            reachable = reachable.minus(&block.elsewhere(by));
        }
        reachable = reachable.or(block.remote(by));
        let first = u64::from(id.index) * PAGES_PER_BLOCK as u64;
        for (segment, policy) in self.range(id.range).policy.over(first..first + block.pages as u64) {
            if policy.accessed_by.contains(by) && !policy.read_mostly {
                let segment = PageSet::range((segment.start - first) as usize, (segment.end - first) as usize);
                for at in block.processors().filter(|at| self.can_map(by, *at) && !Self::wanted_home(&policy, by, *at))
                {
                    reachable = reachable.or(&block.resident(at).and(&segment));
                }
            }
        }
        reachable
    }

    /// The preferred location does not keep mappings of its own pages elsewhere: its next access brings them home.
    fn wanted_home(policy: &Policy, by: Processor, at: Processor) -> bool {
        at != by && policy.preferred.is_some_and(|preferred| preferred.processor == by)
    }

    fn serve(
        &mut self,
        id: BlockId,
        block: &mut Block,
        page: usize,
        by: Processor,
        write: bool,
        work: &mut Work,
    ) -> Result<(), NoMemory> {
        let range = self.range(id.range);
        let first = u64::from(id.index) * PAGES_PER_BLOCK as u64;
        let (segment, policy) = range.policy.at(first + page as u64);
        // Advice splits a block: the prefetcher sees the part with the same advice.
        let start = segment.start.saturating_sub(first) as usize;
        let end = (segment.end - first).min(block.pages as u64) as usize;
        let only = PageSet::range(page, page + 1);
        let destination = match range.mode {
            Managed::Fixed(home) if by != Processor::HOST && by != home => Destination::Stay,
            _ => self.select(&policy, block, page, by, write),
        };
        let (to, mode) = match destination {
            Destination::Stay => {
                block.map_remote(by, &only);
                return Ok(());
            }
            Destination::Move(to) => (to, Mode::Move),
            Destination::Duplicate(to) => (to, Mode::Duplicate),
        };
        let preferred = policy.preferred.map(|preferred| preferred.processor);
        let first_touch = block.holder(page).is_none();
        let along = if first_touch && preferred == Some(to) {
            PageSet::range(start, end)
        } else if preferred.is_some_and(|preferred| preferred != to) {
            PageSet::EMPTY
        } else {
            tree::prefetch(start, end, block.resident(to), &only)
        };
        // Pages that came along are not taken from a copy that may be used elsewhere for reading.
        let along = along.minus(block.resident(to)).minus(&only);
        self.make_resident(id, block, to, &only, mode, work)?;
        self.make_resident(id, block, to, &along, mode, work)?;
        if to != by {
            block.map_remote(by, &only);
        }
        Ok(())
    }
}
