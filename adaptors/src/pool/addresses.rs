//! Blocks by address: a block that was released to its address is found again without its [`Block`].
//!
//! Only released blocks are in an index, so a pool whose blocks are never released pays nothing. A block is released to
//! the index of the slot that holds its node. A search begins at the slot of the stream that will free the block, which
//! is nearly always that slot.

use super::released::Entry;
use super::snapshot::RegionState;
use super::state::PoolState;
use super::streams::Slot;
use super::tag::Tag;
use super::units::UNIT;
use crate::AddressError;
use cumem::{Block, Stream};
use std::alloc::Layout;
use std::ptr::NonNull;

impl PoolState {
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
        let addr = address.as_ptr() as usize;
        if !addr.is_multiple_of(UNIT) {
            return None;
        }
        let mut stream_heap = slot.lock();
        let entry = stream_heap.released.take((addr / UNIT) as u64)?;
        slot.count_released(&mut stream_heap, 1_u64.wrapping_neg());
        let tag = Tag {
            slot: index as u8,
            slack: entry.slack,
            generation: stream_heap.heap.generation(entry.node),
            node: entry.node,
        };
        let size = entry.units as usize * UNIT - usize::from(entry.slack);
        // The layout of the block that was released.
        let layout = Layout::from_size_align(size, 1 << entry.align_shift).ok()?;
        Some(Block::new(self.maker, address, layout, tag.pack()))
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
