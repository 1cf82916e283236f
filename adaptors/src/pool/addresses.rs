//! Blocks by address: a block that was released to its address is found again without its [`Block`].
//!
//! Only released blocks are in an index, so a pool whose blocks are never released pays nothing. A block is released to
//! the index of the slot that holds its node. A search begins at the slot of the stream that will free the block, which
//! is nearly always that slot.

use super::released::Entry;
use super::snapshot::RegionState;
use super::state::PoolState;
use super::streams::{Slot, StreamHeap};
use super::tag::Tag;
use super::units::UNIT;
use crate::AddressError;
use cumem::device::StreamId;
use cumem::{Block, Stream};
use std::alloc::Layout;
use std::ptr::NonNull;

/// Returns an address in units, or `None` if no block can start there.
#[inline]
pub(super) fn unit_of(address: NonNull<u8>) -> Option<u64> {
    let addr = address.as_ptr() as usize;
    addr.is_multiple_of(UNIT).then_some((addr / UNIT) as u64)
}

impl PoolState {
    /// Allocates a block of this pool and releases it to its address, under one lock, if the stream's heap has memory for
    /// it. The caller must own the whole stack: no layer above the pool sees the block.
    #[inline(always)]
    pub(crate) fn allocate_hit(&self, stream: StreamId, layout: Layout) -> Option<NonNull<u8>> {
        let size = layout.size();
        let units = self.rounding.units_of(size).filter(|_| size != 0)?;
        let (_, slot) = self.slots.find(stream)?;
        let mut stream_heap = slot.lock();
        if !stream_heap.serves(stream) {
            return None;
        }
        let placed = stream_heap.heap.allocate(units, (layout.align() / UNIT).max(1) as u64)?;
        slot.count(&mut stream_heap, size);
        stream_heap.released.insert(Entry {
            addr: placed.addr,
            units: size.div_ceil(UNIT) as u32,
            slack: (size.wrapping_neg() % UNIT) as u8,
            align_shift: layout.align().trailing_zeros() as u8,
            node: placed.node,
        });
        slot.count_released(&mut stream_heap, 1);
        NonNull::new(std::ptr::with_exposed_provenance_mut(placed.addr as usize * UNIT))
    }

    /// Frees a released block of the stream's own heap, under one lock. If `size` is some, only a block of that size.
    /// Returns false if nothing was freed, for whichever reason. The caller must own the whole stack.
    ///
    /// # Safety
    ///
    /// The caller must uphold the contract of [`deallocate`](cumem::MemoryResource::deallocate) for the block.
    #[inline(always)]
    pub(crate) unsafe fn deallocate_hit(&self, stream: StreamId, address: NonNull<u8>, size: Option<usize>) -> bool {
        let (Some(addr), Some((_, slot))) = (unit_of(address), self.slots.find(stream)) else { return false };
        let mut stream_heap = slot.lock();
        if self.releases_early || !stream_heap.serves(stream) {
            return false;
        }
        let StreamHeap { heap, released, .. } = &mut *stream_heap;
        let Some(at) = released.find(addr) else { return false };
        let entry = released.at(at);
        // A block with a recorded use takes the slow path.
        if size.is_some_and(|size| size != entry.size()) || !heap.is_live(entry.node) {
            return false;
        }
        released.remove(at);
        slot.count_released(&mut stream_heap, 1_u64.wrapping_neg());
        slot.uncount(&mut stream_heap, entry.size());
        stream_heap.heap.free(entry.node);
        true
    }

