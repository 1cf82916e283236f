mod addresses;
mod alias;

use super::gaps::Gaps;
use super::leaf::{Leaf, Place, leaf_layer};
use crate::block::Block;
use crate::device::Device;
use crate::device::error::DeviceError;
use crate::device::stream::Stream;
use crate::error::{AllocError, DeallocError};
use crate::kind;
use crate::resource::MemoryResource;
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
