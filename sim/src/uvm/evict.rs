//! Eviction: whole root chunks of pages move to the host (`uvm_va_block_evict_chunks`).

use super::block::Backing;
use super::chunks::EvictionList;
use super::ids::{BlockId, NoMemory, Processor};
use super::pages::{PAGES_PER_BLOCK, PageSet};
use super::space::Space;
use super::work::MigrationWork;

impl Space {
    /// Evicts chunks of device `gpu` until `bytes` are free. The chunk of block `except` stays.
    pub(super) fn make_room(
        &mut self,
        gpu: usize,
        bytes: u64,
        except: BlockId,
        work: &mut MigrationWork,
    ) -> Result<(), NoMemory> {
        while self.gpus[gpu].free() < bytes {
            let victim = self.gpus[gpu].chunks.victim(except).ok_or(NoMemory)?;
            self.evict(gpu, victim, work);
        }
        Ok(())
    }

    /// Evicts the chunk of block `victim` to the host. Pages of which the host has a copy are not copied.
    fn evict(&mut self, gpu: usize, victim: BlockId, work: &mut MigrationWork) {
        let at = Processor::from_index(gpu + 1);
        let mut block = self.take(victim);
        let leaving = std::mem::take(block.resident_mut(at));
        let copied = leaving.minus(block.resident(Processor::HOST)).minus(&block.discarded);
        let first = u64::from(victim.index) * PAGES_PER_BLOCK as u64;
        let runs = copied.runs().map(|(start, end)| (first + start as u64, (end - start) as u64));
        work.eviction(at, victim.range, first, runs);
        *block.resident_mut(Processor::HOST) = block.resident(Processor::HOST).or(&leaving.minus(&block.discarded));
        block.discarded = block.discarded.minus(&leaving);
        for processor in block.processors() {
            block.unmap_remote(processor, &leaving);
        }
        let backing = std::mem::take(&mut block.backing[gpu]);
        self.gpus[gpu].managed -= backing.bytes;
        if let Some(chunk) = backing.chunk {
            self.gpus[gpu].chunks.remove(chunk);
        }
        self.put(victim, block);
    }

    /// Allocates the device memory that `block` needs to hold `pages` besides its resident pages.
    /// Moves its chunk to the end of the eviction order, unless the block is short and its memory did not grow.
    pub(super) fn back(
        &mut self,
        gpu: usize,
        id: BlockId,
        block: &mut super::block::Block,
        pages: &PageSet,
        work: &mut MigrationWork,
    ) -> Result<(), NoMemory> {
        let held = block.resident(Processor::from_index(gpu + 1)).or(pages);
        let Backing { chunk, bytes } = block.backing[gpu];
        let needed = block.backing_for(&held).max(bytes);
        self.make_room(gpu, needed - bytes, id, work)?;
        let gpu_state = &mut self.gpus[gpu];
        gpu_state.managed += needed - bytes;
        let chunk = match chunk {
            None => gpu_state.chunks.add(id),
            Some(chunk) => {
                // A short block keeps the place that its allocation gave it (`block_mark_memory_used`).
                if block.is_whole() || needed > bytes || gpu_state.chunks.list(chunk) != EvictionList::Used {
                    gpu_state.chunks.move_to(chunk, EvictionList::Used);
                }
                chunk
            }
        };
        block.backing[gpu] = Backing { chunk: Some(chunk), bytes: needed };
        Ok(())
    }

    /// Moves the block's chunk to the list that is evicted first, if none of the block's pages is resident in it.
    pub(super) fn move_if_unused(&mut self, gpu: usize, block: &super::block::Block) {
        if let Some(chunk) = block.backing[gpu].chunk
            && block.resident(Processor::from_index(gpu + 1)).is_empty()
        {
            self.gpus[gpu].chunks.move_to(chunk, EvictionList::Unused);
        }
    }
}