    /// Releases a block to its address. The pool keeps the block's description until [`reclaim`](Self::reclaim).
    ///
    /// # Errors
    ///
    /// Returns the block if this pool did not make it, or if it has zero bytes and thus no address of its own.
    ///
    /// # Safety
    ///
    /// The caller must ensure that the `allocate` of a resource returned `block`, which was not created with
    /// [`Block::new`]: a copy of a block would permit code that holds only an address to free the block of another
    /// holder.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem::sim::Profile;
    /// use cumem::{CudaResource, Device, MemoryResource, Stream, layout};
    /// use cumem_adaptors::{PoolOptions, ResourceExt};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let device = Device::simulated(Profile::default())?;
    /// let stream = Stream::new(&device)?;
    /// let pool = CudaResource::new(&device).pool(PoolOptions::new())?;
    /// let block = pool.allocate(&stream, layout::bytes(1000)?)?;
    /// // SAFETY: the pool returned the block.
    /// let address = unsafe { pool.state().release(block) }.expect("the pool made the block");
    /// let block = pool.state().reclaim(address, &stream).expect("the block was released");
    /// assert_eq!((block.as_non_null(), block.size()), (address, 1000));
    /// assert!(pool.state().reclaim(address, &stream).is_none()); // another holder has the block now
    /// # // SAFETY: the pool returned the block, and nothing uses it.
    /// # unsafe { cumem::MemoryResource::deallocate(&pool, &stream, block) }?;
    /// # Ok(())
    /// # }
    /// ```
    #[inline]
    pub unsafe fn release(&self, block: Block) -> Result<NonNull<u8>, Block> {
        let tag = Tag::unpack(block.tag());
        if block.maker() != self.maker || block.size() == 0 {
            return Err(block);
        }
        let Some(slot) = self.slots.get(usize::from(tag.slot)) else { return Err(block) };
        let entry = Entry {
            addr: block.addr() / UNIT as u64,
            units: block.size().div_ceil(UNIT) as u32,
            slack: tag.slack,
            align_shift: block.layout().align().trailing_zeros() as u8,
            node: tag.node,
        };
        let mut stream_heap = slot.lock();
        stream_heap.released.insert(entry);
        slot.count_released(&mut stream_heap, 1);
        Ok(block.as_non_null())
    }

    /// Returns the released block at an address, which is then no longer released. `stream` is the stream on which
    /// the caller will free the block; its blocks are found fastest.
    ///
    /// # Examples
    ///
    /// See [`release`](Self::release).
    #[inline]
    pub fn reclaim(&self, address: NonNull<u8>, stream: &Stream) -> Option<Block> {
        if let Some((index, slot)) = self.slots.find(stream.id())
            && let Some(block) = self.take_released(index, slot, address)
        {
            return Some(block);
        }
        self.reclaim_elsewhere(address)
    }

    #[cold]
    fn reclaim_elsewhere(&self, address: NonNull<u8>) -> Option<Block> {
        let mut slots = self.slots.iter().filter(|(_, slot)| slot.released() > 0);
        slots.find_map(|(index, slot)| self.take_released(index, slot, address))
    }

    #[inline]
    fn take_released(&self, index: usize, slot: &Slot, address: NonNull<u8>) -> Option<Block> {
        let addr = unit_of(address)?;
        let mut stream_heap = slot.lock();
        let entry = stream_heap.released.take(addr)?;
        slot.count_released(&mut stream_heap, 1_u64.wrapping_neg());
        let tag = Tag {
            slot: index as u8,
            slack: entry.slack,
            generation: stream_heap.heap.generation(entry.plain_node()),
            node: entry.node,
        };
        // The layout of the block that was released.
        let layout = Layout::from_size_align(entry.size(), 1 << entry.align_shift).ok()?;
        Some(Block::new(self.maker, address, layout, tag.pack()))
    }

    /// Returns the number of blocks that are released to their addresses.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{CudaResource, Device};
    /// # use cumem_adaptors::{PoolOptions, ResourceExt};
    /// # let device = Device::simulated(Profile::default())?;
    /// let pool = CudaResource::new(&device).pool(PoolOptions::new())?;
    /// assert_eq!(pool.state().released(), 0);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn released(&self) -> usize {
        self.slots.iter().map(|(_, slot)| slot.released()).sum::<u64>() as usize
    }

    /// Returns what is at an address at which no released block starts, or `None` if the address is not the pool's.
    /// Visits all memory of the pool.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem::sim::Profile;
    /// use cumem::{CudaResource, Device, MemoryResource, Stream, layout};
    /// use cumem_adaptors::{AddressError, PoolOptions, ResourceExt};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let device = Device::simulated(Profile::default())?;
    /// let stream = Stream::new(&device)?;
    /// let pool = CudaResource::new(&device).pool(PoolOptions::new())?;
    /// let block = pool.allocate(&stream, layout::bytes(1000)?)?;
    /// let (addr, start) = (block.addr() + 8, block.addr());
    /// assert_eq!(pool.state().explain(addr), Some(AddressError::Inner { addr, start, size: 1024 }));
    /// # // SAFETY: the pool returned the block, and nothing uses it.
    /// # unsafe { cumem::MemoryResource::deallocate(&pool, &stream, block) }?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn explain(&self, addr: u64) -> Option<AddressError> {
        let regions = self.snapshot().regions;
        let region = regions.iter().find(|region| (region.addr..region.addr + region.bytes as u64).contains(&addr))?;
        Some(match region.state {
            RegionState::Live if region.addr == addr => AddressError::NotReleased { addr },
            RegionState::Live => AddressError::Inner { addr, start: region.addr, size: region.bytes },
            _ => AddressError::AlreadyFree { addr },
        })
    }
}
