//! Service of the faults of one block (`uvm_va_block_service_locked`).

use super::block::Block;
use super::ids::{BlockId, ManagedMode, NoMemory, Processor, RangeId};
use super::migrate::MigrationMode;
use super::pages::{PAGE, PAGES_PER_BLOCK, PageSet, blocks_over};
use super::policy::Policy;
use super::rules::FaultPrefetch;
use super::select::Destination;
use super::space::Space;
use super::thrashing::ThrashingResponse;
use super::tree;
use super::work::MigrationWork;
use smallvec::SmallVec;
use std::ops::Range;

/// Pages of one block that have the same advice, grouped by destination.
type Groups = SmallVec<[(Destination, PageSet); 1]>;

impl Space {
    /// Reads or writes `pages` of an allocation as `by`, in ascending order.
    /// Each page that `by` cannot reach is a separate fault, which may fetch other pages as well.
    pub(crate) fn touch(
        &mut self,
        range: RangeId,
        pages: Range<u64>,
        by: Processor,
        write: bool,
        work: &mut MigrationWork,
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
        work: &mut MigrationWork,
    ) -> Result<(), NoMemory> {
        self.pass_time(block, work.at);
        let wanted = PageSet::range(within.start, within.end);
        while let Some(page) = wanted.minus(&self.reachable(id, block, by, write)).first() {
            work.batches += 1;
            self.serve(id, block, &PageSet::one(page), by, write, work)?;
        }
        work.remote += wanted.minus(block.resident(by)).count() as u64 * PAGE;
        Ok(())
    }

    /// Ends the pins of thrashing pages that have expired by `now`, and unmaps these pages.
    pub(super) fn pass_time(&self, block: &mut Block, now: u64) {
        if let Some(rules) = self.rules.thrashing.as_ref().filter(|_| block.thrashing.is_tracked()) {
            let freed = block.thrashing.expire_pins(rules, now);
            for processor in block.processors() {
                block.unmap_remote(processor, &freed);
            }
        }
    }

    /// Returns the pages of a block that `by` can access without a fault.
    pub(super) fn reachable(&self, id: BlockId, block: &Block, by: Processor, write: bool) -> PageSet {
        let mut reachable = *block.resident(by);
        if write {
            reachable = reachable.minus(&block.elsewhere(by));
        }
        reachable = reachable.or(block.remote(by)).minus(&block.discarded);
        let policies = &self.range(id.range).policy;
        if policies.uniform().is_some_and(|policy| !policy.accessed_by.contains(by)) {
            return reachable;
        }
        let first = u64::from(id.index) * PAGES_PER_BLOCK as u64;
        for (segment, policy) in policies.over(first..first + block.pages as u64) {
            if policy.accessed_by.contains(by) && !policy.read_mostly {
                let segment = PageSet::range((segment.start - first) as usize, (segment.end - first) as usize);
                for at in
                    block.processors().filter(|at| self.can_map(by, *at) && !Self::is_preferred_by(&policy, by, *at))
                {
                    reachable = reachable.or(&block.resident(at).and(&segment).minus(&block.discarded));
                }
            }
        }
        reachable
    }

    /// Reports whether pages on `at` have `by` as their preferred location. The driver does not map them for `by`,
    /// because its next access migrates them to it.
    fn is_preferred_by(policy: &Policy, by: Processor, at: Processor) -> bool {
        at != by && policy.preferred.is_some_and(|preferred| preferred.processor == by)
    }

    /// Serves the faults of `by` on pages of one block, all at once.
    pub(super) fn serve(
        &mut self,
        id: BlockId,
        block: &mut Block,
        faulted: &PageSet,
        by: Processor,
        write: bool,
        work: &mut MigrationWork,
    ) -> Result<(), NoMemory> {
        let first = u64::from(id.index) * PAGES_PER_BLOCK as u64;
        work.new_blocks += u64::from(block.resident(by).is_empty());
        work.whole_blocks += u64::from(block.is_whole());
        let mut left = *faulted;
        while let Some(page) = left.first() {
            let (segment, policy) = self.range(id.range).policy.at(first + page as u64);
            // Advice splits a block: the prefetcher sees only the part that has the same advice.
            let start = segment.start.saturating_sub(first) as usize;
            let end = (segment.end - first).min(block.pages as u64) as usize;
            let pages = left.and(&PageSet::range(start, end));
            left = left.minus(&pages);
            for page in pages.iter() {
                work.fault(by, id.range, first + page as u64);
            }
            self.serve_alike(id, block, (start, end), &policy, pages, by, write, work)?;
        }
        Ok(())
    }

