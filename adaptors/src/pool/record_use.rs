//! Recorded uses: a block that is freed is not handed out before other streams have passed the point of the free.

use super::addresses::unit_of;
use super::declared::undeclared;
use super::fence::{Fence, Fences};
use super::idle::is_idle;
use super::state::PoolState;
use super::streams::StreamHeap;
use super::tag::Tag;
use super::uses::Streams;
use crate::AddressError;
use cumem::{Block, DeallocError, DeviceError, Stream};
use std::ptr::NonNull;

impl StreamHeap {
    fn add_use(&mut self, node: u32, stream: &Stream) {
        self.heap.set_used(node, true);
        self.uses.add(node, stream);
    }
}

impl PoolState {
    /// Records that work on `stream` uses a block, which may be freed on another stream. When the block is freed, its
    /// memory is not handed out before `stream` has passed the point of the free. Neither stream waits for the other,
    /// unless the pool has no other memory.
    ///
    /// # Errors
    ///
    /// Returns [`AddressError::Foreign`] if the block is not live in this pool, and [`AddressError::Refused`] for a
    /// stream of another device.
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
    /// let (owner, other) = (Stream::new(&device)?, Stream::new(&device)?);
    /// let pool = CudaResource::new(&device).pool(PoolOptions::new())?;
    /// let block = pool.allocate(&owner, layout::bytes(1000)?)?;
    /// other.wait_for(&owner)?;
    /// // ... work with the block is enqueued on `other` ...
    /// pool.state().record_use(&block, &other)?;
    /// // SAFETY: all work with the block is enqueued on `owner` or on `other`, whose use is recorded.
    /// unsafe { pool.deallocate(&owner, block) }?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn record_use(&self, block: &Block, stream: &Stream) -> Result<(), AddressError> {
        let addr = block.addr();
        self.check_use(addr, stream)?;
        let (block, foreign) = (undeclared(block), AddressError::Foreign { addr });
        let tag = Tag::unpack(block.tag());
        let slot = self.slots.get(usize::from(tag.slot)).filter(|_| block.maker() == self.maker && block.size() != 0);
        let Some(slot) = slot else { return Err(foreign) };
        let mut stream_heap = slot.lock();
        if !stream_heap.has_live(&block, &self.rounding) && !stream_heap.has_used(&block, &self.rounding) {
            return Err(foreign);
        }
        stream_heap.add_use(tag.node, stream);
        Ok(())
    }

    /// Does the same for a block that was released to its address. Returns false if no such block starts there.
    ///
    /// # Errors
    ///
    /// Returns [`AddressError::Refused`] for a stream of another device.
    ///
    /// # Examples
    ///
    /// See [`ByAddress::record_use`](crate::ByAddress::record_use).
    pub fn record_use_at(&self, address: NonNull<u8>, stream: &Stream) -> Result<bool, AddressError> {
        self.check_use(address.as_ptr() as u64, stream)?;
        let Some(addr) = unit_of(address) else { return Ok(false) };
        let mut slots = self.slots.iter().filter(|(_, slot)| slot.released() > 0);
        Ok(slots.any(|(_, slot)| {
            let mut stream_heap = slot.lock();
            let entry = stream_heap.released.get(addr);
            entry.inspect(|entry| stream_heap.add_use(entry.plain_node(), stream)).is_some()
        }))
    }

    fn check_use(&self, addr: u64, stream: &Stream) -> Result<(), AddressError> {
        let refused = |error: DeviceError| AddressError::Refused { addr, reason: error.into() };
        self.device.check_device("the stream", stream.device_id()).map_err(refused)
    }

    /// Frees a block with recorded uses. If the pool's mutex cannot be locked here, the block is freed when the mutex is
    /// released.
    #[cold]
    pub(super) fn deallocate_used(&self, stream: &Stream, block: Block) -> Result<(), DeallocError> {
        let tag = Tag::unpack(block.tag());
        let Some(slot) = self.slots.get(usize::from(tag.slot)) else {
            return Err(DeallocError::foreign("pool", block));
        };
        let Ok(mut shared) = self.lock() else { return self.free_late(stream, block) };
        let streams = slot.lock().uses.get(tag.node);
        // The block is live until all fences are recorded, so that nothing is lost if the driver refuses one.
        let fences = match self.fences_after(stream, &streams) {
            Ok(fences) => fences,
            Err(error) => return Err(DeallocError::new(block, error)),
        };
        let (region, removed) = {
            let mut stream_heap = slot.lock();
            slot.uncount(&mut stream_heap, block.size());
            let removed = stream_heap.uses.remove(tag.node);
            (stream_heap.heap.detach(tag.node), removed)
        };
        shared.arena.insert_region(region, fences);
        drop(shared);
        // The last handle to a stream may be among them. Its drop calls the driver, which must not happen under a lock.
        drop((streams, removed));
        Ok(())
    }

    /// Returns the fences of memory that is freed on `stream` and has uses on other streams.
    fn fences_after(&self, stream: &Stream, uses: &Streams) -> Result<Fences, DeviceError> {
        let mut fences = match is_idle(stream) {
            true => Fences::default(),
            false => Fence::record(stream).or_else(|_| Fence::record_on_device(&self.device, stream.id()))?.into(),
        };
        for used in uses.iter().filter(|used| used.id() != stream.id()) {
            if !used.usable().is_some_and(is_idle) {
                fences.join(&Fence::record_use(&self.device, used)?.into());
            }
        }
        fences.prune();
        Ok(fences)
    }
}
