//! What frees do now and then: a block that comes back on another stream than its heap's, and chunks that are free
//! again.

use super::adaptor::Pool;
use super::heap::Freed;
use super::tag::Tag;
use cumem::{Block, DeallocError, Stream, Upstream};

impl<U: Upstream> Pool<U> {
    /// Frees a block that somebody else made: the upstream, or nobody who has to do with this pool.
    ///
    /// # Safety
    ///
    /// That of [`deallocate`](cumem::MemoryResource::deallocate).
    #[cold]
    pub(super) unsafe fn deallocate_foreign(&self, stream: &Stream, block: Block) -> Result<(), DeallocError> {
        if !self.limits.forwards_larger {
            return Err(DeallocError::foreign("pool", block));
        }
        // SAFETY: this method's contract is the upstream's.
        unsafe { self.upstream.deallocate(stream, block) }
    }

    /// Frees a block whose node is in another heap than that of `stream`: the node moves there.
    #[cold]
    pub(super) fn deallocate_across(&self, stream: &Stream, block: Block) -> Result<(), DeallocError> {
        let tag = Tag::unpack(block.tag());
        let from = usize::from(tag.slot);
        // Slots change hands under the central lock only: once it is held here, the next round is the last. To let
        // go of it in between would let two streams take one slot from each other without end.
        let mut shared = None;
        loop {
            let Some((to, slot)) = self.state.slots.find(stream.id()) else {
                let bound = self.state.bind(shared.get_or_insert_with(|| self.state.lock()), stream).map(drop);
                match bound {
                    Ok(()) => continue,
                    Err(error) => return Err(DeallocError::new(block, error)),
                }
            };
            // The stream may have been given the slot that the node is in.
            if from == to {
                let mut stream_heap = slot.lock();
                if !stream_heap.has_live(&block, &self.limits.rounding) {
                    drop(stream_heap);
                    return Err(DeallocError::foreign("pool", block));
                }
                if stream_heap.serves(stream.id()) {
                    stream_heap.uncount(block.size());
                    stream_heap.heap.free(tag.node);
                    return Ok(());
                }
            } else if let Some((mut source, mut target)) = self.state.slots.lock_both(from, to) {
                if !source.has_live(&block, &self.limits.rounding) {
                    drop((source, target));
                    return Err(DeallocError::foreign("pool", block));
                }
                if target.serves(stream.id()) {
                    source.uncount(block.size());
                    target.heap.attach(source.heap.detach(tag.node));
                    return Ok(());
                }
            }
            // The slot is changing hands.
            shared.get_or_insert_with(|| self.state.lock());
        }
    }

    /// Gives chunks back after a block was freed, if there may be one that is free now.
    #[cold]
    pub(super) fn release_idle(&self, index: usize, threshold: usize, freed: Freed) {
        let mut shared = self.state.lock();
        if shared.chunks.reserved() <= threshold || !(freed.alone || shared.chunks.has_chunk_within(freed.units)) {
            return;
        }
        // The block was freed all the same: a failure here is not its caller's, and nothing is lost.
        let refused = match self.state.fold(&mut shared, index, false) {
            Ok(()) => self.miss(&mut shared).release(threshold, false).refused,
            Err(error) => Some(error.into()),
        };
        if let Some(reason) = refused {
            tracing::warn!(%reason, "the pool keeps more than its release threshold");
        }
    }
}
