//! [`Space`]: all managed memory of a machine, and how much of each device's memory it occupies.

use super::block::Block;
use super::chunks::Chunks;
use super::ids::{BlockId, ManagedMode, NoMemory, Processor, RangeId};
use super::intervals::Intervals;
use super::pages::{PAGE, PAGES_PER_BLOCK, PageSet, block_pages, blocks_over};
use super::policy::Policy;
use super::rules::Rules;
use super::work::MigrationWork;
use cumem_driver::Location;
use std::ops::Range;

/// The facts about a device that this bookkeeping needs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct GpuConfig {
    /// Bytes of device memory.
    pub(crate) capacity: u64,
    /// True if the host can map the device's memory.
    pub(crate) mapped_by_host: bool,
    /// True if the device and its peers can map each other's memory.
    pub(crate) peers: bool,
    /// True if a prefetch over several blocks visits them twice.
    pub(crate) second_pass: bool,
}

#[derive(Debug)]
pub(super) struct Gpu {
    pub(super) config: GpuConfig,
    /// Bytes of plain allocations, that is of all memory that is not managed.
    plain: u64,
    /// Bytes of the chunks that back managed memory.
    pub(super) managed: u64,
    pub(super) chunks: Chunks,
}

impl Gpu {
    pub(super) fn free(&self) -> u64 {
        self.config.capacity - self.plain - self.managed
    }
}

#[derive(Debug)]
pub(super) struct ManagedRange {
    pub(super) pages: u64,
    pub(super) mode: ManagedMode,
    pub(super) blocks: Vec<Option<Box<Block>>>,
    pub(super) policy: Intervals<Policy>,
    pub(super) last_prefetch: Intervals<Option<Location>>,
}

/// All managed memory of a machine.
#[derive(Debug)]
pub(crate) struct Space {
    pub(super) ranges: Vec<Option<ManagedRange>>,
    vacant: Vec<RangeId>,
    pub(super) gpus: Vec<Gpu>,
    pub(super) rules: Rules,
}

impl Space {
    pub(crate) fn new(gpus: impl IntoIterator<Item = GpuConfig>, rules: Rules) -> Self {
        let gpus = gpus.into_iter().map(|config| Gpu { config, plain: 0, managed: 0, chunks: Chunks::default() });
        Self { ranges: Vec::new(), vacant: Vec::new(), gpus: gpus.collect(), rules }
    }

    pub(super) fn processors(&self) -> usize {
        self.gpus.len() + 1
    }

    /// Returns the bytes of a device that neither plain nor managed memory occupies.
    pub(crate) fn free_bytes(&self, d: u32) -> u64 {
        self.gpus[d as usize].free()
    }

    /// Takes `bytes` of device memory for plain use, and evicts managed pages if necessary.
    pub(crate) fn take_plain(&mut self, d: u32, bytes: u64, work: &mut MigrationWork) -> Result<(), NoMemory> {
        let gpu = &self.gpus[d as usize];
        // Checked first, so that a request that cannot succeed evicts nothing.
        if bytes > gpu.config.capacity - gpu.plain {
            return Err(NoMemory);
        }
        let no_block = BlockId { range: RangeId(u32::MAX), index: 0 };
        self.make_room(d as usize, bytes, no_block, work)?;
        self.gpus[d as usize].plain += bytes;
        Ok(())
    }

    /// Returns device memory that [`take_plain`](Self::take_plain) took.
    pub(crate) fn give_plain(&mut self, d: u32, bytes: u64) {
        self.gpus[d as usize].plain -= bytes;
    }

    /// Adds a managed allocation of `bytes`, rounded up to whole pages.
    pub(crate) fn add(&mut self, bytes: u64, mode: ManagedMode) -> RangeId {
        let pages = bytes.div_ceil(PAGE);
        let mut blocks = Vec::new();
        blocks.resize_with(pages.div_ceil(PAGES_PER_BLOCK as u64) as usize, || None);
        let (policy, last_prefetch) = (Intervals::new(pages, Policy::default()), Intervals::new(pages, None));
        let range = ManagedRange { pages, mode, blocks, policy, last_prefetch };
        let id = match self.vacant.pop() {
            Some(id) => id,
            None => {
                self.ranges.push(None);
                RangeId((self.ranges.len() - 1) as u32)
            }
        };
        self.ranges[id.0 as usize] = Some(range);
        if let ManagedMode::Fixed(at) = mode {
            self.populate(id, at);
        }
        id
    }

    /// Removes an allocation and frees its chunks.
    pub(crate) fn remove(&mut self, id: RangeId) {
        let Some(range) = self.ranges[id.0 as usize].take() else { return };
        for block in range.blocks.into_iter().flatten() {
            for (gpu, backing) in self.gpus.iter_mut().zip(&block.backing) {
                if let Some(chunk) = backing.chunk {
                    gpu.chunks.remove(chunk);
                    gpu.managed -= backing.bytes;
                }
            }
        }
        self.vacant.push(id);
    }

    pub(super) fn range(&self, id: RangeId) -> &ManagedRange {
        self.ranges[id.0 as usize].as_ref().expect("a live allocation names its range")
    }

    pub(super) fn range_mut(&mut self, id: RangeId) -> &mut ManagedRange {
        self.ranges[id.0 as usize].as_mut().expect("a live allocation names its range")
    }

    /// Takes a block out of its range, so that other blocks can be evicted while the caller changes it.
    /// [`put`](Self::put) puts it back. A block that does not exist yet is created.
    pub(super) fn take(&mut self, id: BlockId) -> Box<Block> {
        let processors = self.processors();
        let range = self.range_mut(id.range);
        let pages = block_pages(range.pages, id.index.into());
        range.blocks[id.index as usize].take().unwrap_or_else(|| Box::new(Block::new(pages, processors)))
    }

    pub(super) fn put(&mut self, id: BlockId, block: Box<Block>) {
        self.range_mut(id.range).blocks[id.index as usize] = Some(block);
    }

    /// Returns how many bytes of `pages` are resident on each processor, the host first,
    /// and how many are resident nowhere.
    pub(crate) fn resident_bytes(&self, id: RangeId, pages: Range<u64>) -> (Vec<u64>, u64) {
        let mut bytes = vec![0; self.processors()];
        let mut nowhere = (pages.end - pages.start) * PAGE;
        let range = self.range(id);
        for (index, within) in blocks_over(pages) {
            let Some(block) = &range.blocks[index as usize] else { continue };
            for processor in block.processors() {
                bytes[processor.index()] += block.resident(processor).count_in(within.start, within.end) as u64 * PAGE;
            }
            nowhere -= block.anywhere().count_in(within.start, within.end) as u64 * PAGE;
        }
        (bytes, nowhere)
    }

    fn populate(&mut self, id: RangeId, at: Processor) {
        for index in 0..self.range(id).blocks.len() as u32 {
            let block_id = BlockId { range: id, index };
            let mut block = self.take(block_id);
            *block.resident_mut(at) = PageSet::range(0, block.pages);
            self.put(block_id, block);
        }
    }
}
