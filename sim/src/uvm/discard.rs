//! Discard: contents that the program no longer needs are not copied (`va_block_discard_locked`,
//! `cuMemDiscardBatchAsync`).

use super::chunks::EvictionList;
use super::ids::{BlockId, Processor, RangeId};
use super::pages::{PAGE, PageSet, blocks_over};
use super::space::Space;
use super::work::MigrationWork;
use std::ops::Range;

impl Space {
    /// Discards the contents of `pages`. The pages stay resident, but unmapped, until the next access.
    /// If a page has several copies, only one stays.
    pub(crate) fn discard(&mut self, range: RangeId, pages: Range<u64>, work: &mut MigrationWork) {
        for (index, within) in blocks_over(pages) {
            let id = BlockId { range, index };
            if self.range(range).blocks[index as usize].is_none() {
                continue;
            }
            let mut block = self.take(id);
            let pages = PageSet::range(within.start, within.end);
            for processor in block.processors() {
                block.unmap_remote(processor, &pages);
            }
            // Keep a device's copy rather than the host's, because it is the one that occupies device memory.
            let mut kept = PageSet::EMPTY;
            for at in (0..=self.gpus.len()).rev().map(Processor::from_index) {
                let copies = block.resident(at).and(&pages).and(&kept);
                work.collapsed += copies.count() as u64 * PAGE;
                *block.resident_mut(at) = block.resident(at).minus(&copies);
                kept = kept.or(&block.resident(at).and(&pages));
            }
            block.discarded = block.discarded.or(&kept);
            for gpu in 0..self.gpus.len() {
                let resident = block.resident(Processor::from_index(gpu + 1));
                let needed = !resident.minus(&block.discarded).is_empty();
                if let Some(chunk) = block.backing[gpu].chunk.filter(|_| block.is_whole() && !needed) {
                    let list = if resident.is_empty() { EvictionList::Unused } else { EvictionList::Discarded };
                    self.gpus[gpu].chunks.move_to(chunk, list);
                }
            }
            self.put(id, block);
        }
    }
}
