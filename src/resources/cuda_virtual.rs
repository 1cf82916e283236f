mod addresses;
mod alias;

use super::leaf::{Leaf, Place, leaf_layer};
use crate::block::Block;
use crate::device::Device;
use crate::device::error::DeviceError;
use crate::device::stream::Stream;
use crate::error::{AllocError, DeallocError};
use crate::kind;
use crate::resource::MemoryResource;
use crate::resources::gaps::Gaps;
use addresses::{Addresses, used_up};
use alias::Aliases;
pub use alias::{Alias, AliasError, UnmapError};
use cumem_driver::DriverError;
use std::alloc::Layout;
use std::ops::Range;
use std::ptr::NonNull;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Addresses that are reserved, in multiples of the device's memory: blocks of other sizes come and go, and a
/// block needs addresses in one piece. They take no memory.
const OVERCOMMIT: usize = 4;

/// Device memory mapped behind one large range of reserved addresses (`cuMemAddressReserve`, `cuMemCreate`,
/// `cuMemMap`): CUDA's virtual memory management, what PyTorch calls expandable segments.
///
/// Meant to lie under a pool. Each block is whole granules of 2 MiB, placed at the lowest addresses where it
/// fits, so blocks that come one after the other touch, and **blocks that touch can be used as one range**: a
/// pool over it ([`find`](crate::LayerExt::find), through any adaptors and erasure) grows by just what it misses
/// and strands nothing in chunks. Without a pool, a small block takes 2 MiB and about 77 µs per pair
/// (`benches/README.md`, H100).
///
/// Only the device itself can reach the memory; kernels of other devices cannot.
///
/// Memory that lies in several places can be used as one range, too: [`map_alias`](Self::map_alias) maps it again, end
/// to end.
///
/// The resource must outlive its blocks and aliases. If it does not, their memory and all of the addresses stay taken,
/// and that is recorded as drops' errors are ([`take_drop_errors`](crate::take_drop_errors)).
#[derive(Debug)]
pub struct CudaVirtualResource {
    addresses: Addresses,
    space: Mutex<Space>,
    aliases: Aliases,
    leaf: Leaf,
}

/// In granules from the start of the addresses.
#[derive(Debug)]
struct Space {
    gaps: Gaps,
    next: Option<u64>,
}

impl CudaVirtualResource {
    /// Reserves addresses for memory of `device`, four times as many as it has memory.
    ///
    /// # Errors
    ///
    /// [`DriverError::NotSupported`] if the device has no virtual memory management, or what the driver answers.
    pub fn new(device: &Device) -> Result<Self, DriverError> {
        if !device.attributes().virtual_memory_management {
            return Err(DriverError::NotSupported { what: "virtual memory management", device: device.id() });
        }
        let (driver, d) = (device.driver(), device.ordinal());
        let granularity = driver.mapping_granularity(d)?;
        let granules = (device.attributes().total_memory.saturating_mul(OVERCOMMIT) / granularity).max(1);
        let addresses = Addresses::reserve(device, granules as u64, granularity)?;
        let space = Mutex::new(Space { gaps: Gaps::new(granules as u64), next: None });
        let leaf = Leaf::new("virtual", Place::Device, device);
        Ok(Self { addresses, space, aliases: Aliases::default(), leaf })
    }

    /// Bytes of a granule: blocks start at a multiple of it, and take a multiple of it.
    pub fn granularity(&self) -> usize {
        self.addresses.granularity()
    }

    /// The reserved addresses. Every block lies in them, and two blocks in them that touch can be used as one.
    pub fn addresses(&self) -> Range<u64> {
        self.addresses.range()
    }

    /// The parts of the addresses that no block has, from below. They never touch.
    pub fn gaps(&self) -> Vec<Range<u64>> {
        let addr = |at: u64| self.addresses().start + at * self.granularity() as u64;
        self.lock().gaps.iter().map(|gap| addr(gap.start)..addr(gap.end)).collect()
    }

    /// Has the next block placed at `addr`, if a [gap](Self::gaps) that is large enough starts there then, and
    /// otherwise as always. A wish, for whoever fills a place: it changes no promise, and somebody else's next block
    /// may use it up.
    pub fn place_next_at(&self, addr: u64) {
        self.lock().next = self.addresses.granule(addr);
    }

    fn lock(&self) -> MutexGuard<'_, Space> {
        self.space.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a block of `bytes` takes, in granules.
    fn granules(&self, bytes: usize) -> u64 {
        bytes.div_ceil(self.granularity()) as u64
    }

    /// The same in bytes.
    fn mapped_bytes(&self, block: &Block) -> usize {
        self.granules(block.size()) as usize * self.granularity()
    }

    fn map(&self, bytes: usize) -> Result<NonNull<u8>, DriverError> {
        let device = &self.leaf.device;
        let count = self.granules(bytes);
        // The lock is not held while the driver works, so that others can be mapped and unmapped beside it.
        let at = {
            let mut space = self.lock();
            let wish = space.next.take();
            let found = wish.and_then(|at| space.gaps.take_at(at, count)).or_else(|| space.gaps.take_lowest(count));
            found.ok_or_else(|| used_up(device))?
        };
        let place = self.addresses.place(at);
        // SAFETY: the granules are reserved, and nobody else has them.
        let mapped = unsafe { device.driver().map(device.ordinal(), place, count as usize * self.granularity()) };
        if mapped.is_err() {
            self.lock().gaps.give(at, count);
        }
        mapped.map(|()| place)
    }
}

