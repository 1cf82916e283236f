use super::gaps::Gaps;
use super::leaf::{Leaf, Place, leaf_layer};
use crate::block::Block;
use crate::code::CudaErrorCode;
use crate::device::Device;
use crate::drop_error::{DropError, record_drop_error};
use crate::error::{AllocError, DeallocError, DriverError};
use crate::kind;
use crate::resource::MemoryResource;
use crate::stream::Stream;
use std::alloc::Layout;
use std::fmt;
use std::num::NonZero;
use std::ops::Range;
use std::ptr::NonNull;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Addresses that are reserved, in multiples of the device's memory: blocks of other sizes come and go, and a
/// block needs addresses in one piece. They cost nothing (256 GiB take 33 µs on an H100).
const OVERCOMMIT: usize = 4;

/// Device memory mapped behind one large range of reserved addresses (`cuMemAddressReserve`, `cuMemCreate`,
/// `cuMemMap`): CUDA's virtual memory management, what PyTorch calls expandable segments.
///
/// Meant to lie under a pool. Each block is whole granules of 2 MiB, placed at the lowest addresses where it
/// fits, so blocks that come one after the other touch, and **blocks that touch can be used as one range**: a
/// pool over it ([`find`](crate::LayerExt::find), through any adaptors and erasure) grows by just what it misses
/// and strands nothing in chunks. Without a pool, a small block takes 2 MiB and about 110 µs per pair.
///
/// Only the device itself can reach the memory; kernels of other devices cannot.
///
/// The resource must outlive its blocks. If it does not, their memory and all of the addresses stay taken, and
/// that is recorded as drops' errors are ([`take_drop_errors`](crate::take_drop_errors)).
#[derive(Debug)]
pub struct CudaVirtualResource {
    addresses: NonNull<u8>,
    /// Bytes.
    reserved: usize,
    /// Bytes.
    granularity: usize,
    space: Mutex<Space>,
    leaf: Leaf,
}

/// In granules from the start of the addresses.
#[derive(Debug)]
struct Space {
    gaps: Gaps,
    next: Option<u64>,
}

// SAFETY: the pointer is an address that is handed out in parts, each to one block, under the lock.
unsafe impl Send for CudaVirtualResource {}
// SAFETY: as for `Send`.
unsafe impl Sync for CudaVirtualResource {}

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
        let reserved = granules * granularity;
        let addresses = driver.reserve_addresses(d, reserved)?;
        let space = Mutex::new(Space { gaps: Gaps::new(granules as u64), next: None });
        Ok(Self { addresses, reserved, granularity, space, leaf: Leaf::new("virtual", Place::Device, device) })
    }

    /// Bytes of a granule: blocks start at a multiple of it, and take a multiple of it.
    pub fn granularity(&self) -> usize {
        self.granularity
    }

    /// The reserved addresses. Every block lies in them, and two blocks in them that touch can be used as one.
    pub fn addresses(&self) -> Range<u64> {
        let start = self.base();
        start..start + self.reserved as u64
    }

    /// The parts of the addresses that no block has, from below. They never touch.
    pub fn gaps(&self) -> Vec<Range<u64>> {
        let addr = |at: u64| self.base() + at * self.granularity as u64;
        self.lock().gaps.iter().map(|gap| addr(gap.start)..addr(gap.end)).collect()
    }

    /// Has the next block placed at `addr`, if a [gap](Self::gaps) that is large enough starts there then, and
    /// otherwise as always. A wish, for whoever fills a place: it changes no promise, and somebody else's next block
    /// may use it up.
    pub fn place_next_at(&self, addr: u64) {
        self.lock().next = self.granule(addr);
    }

    fn base(&self) -> u64 {
        self.addresses.as_ptr().expose_provenance() as u64
    }

    fn granule(&self, addr: u64) -> Option<u64> {
        let (offset, granularity) = (addr.checked_sub(self.base())?, self.granularity as u64);
        offset.is_multiple_of(granularity).then_some(offset / granularity)
    }

    fn lock(&self) -> MutexGuard<'_, Space> {
        self.space.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a block of `bytes` takes, in granules.
    fn granules(&self, bytes: usize) -> u64 {
        bytes.div_ceil(self.granularity) as u64
    }

    fn map(&self, bytes: usize) -> Result<NonNull<u8>, DriverError> {
        let device = &self.leaf.device;
        let count = self.granules(bytes);
        let none =
            DriverError::Call { call: "cuMemAddressReserve", device: device.id(), code: CudaErrorCode::OUT_OF_MEMORY };
        // The lock is not held while the driver works, so that others can be mapped and unmapped beside it.
        let at = {
            let mut space = self.lock();
            let wish = space.next.take();
            wish.and_then(|at| space.gaps.take_at(at, count)).or_else(|| space.gaps.take_lowest(count)).ok_or(none)?
        };
        let offset = at as usize * self.granularity;
        let place = NonNull::with_exposed_provenance(
            NonZero::new(self.base() as usize + offset).expect("no addresses are reserved at 0"),
        );
        // SAFETY: the granules are reserved, and nobody else has them.
        let mapped = unsafe { device.driver().map(device.ordinal(), place, count as usize * self.granularity) };
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
        self.leaf.allocate_aligned(stream, layout, self.granularity, |bytes| self.map(bytes))
    }

    unsafe fn deallocate(&self, stream: &Stream, block: Block) -> Result<(), DeallocError> {
        let device = &self.leaf.device;
        self.leaf.deallocate(stream, block, |block| {
            // The driver takes memory away without waiting for the work that uses it.
            stream.synchronize()?;
            let count = self.granules(block.size());
            let bytes = count as usize * self.granularity;
            // SAFETY: the block is this leaf's, mapped in one piece, and the work that uses it has ended.
            unsafe { device.driver().unmap(device.ordinal(), block.as_non_null(), bytes) }?;
            let at = self.granule(block.addr()).expect("a block of this leaf lies in its addresses");
            self.lock().gaps.give(at, count);
            Ok(())
        })
    }
}

impl Drop for CudaVirtualResource {
    fn drop(&mut self) {
        let live = self.lock().gaps.taken() as usize * self.granularity;
        if live > 0 {
            return record_drop_error("reserved addresses", Err(StillMapped { bytes: live }));
        }
        let device = &self.leaf.device;
        // SAFETY: they were reserved in one piece, and all blocks have been unmapped.
        let result = unsafe { device.driver().release_addresses(device.ordinal(), self.addresses, self.reserved) };
        record_drop_error("reserved addresses", result);
    }
}

/// Why the addresses stay reserved.
#[derive(Debug)]
struct StillMapped {
    bytes: usize,
}

impl fmt::Display for StillMapped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "blocks of {} bytes are still live", self.bytes)
    }
}

impl DropError for StillMapped {
    fn driver_is_gone(&self) -> bool {
        false
    }
}