    /// Serves faults on pages within `start..end`, which all have the same policy.
    #[expect(clippy::too_many_arguments, reason = "what a fault is")]
    fn serve_alike(
        &mut self,
        id: BlockId,
        block: &mut Block,
        (start, end): (usize, usize),
        policy: &Policy,
        pages: PageSet,
        by: Processor,
        write: bool,
        work: &mut MigrationWork,
    ) -> Result<(), NoMemory> {
        let groups = self.destinations(id, block, policy, pages, by, write, work);
        let preferred = policy.preferred.map(|preferred| preferred.processor);
        for (destination, pages) in &groups {
            let (to, mode) = match *destination {
                Destination::Stay => {
                    block.map_remote(by, pages);
                    block.discarded = block.discarded.minus(pages);
                    continue;
                }
                Destination::Move(to) => (to, MigrationMode::Move),
                Destination::Duplicate(to) => (to, MigrationMode::Duplicate),
            };
            let first_touch = !pages.minus(&block.anywhere()).is_empty();
            let along = if groups.len() > 1 {
                // The driver's prefetcher runs only if all faults of a block have the same destination.
                PageSet::EMPTY
            } else if first_touch && preferred == Some(to) {
                PageSet::range(start, end)
            } else if preferred.is_some_and(|preferred| preferred != to) {
                PageSet::EMPTY
            } else {
                self.prefetched(block, (start, end), to, pages)
            };
            // Leave out pages that `to` already holds:
            // a move would drop the copies of them that other processors may read.
            let along = along.minus(block.resident(to)).minus(pages);
            let migrated = self.make_resident(id, block, to, pages, &along, mode, work)?;
            match (&self.rules.thrashing, mode) {
                (Some(rules), MigrationMode::Move) if !migrated.is_empty() => {
                    block.thrashing.migrated(rules, to, &migrated, work.at);
                }
                (Some(_), MigrationMode::Duplicate) => block.thrashing.reset(pages),
                _ => {}
            }
            if to != by {
                block.map_remote(by, pages);
            }
        }
        Ok(())
    }

    fn prefetched(&self, block: &Block, (start, end): (usize, usize), to: Processor, faulted: &PageSet) -> PageSet {
        let thrashing = block.thrashing.pages();
        let faulted = faulted.minus(&thrashing);
        match self.rules.prefetch {
            FaultPrefetch::Off => PageSet::EMPTY,
            FaultPrefetch::BigPage => tree::grown(start, end, &faulted, &thrashing),
            FaultPrefetch::Density => tree::prefetch(start, end, block.resident(to), &faulted, &thrashing),
        }
    }

    /// Groups the faulted pages by destination. If pages thrash and are throttled,
    /// the faulting processor waits once for all of them.
    #[expect(clippy::too_many_arguments, reason = "what a fault is")]
    fn destinations(
        &self,
        id: BlockId,
        block: &mut Block,
        policy: &Policy,
        pages: PageSet,
        by: Processor,
        write: bool,
        work: &mut MigrationWork,
    ) -> Groups {
        if let ManagedMode::Fixed(home) = self.range(id.range).mode
            && by != Processor::HOST
            && by != home
        {
            return smallvec::smallvec![(Destination::Stay, pages)];
        }
        if policy.is_empty() && !block.thrashing.is_tracked() {
            return smallvec::smallvec![(Destination::Move(by), pages)];
        }
        let mut groups = Groups::new();
        let mut throttled = false;
        for page in pages.iter() {
            let response = self
                .rules
                .thrashing
                .as_ref()
                .map_or(ThrashingResponse::None, |r| block.thrashing.response(r, page, work.at));
            let pinned = (response == ThrashingResponse::Pin).then(|| self.pinned(policy, block, page, by)).flatten();
            match (pinned, &self.rules.thrashing) {
                (Some(_), _) => {
                    block.thrashing.pin(page, work.at);
                    work.pinned += 1;
                }
                (None, Some(_)) if response != ThrashingResponse::None => {
                    block.thrashing.throttle(page);
                    throttled = true;
                }
                (None, _) => {}
            }
            let destination = pinned.unwrap_or_else(|| self.select(policy, block, page, by, write));
            let only = PageSet::one(page);
            match groups.iter_mut().find(|(known, _)| *known == destination) {
                Some((_, set)) => *set = set.or(&only),
                None => groups.push((destination, only)),
            }
        }
        if throttled && let Some(rules) = &self.rules.thrashing {
            work.throttles += 1;
            work.at += rules.nap;
        }
        groups
    }
}