leaf_layer!(CudaVirtualResource);

// SAFETY: cuMemMap puts memory of the device that nobody else has behind addresses that no other block has, aligned
// to a granule and valid until cuMemUnmap.
unsafe impl MemoryResource for CudaVirtualResource {
    type Kind = kind::Device;

    fn allocate(&self, stream: &Stream, layout: Layout) -> Result<Block, AllocError> {
        self.leaf.allocate_aligned(stream, layout, self.granularity(), |bytes| self.map(bytes))
    }

    unsafe fn deallocate(&self, stream: &Stream, block: Block) -> Result<(), DeallocError> {
        let device = &self.leaf.device;
        self.leaf.deallocate(stream, block, |block| {
            // The driver takes memory away without waiting for the work that uses it.
            stream.synchronize()?;
            let bytes = self.mapped_bytes(block);
            // SAFETY: the block is this leaf's, mapped in one piece, and the work that uses it has ended.
            unsafe { device.driver().unmap(device.ordinal(), block.as_non_null(), bytes) }?;
            let at = self.addresses.granule(block.addr()).expect("a block of this leaf lies in its addresses");
            self.lock().gaps.give(at, self.granules(block.size()));
            Ok::<_, DeviceError>(())
        })
    }
}

impl Drop for CudaVirtualResource {
    fn drop(&mut self) {
        let device = &self.leaf.device;
        self.addresses.release(device, self.lock().gaps.taken(), "blocks");
        self.aliases.release(device);
    }
}

impl CudaVirtualResource {
    /// Maps the memory of blocks a second time, one block after the other in the order given, so that memory which
    /// lies in several places can be used as one range. Nothing is moved, and no memory is taken: the blocks stay
    /// where they are and share their bytes with the alias, each all the granules that it was rounded up to. Blocks
    /// of zero bytes are passed over.
    ///
    /// The addresses are none of [`addresses`](Self::addresses): as many are reserved for aliases, at the first one.
    ///
    /// # Errors
    ///
    /// [`AliasError::Foreign`] for a block of another resource, [`AliasError::NothingToMap`] if none of the blocks
    /// has memory, or the driver's error ([`DriverError::MissingSymbol`] before CUDA 11.0). Nothing is mapped then.
    ///
    /// # Safety
    ///
    /// Until the alias is [unmapped](Self::unmap_alias):
    ///
    /// - the blocks stay live: none of them is given to [`deallocate`](crate::MemoryResource::deallocate);
    /// - uses of a byte through either address are ordered, by streams and events, as uses through a single address
    ///   have to be; what an operation writes is seen through the other address by operations that come after it
    ///   in that order;
    /// - no kernel uses a byte through both, unless it only reads it. Within a kernel the device keeps no order
    ///   between the two (CUDA C++ Programming Guide, "Virtual Aliasing Support").
    pub unsafe fn map_alias(&self, blocks: &[&Block]) -> Result<Alias, AliasError> {
        let (device, maker) = (&self.leaf.device, self.leaf.maker);
        if let Some(block) = blocks.iter().find(|block| block.maker() != maker) {
            return Err(self.foreign("block", block.addr()));
        }
        let with_memory = blocks.iter().filter(|block| block.size() > 0);
        let pieces: Vec<_> = with_memory.map(|block| (block.as_non_null(), self.mapped_bytes(block))).collect();
        if pieces.is_empty() {
            return Err(AliasError::NothingToMap { blocks: blocks.len() });
        }
        // A block may be there any number of times; more bytes than there are addresses are refused as such.
        let size = pieces.iter().fold(0_usize, |size, (_, bytes)| size.saturating_add(*bytes));
        let count = (size / self.granularity()) as u64;
        let place = self.aliases.take(device, &self.addresses, count)?;
        // SAFETY: each block was mapped by one call and is live; the addresses are reserved, and nobody else has them.
        let mapped = unsafe { device.driver().map_again(device.ordinal(), place, &pieces) };
        if mapped.is_err() {
            self.aliases.give(place, count);
        }
        mapped.map(|()| Alias { addr: place.as_ptr() as u64, size, maker }).map_err(AliasError::Driver)
    }

    /// Unmaps an alias. Its blocks stay as they are.
    ///
    /// # Errors
    ///
    /// [`UnmapError`] returns the alias, still mapped, if it is another resource's, or if the driver refuses.
    ///
    /// # Safety
    ///
    /// All work that uses the addresses of the alias has ended: the driver does not wait for it. Work that uses those
    /// of the blocks may go on.
    pub unsafe fn unmap_alias(&self, alias: Alias) -> Result<(), UnmapError> {
        let device = &self.leaf.device;
        if alias.maker != self.leaf.maker {
            let reason = self.foreign("alias", alias.addr);
            return Err(UnmapError { alias, reason });
        }
        let place = NonNull::new(std::ptr::with_exposed_provenance_mut(alias.addr as usize));
        let place = place.expect("no addresses are reserved at 0");
        // SAFETY: the alias is this resource's, mapped there by one call, and the work that uses it has ended.
        match unsafe { device.driver().unmap(device.ordinal(), place, alias.size) } {
            Ok(()) => {
                self.aliases.give(place, (alias.size / self.granularity()) as u64);
                Ok(())
            }
            Err(error) => Err(UnmapError { alias, reason: error.into() }),
        }
    }

    #[cold]
    fn foreign(&self, what: &'static str, addr: u64) -> AliasError {
        AliasError::Foreign { layer: self.leaf.name, what, addr }
    }
}
