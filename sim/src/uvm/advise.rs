//! Advice, and the range attributes that report it (`uvm_policy.c`, `cuMemRangeGetAttribute`).

use super::block::Block;
use super::ids::{BlockId, Processor, RangeId};
use super::pages::{PAGES_PER_BLOCK, PageSet, blocks_over};
use super::policy::{Policy, Preferred, Processors};
use super::space::Space;
use super::work::MigrationWork;
use cumem_driver::{Advice, Location};
use std::ops::Range;

/// The attributes that all pages of a range have in common.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct CommonAdvice {
    pub(crate) read_mostly: bool,
    pub(crate) preferred: Option<Location>,
    accessed_by: Processors,
    pub(crate) last_prefetch: Option<Location>,
}

impl CommonAdvice {
    pub(crate) fn accessed_by(&self, processor: Processor) -> bool {
        self.accessed_by.contains(processor)
    }
}

impl Space {
    /// Applies `advice` to `pages` at once. `processor` is the location that the advice names;
    /// it is ignored if the advice names none.
    pub(crate) fn advise(
        &mut self,
        range: RangeId,
        pages: Range<u64>,
        advice: Advice,
        processor: Processor,
        work: &mut MigrationWork,
    ) {
        let change = |policy: Policy| match advice {
            Advice::SetReadMostly => Policy { read_mostly: true, ..policy },
            Advice::UnsetReadMostly => Policy { read_mostly: false, ..policy },
            Advice::SetPreferredLocation(location) => {
                Policy { preferred: Some(Preferred { location, processor }), ..policy }
            }
            Advice::UnsetPreferredLocation => Policy { preferred: None, ..policy },
            Advice::SetAccessedBy(_) => Policy { accessed_by: policy.accessed_by.with(processor), ..policy },
            Advice::UnsetAccessedBy(_) => Policy { accessed_by: policy.accessed_by.without(processor), ..policy },
        };
        self.range_mut(range).policy.update(pages.clone(), change);
        self.each_block(range, pages.clone(), |block, pages| block.thrashing.reset(&pages));
        match advice {
            Advice::SetReadMostly => self.each_block(range, pages, |block, pages| {
                for processor in block.processors() {
                    block.unmap_remote(processor, &pages);
                }
            }),
            Advice::UnsetReadMostly => self.collapse(range, pages, work),
            // The processor's next access faults, and the page's location is selected anew.
            Advice::SetPreferredLocation(_) | Advice::UnsetAccessedBy(_) => {
                self.each_block(range, pages, |block, pages| block.unmap_remote(processor, &pages));
            }
            Advice::UnsetPreferredLocation | Advice::SetAccessedBy(_) => {}
        }
    }

    fn each_block(&mut self, range: RangeId, pages: Range<u64>, mut act: impl FnMut(&mut Block, PageSet)) {
        for (index, within) in blocks_over(pages) {
            if let Some(block) = &mut self.range_mut(range).blocks[index as usize] {
                act(block, PageSet::range(within.start, within.end));
            }
        }
    }

    /// Drops all copies but one of each page. The copy at the preferred location stays if it exists, else the host's,
    /// else that of the first device.
    fn collapse(&mut self, range: RangeId, pages: Range<u64>, work: &mut MigrationWork) {
        for (index, within) in blocks_over(pages) {
            let id = BlockId { range, index };
            if self.range(range).blocks[index as usize].is_none() {
                continue;
            }
            let mut block = self.take(id);
            for page in within {
                let (_, policy) = self.range(range).policy.at(u64::from(index) * PAGES_PER_BLOCK as u64 + page as u64);
                let preferred = policy.preferred.map(|preferred| preferred.processor);
                let preferred = preferred.filter(|at| block.resident(*at).contains(page));
                let Some(keeper) = preferred.or_else(|| block.holder(page)) else { continue };
                let only = PageSet::one(page);
                for other in block.processors().filter(|other| *other != keeper) {
                    if block.resident(other).contains(page) {
                        *block.resident_mut(other) = block.resident(other).minus(&only);
                        work.collapsed += super::pages::PAGE;
                    }
                }
            }
            for gpu in 0..self.gpus.len() {
                self.move_if_unused(gpu, &block);
            }
            self.put(id, block);
        }
    }

    /// Returns the attributes of `pages`. An attribute on which the pages differ is reported as unset.
    pub(crate) fn common_advice(&self, range: RangeId, pages: Range<u64>) -> CommonAdvice {
        let range = self.range(range);
        let mut segments = range.policy.over(pages.clone()).map(|(_, policy)| policy);
        let first = segments.next().unwrap_or_default();
        let common = segments.fold(first, |common, policy| Policy {
            read_mostly: common.read_mostly && policy.read_mostly,
            preferred: common.preferred.filter(|preferred| policy.preferred == Some(*preferred)),
            accessed_by: common.accessed_by.and(policy.accessed_by),
        });
        let mut asked = range.last_prefetch.over(pages).map(|(_, location)| location);
        let last = asked.next().flatten();
        CommonAdvice {
            read_mostly: common.read_mostly,
            preferred: common.preferred.map(|preferred| preferred.location),
            accessed_by: common.accessed_by,
            last_prefetch: last.filter(|_| asked.all(|other| other == last)),
        }
    }
}
