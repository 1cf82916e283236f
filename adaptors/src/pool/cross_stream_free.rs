//! Rare cases of a free: a block that is freed on another stream than its heap's, a block of the upstream, and chunks
//! that become free.

use super::adaptor::Pool;
use super::growth_lock::Locked;
use super::heap::Freed;
use super::state::PoolState;
use super::streams::StreamHeap;
use super::sync::Guard;
use super::tag::Tag;
use cumem::device::deferral::after_locks;
use cumem::{Block, DeallocError, Stream, Upstream};

impl<U: Upstream> Pool<U> {
    /// Frees a block that this pool did not make. The pool passes blocks of its upstream on, and refuses all others as
    /// foreign.
    ///
    /// # Safety
    ///
    /// The caller must uphold the contract of [`deallocate`](cumem::MemoryResource::deallocate).
    #[cold]
    pub(super) unsafe fn deallocate_foreign(&self, stream: &Stream, block: Block) -> Result<(), DeallocError> {
        if !self.limits.forwards_larger {
            return Err(DeallocError::foreign("pool", block));
        }
        // SAFETY: this method's contract is the upstream's.
        unsafe { self.upstream.deallocate(stream, block) }
    }

    /// Frees a block through the slot `source` that holds its node, and that does not serve `stream` or does not have
    /// the block. The caller has locked that slot.
    ///
    /// If the order of the locks allows that, the slot is not locked again, because each lock makes the thread wait that
    /// uses the slot.
    #[cold]
    pub(super) fn deallocate_from(
        &self,
        stream: &Stream,
        block: Block,
        mut source: Guard<'_, StreamHeap>,
    ) -> Result<(), DeallocError> {
        if let Err(error) = self.check_device(stream) {
            drop(source);
            return Err(DeallocError::new(block, error));
        }
        let tag = Tag::unpack(block.tag());
        if let Some(tag) = tag.if_declared() {
            // The race detector locks the machine, which must not happen under the lock of a slot.
            drop(source);
            return self.deallocate_declared(stream, block, tag);
        }
        if !source.has_live(&block, &self.limits.rounding) {
            let used = source.has_used(&block, &self.limits.rounding);
            drop(source);
            if used {
                return self.state.deallocate_used(stream, block);
            }
            return Err(DeallocError::foreign("pool", block));
        }
        let from = usize::from(tag.slot);
        if let Some((to, slot)) = self.state.slots.find_bound(stream.id())
            && from < to
        {
            let mut target = slot.lock();
            if target.serves(stream.id()) {
                self.state.move_freed(tag, &block, &mut source, &mut target);
                return Ok(());
            }
        }
        drop(source);
        self.state.deallocate_across(stream, block)
    }

    /// Frees chunks after a block was freed, if one of them may be wholly free now.
    #[cold]
    pub(super) fn release_idle(&self, index: usize, threshold: usize, freed: Freed) {
        // Inside a call of the pool, the memory stays until the next block is freed.
        let Ok(mut shared) = self.state.lock() else { return };
        if shared.chunks.reserved() <= threshold || !(freed.alone || shared.chunks.has_chunk_within(freed.units)) {
            return;
        }
        // The block has been freed in any case. A failure here does not concern the caller, and no memory is lost.
        let refused = match self.state.fold(&mut shared, index, false) {
            Ok(()) => self.miss(&mut shared).release(threshold, false).refused,
            Err(error) => Some(error.into()),
        };
        drop(shared);
        if let Some(reason) = refused {
            // The pool above this one may hold its mutex.
            after_locks(move || tracing::warn!(%reason, "the pool keeps more than its release threshold"));
        }
    }
}

impl PoolState {
    /// Frees a block whose node is in another heap than the heap of `stream`. The node moves to the heap of `stream`. If
    /// that needs the pool's mutex, and the mutex cannot be locked here, the block is freed when the mutex is released.
    #[cold]
    pub(super) fn deallocate_across(&self, stream: &Stream, block: Block) -> Result<(), DeallocError> {
        let tag = Tag::unpack(block.tag());
        let from = usize::from(tag.slot);
        if self.slots.get(from).is_some_and(|slot| slot.lock().has_used(&block, &self.rounding)) {
            return self.deallocate_used(stream, block);
        }
        // A slot is given to another stream only under the pool's mutex. Once this loop holds the mutex, its next round
        // is the last. If the loop released the mutex in between, two streams could take one slot from each other
        // forever.
        let mut shared = None;
        loop {
            let Some((to, slot)) = self.slots.find_bound(stream.id()) else {
                let Some(shared) = self.lock_once(&mut shared) else { return self.free_late(stream, block) };
                match self.bind(shared, stream).map(drop) {
                    Ok(()) => continue,
                    Err(_) if shared.has_refused() => return self.free_late(stream, block),
                    Err(error) => return Err(DeallocError::new(block, error)),
                }
            };
            // `stream` may have been given the slot that holds the node.
            if from == to {
                let mut stream_heap = slot.lock();
                if !stream_heap.has_live(&block, &self.rounding) {
                    drop(stream_heap);
                    return Err(DeallocError::foreign("pool", block));
                }
                if stream_heap.serves(stream.id()) {
                    slot.uncount(&mut stream_heap, block.size());
                    stream_heap.heap.free(tag.node);
                    return Ok(());
                }
            } else if let Some((mut source, mut target)) = self.slots.lock_both(from, to) {
                if !source.has_live(&block, &self.rounding) {
                    drop((source, target));
                    return Err(DeallocError::foreign("pool", block));
                }
                if target.serves(stream.id()) {
                    self.move_freed(tag, &block, &mut source, &mut target);
                    return Ok(());
                }
            }
            // The slot is being given to another stream.
            if self.lock_once(&mut shared).is_none() {
                return self.free_late(stream, block);
            }
        }
    }

    /// Moves the node of a freed block from the heap that holds it to another one.
    fn move_freed(&self, tag: Tag, block: &Block, source: &mut StreamHeap, target: &mut StreamHeap) {
        self.slots.make(usize::from(tag.slot)).uncount(source, block.size());
        target.heap.attach(source.heap.detach(tag.node));
    }

    /// Locks the pool's mutex unless `locked` holds it already. Returns `None` if it cannot be locked here.
    fn lock_once<'a, 'b>(&'a self, locked: &'b mut Option<Locked<'a>>) -> Option<&'b mut Locked<'a>> {
        if locked.is_none() {
            *locked = self.lock().ok();
        }
        locked.as_mut()
    }
}
