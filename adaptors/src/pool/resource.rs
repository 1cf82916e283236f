//! [`Pool`] as a memory resource: the hits, and the calls that start a miss.

use super::adaptor::Pool;
use super::heap::Placed;
use super::refusal::{Refusal, exhausted};
use super::request::Request;
use super::shared::Shared;
use super::streams::{Slot, StreamHeap};
use super::tag::Tag;
use super::units::UNIT;
use cumem::{AllocError, Block, DeallocError, DeviceError, MemoryResource, Stream, Upstream};
use std::alloc::Layout;
use std::num::NonZero;
use std::ptr::NonNull;

// SAFETY: a block is memory of a chunk. A chunk is valid until the pool is dropped, and no other live block shares the
// block's memory (invariant 1). All earlier uses were enqueued before the stream's present point (invariant 2). Chunks
// begin at a multiple of 256, and nodes at multiples of 256 within them. Blocks that are larger than the pool's are the
// upstream's, passed on unchanged.
unsafe impl<U: Upstream> MemoryResource for Pool<U> {
    type Kind = U::Kind;

    #[inline]
    fn allocate(&self, stream: &Stream, layout: Layout) -> Result<Block, AllocError> {
        // A stream that a slot serves belongs to this device, so the fast path does not check the device.
        if layout.size() != 0
            && let Some(units) = self.limits.rounding.units_of(layout.size())
            && let Some((index, slot)) = self.state.slots.find(stream.id())
        {
            let mut stream_heap = slot.lock();
            if stream_heap.serves(stream.id())
                && let Some(placed) = stream_heap.heap.allocate(units, (layout.align() / UNIT).max(1) as u64)
            {
                return Ok(self.make_block(slot, &mut stream_heap, index, placed, layout));
            }
        }
        self.allocate_slow(stream, layout)
    }

    #[inline]
    unsafe fn deallocate(&self, stream: &Stream, block: Block) -> Result<(), DeallocError> {
        let tag = Tag::unpack(block.tag());
        if block.maker() == self.state.maker
            && block.size() != 0
            && let Some(slot) = self.state.slots.get(usize::from(tag.slot))
        {
            let mut stream_heap = slot.lock();
            if stream_heap.serves(stream.id()) && stream_heap.has_live(&block, &self.limits.rounding) {
                slot.uncount(&mut stream_heap, block.size());
                let Some(threshold) = self.limits.release_threshold else {
                    stream_heap.heap.free(tag.node);
                    return Ok(());
                };
                let freed = stream_heap.heap.free_and_join(tag.node);
                drop(stream_heap);
                // Where adjacent chunks can be used as one, a single chunk can become free while chunks beside it have
                // live blocks.
                let units = freed.units.end - freed.units.start;
                if freed.alone || self.limits.granularity.is_some_and(|granule| units >= (granule / UNIT) as u64) {
                    self.release_idle(usize::from(tag.slot), threshold, freed);
                }
                return Ok(());
            }
            return self.deallocate_from(stream, block, stream_heap);
        }
        // SAFETY: the caller upholds the same contract.
        unsafe { self.deallocate_slow(stream, block) }
    }
}

impl<U: Upstream> Pool<U> {
    #[inline]
    pub(super) fn check_device(&self, stream: &Stream) -> Result<(), DeviceError> {
        let (found, expected) = (stream.device_id(), self.state.device.id());
        if found == expected { Ok(()) } else { Err(DeviceError::WrongDevice { what: "the stream", found, expected }) }
    }

    /// Counts a node that has just become live, and makes its block.
    #[inline]
    pub(super) fn make_block(
        &self,
        slot: &Slot,
        stream_heap: &mut StreamHeap,
        index: usize,
        placed: Placed,
        layout: Layout,
    ) -> Block {
        slot.count(stream_heap, layout.size());
        let Placed { node, generation, addr } = placed;
        let slack = layout.size().wrapping_neg() % UNIT;
        let tag = Tag { slot: index as u8, slack: slack as u8, generation, node };
        let addr = NonZero::new(addr as usize * UNIT).expect("no chunk is at address 0");
        Block::new(self.state.maker, NonNull::with_exposed_provenance(addr), layout, tag.pack())
    }

    /// Allocates a block that the fast path did not find.
    #[cold]
    fn allocate_slow(&self, stream: &Stream, layout: Layout) -> Result<Block, AllocError> {
        if self.state.slots.are_hidden() {
            return self.allocate_declared(stream, layout);
        }
        self.allocate_by_mutex(stream, layout)
    }

    /// Allocates a block without the fast path.
    pub(super) fn allocate_by_mutex(&self, stream: &Stream, layout: Layout) -> Result<Block, AllocError> {
        self.check_device(stream)?;
        if layout.size() == 0 {
            return Ok(Block::empty(self.state.maker, layout));
        }
        let align = (layout.align() / UNIT).max(1) as u64;
        let Some(units) = self.limits.rounding.units_of(layout.size()) else {
            if self.limits.forwards_larger {
                return self.upstream.allocate(stream, layout);
            }
            // No block can be this large. The pool reports the request as if it exceeded the maximum.
            return Err(exhausted(&self.state, &*self.state.lock()?, layout.size(), Refusal::AtMaximum));
        };
        self.state.attempt(|shared| {
            let block = self.allocate_by_miss(shared, stream, layout, units, align);
            let failed = block.is_err();
            (block, failed)
        })?
    }

    fn allocate_by_miss(
        &self,
        shared: &mut Shared,
        stream: &Stream,
        layout: Layout,
        units: u32,
        align: u64,
    ) -> Result<Block, AllocError> {
        let (index, slot) = self.state.bind(shared, stream)?;
        self.miss(shared).recut(stream, index, u64::from(units) + align - 1);
        // Another thread of the stream may have missed just before and left enough memory. The fast path also does not
        // try every node.
        {
            let mut stream_heap = slot.lock();
            let cuts_kept = self.limits.lazy;
            let request = Request { units, align, preferred: units, cuts_kept, waits_for_uses: false };
            let admits = |addr, units| shared.chunks.admits(addr, units, request);
            if let Some(placed) = stream_heap.heap.allocate_thorough(units, align, admits) {
                return Ok(self.make_block(slot, &mut stream_heap, index, placed, layout));
            }
        }
        let piece = self.miss(shared).serve(stream, index, units, align, layout.size())?;
        let mut stream_heap = slot.lock();
        let placed = stream_heap.heap.attach_and_allocate(piece.region, units, align);
        Ok(self.make_block(slot, &mut stream_heap, index, placed, layout))
    }

    /// Frees a block that has no node in any heap, or returns why it cannot be freed.
    ///
    /// # Safety
    ///
    /// The caller must uphold the contract of [`deallocate`](MemoryResource::deallocate).
    #[cold]
    unsafe fn deallocate_slow(&self, stream: &Stream, block: Block) -> Result<(), DeallocError> {
        if let Err(error) = self.check_device(stream) {
            return Err(DeallocError::new(block, error));
        }
        if block.maker() != self.state.maker {
            // SAFETY: the caller upholds the same contract.
            return unsafe { self.deallocate_foreign(stream, block) };
        }
        if block.size() == 0 {
            return Ok(());
        }
        Err(DeallocError::foreign("pool", block))
    }
}
