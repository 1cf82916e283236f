//! Blocks that are declared to the race detector of a simulated device, because only the pool knows which of its memory
//! is free.

use super::adaptor::Pool;
use super::tag::Tag;
use super::units::UNIT;
use cumem::sim::{declare_handed_out, declare_kept};
use cumem::{AllocError, Block, DeallocError, MemoryResource, Stream, Upstream};
use std::alloc::Layout;

impl<U: Upstream> Pool<U> {
    /// Allocates a block, and declares it. The block is the one that the fast path would return.
    #[cold]
    pub(super) fn allocate_declared(&self, stream: &Stream, layout: Layout) -> Result<Block, AllocError> {
        let block = match self.allocate_by_hit(stream, layout) {
            Some(block) => block,
            None => self.allocate_by_mutex(stream, layout)?,
        };
        if block.maker() != self.state.maker || block.size() == 0 {
            return Ok(block);
        }
        declare_handed_out(&block, stream);
        Ok(retagged(&block, Tag::unpack(block.tag()).declared()))
    }

    /// Allocates as the fast path does.
    fn allocate_by_hit(&self, stream: &Stream, layout: Layout) -> Option<Block> {
        let units = self.limits.rounding.units_of(layout.size()).filter(|_| layout.size() != 0)?;
        let (index, slot) = self.state.slots.find_bound(stream.id())?;
        let mut stream_heap = slot.lock();
        if !stream_heap.serves(stream.id()) {
            return None;
        }
        let placed = stream_heap.heap.allocate(units, (layout.align() / UNIT).max(1) as u64)?;
        Some(self.make_block(slot, &mut stream_heap, index, placed, layout))
    }

    /// Frees a declared block, whose undeclared tag is `tag`.
    #[cold]
    pub(super) fn deallocate_declared(&self, stream: &Stream, block: Block, tag: Tag) -> Result<(), DeallocError> {
        let plain = retagged(&block, tag);
        let rounding = &self.limits.rounding;
        let slot = self.state.slots.get(usize::from(tag.slot));
        let (live, used) = slot.map_or((false, false), |slot| {
            let stream_heap = slot.lock();
            (stream_heap.has_live(&plain, rounding), stream_heap.has_used(&plain, rounding))
        });
        if used {
            // Not declared as free, because the recorded uses are not ordered before this point of the stream.
            return self.state.deallocate_used(stream, plain).map_err(|mut error| {
                error.block = retagged(&error.block, tag.declared());
                error
            });
        }
        if !live {
            return Err(DeallocError::foreign("pool", block));
        }
        // Before the free, because another thread may then get the memory.
        declare_kept(&plain, stream);
        // SAFETY: the caller gave up the block, which is live. `plain` is the same block.
        unsafe { self.deallocate(stream, plain) }.map_err(|mut error| {
            declare_handed_out(&error.block, stream);
            error.block = retagged(&error.block, tag.declared());
            error
        })
    }
}

/// Returns the block as it is without the race detector.
pub(super) fn undeclared(block: &Block) -> Block {
    let tag = Tag::unpack(block.tag());
    retagged(block, tag.if_declared().unwrap_or(tag))
}

fn retagged(block: &Block, tag: Tag) -> Block {
    Block::new(block.maker(), block.as_non_null(), block.layout(), tag.pack())
}
