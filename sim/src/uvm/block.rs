//! [`Block`]: the state of up to 2 MiB of managed memory.

use super::chunks::ChunkId;
use super::ids::Processor;
use super::pages::{BIG_PAGE, PAGE, PageSet};
use super::thrashing::Thrashing;
use smallvec::{SmallVec, smallvec};

/// The residency of the pages of one block. Created when the block is first used.
#[derive(Debug)]
pub(super) struct Block {
    /// Pages in the block: 512, or fewer in the last block of a range.
    pub(super) pages: usize,
    /// Per processor: the pages that are resident there.
    resident: SmallVec<[PageSet; 2]>,
    /// Per processor: the pages that it has mapped although they are resident elsewhere.
    remote: SmallVec<[PageSet; 2]>,
    /// Per device: the device memory that backs the block's pages.
    pub(super) backing: SmallVec<[Backing; 1]>,
    /// Pages whose contents were discarded. No processor has them mapped, and moving them copies nothing.
    pub(super) discarded: PageSet,
    pub(super) thrashing: Thrashing,
}

/// The device memory that backs a block.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Backing {
    pub(super) chunk: Option<ChunkId>,
    pub(super) bytes: u64,
}

impl Block {
    pub(super) fn new(pages: usize, processors: usize) -> Self {
        Self {
            pages,
            resident: smallvec![PageSet::EMPTY; processors],
            remote: smallvec![PageSet::EMPTY; processors],
            backing: smallvec![Backing::default(); processors - 1],
            discarded: PageSet::EMPTY,
            thrashing: Thrashing::default(),
        }
    }

    pub(super) fn processors(&self) -> impl Iterator<Item = Processor> + use<> {
        (0..self.resident.len()).map(Processor::from_index)
    }

    pub(super) fn resident(&self, at: Processor) -> &PageSet {
        &self.resident[at.index()]
    }

    pub(super) fn resident_mut(&mut self, at: Processor) -> &mut PageSet {
        &mut self.resident[at.index()]
    }

    pub(super) fn remote(&self, at: Processor) -> &PageSet {
        &self.remote[at.index()]
    }

    pub(super) fn map_remote(&mut self, at: Processor, pages: &PageSet) {
        self.remote[at.index()] = self.remote[at.index()].or(pages);
    }

    pub(super) fn unmap_remote(&mut self, at: Processor, pages: &PageSet) {
        self.remote[at.index()] = self.remote[at.index()].minus(pages);
    }

    /// Returns the pages that are resident on any processor.
    pub(super) fn anywhere(&self) -> PageSet {
        self.resident.iter().fold(PageSet::EMPTY, |all, set| all.or(set))
    }

    /// Returns the pages that are resident on a processor other than `at`.
    pub(super) fn elsewhere(&self, at: Processor) -> PageSet {
        let others = self.resident.iter().enumerate().filter(|(i, _)| *i != at.index());
        others.fold(PageSet::EMPTY, |all, (_, set)| all.or(set))
    }

    /// Returns the processor that holds a page. If several do, the host comes first, then devices by number.
    pub(super) fn holder(&self, page: usize) -> Option<Processor> {
        self.processors().find(|p| self.resident(*p).contains(page))
    }

    pub(super) fn is_whole(&self) -> bool {
        self.pages == super::pages::PAGES_PER_BLOCK
    }

    /// Returns the bytes of device memory that a device needs to hold `pages`: one root chunk for a whole block,
    /// 64 KiB chunks for a shorter block.
    pub(super) fn backing_for(&self, pages: &PageSet) -> u64 {
        if self.is_whole() {
            return super::pages::BLOCK;
        }
        let units =
            (0..self.pages).step_by(BIG_PAGE).filter(|&u| pages.count_in(u, (u + BIG_PAGE).min(self.pages)) > 0);
        units.count() as u64 * BIG_PAGE as u64 * PAGE
    }
}
