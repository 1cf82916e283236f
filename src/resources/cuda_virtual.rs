mod addresses;
mod alias;

use super::leaf::{Finished, Leaf, Place, leaf_layer};
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

/// The size of the reserved address range, as a multiple of the device's memory. A block needs addresses in one piece,
/// and blocks of different sizes fragment the range, so the range is larger than the memory. Reserved addresses take no
/// memory.
const OVERCOMMIT: usize = 4;

/// A leaf of device memory that is mapped into one large range of reserved addresses (`cuMemAddressReserve`,
/// `cuMemCreate`, `cuMemMap`). CUDA calls this virtual memory management, PyTorch calls it expandable segments.
///
/// Use a pool over this leaf. Each block consists of whole granules of 2 MiB, at the lowest free addresses with enough
/// room. Blocks that are allocated one after the other therefore touch, and **blocks that touch can be used as one
/// range**. A pool over this leaf grows by exactly the missing bytes, and no memory is stranded between chunks. The
/// pool finds the leaf with [`find`](crate::LayerExt::find), also through other adaptors and
/// [`AnyUpstream`](crate::AnyUpstream). Without a pool, a small block takes 2 MiB, and its allocation and deallocation
/// take about 77 µs together (`benches/README.md`, H100).
///
/// Only kernels of this device can use the memory.
///
/// Memory at several places can also be used as one range: [`map_alias`](Self::map_alias) maps the places a second
/// time, in one piece.
///
/// The resource must outlive its blocks and aliases. Otherwise their memory and the whole address range stay reserved,
/// and the resource records an error ([`take_drop_errors`](crate::error::take_drop_errors)).
///
/// # Examples
///
/// ```
/// use cumem::sim::Profile;
/// use cumem::{CudaVirtualResource, Device, MemoryResource, Stream, layout};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let device = Device::simulated(Profile::default())?;
/// let stream = Stream::new(&device)?;
/// let resource = CudaVirtualResource::new(&device)?;
/// let granule = resource.granularity();
/// let first = resource.allocate(&stream, layout::bytes(granule)?)?;
/// let second = resource.allocate(&stream, layout::bytes(granule)?)?;
/// assert_eq!(second.addr(), first.addr() + granule as u64); // both blocks can be used as one range
/// for block in [first, second] {
///     // SAFETY: the resource returned the block, and nothing has used it.
///     unsafe { resource.deallocate(&stream, block) }?;
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct CudaVirtualResource {
    addresses: Addresses,
    space: Mutex<Space>,
    aliases: Aliases,
    /// The ordinals of the other devices that can access all memory.
    peers: Vec<u32>,
    leaf: Leaf,
}

/// The free addresses. All numbers count granules from the start of the address range.
#[derive(Debug)]
struct Space {
    gaps: Gaps,
    /// The place for the next block, from [`place_next_at`](CudaVirtualResource::place_next_at).
    next: Option<u64>,
    /// The places of blocks that closures of kernels freed, each with its granules. The simulated device unmaps them
    /// after its work.
    late: Vec<(u64, u64)>,
}

impl CudaVirtualResource {
    /// Creates a resource of `device`'s memory and reserves its address range, which is four times as large as the
    /// device's memory.
    ///
    /// # Errors
    ///
    /// Returns [`DriverError::NotSupported`] if the device has no virtual memory management, or the driver's error.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Buffer, CudaVirtualResource, Device, Stream};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// let memory = CudaVirtualResource::new(&device)?;
    /// let numbers = Buffer::from_slice(&[1, 2, 3], &stream, &memory)?;
    /// assert_eq!(numbers.to_vec()?, [1, 2, 3]);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn new(device: &Device) -> Result<Self, DriverError> {
        if !device.attributes().virtual_memory_management {
            return Err(DriverError::NotSupported { what: "virtual memory management", device: device.id() });
        }
        let (driver, d) = (device.driver(), device.ordinal());
        let granularity = driver.mapping_granularity(d)?;
        let granules = (device.attributes().total_memory.saturating_mul(OVERCOMMIT) / granularity).max(1);
        let addresses = Addresses::reserve(device, granules as u64, granularity)?;
        let space = Mutex::new(Space { gaps: Gaps::new(granules as u64), next: None, late: Vec::new() });
        let leaf = Leaf::new("virtual", Place::Device, device);
        Ok(Self { addresses, space, aliases: Aliases::default(), peers: Vec::new(), leaf })
    }

    /// Creates a resource whose memory other devices of the machine can access, too (`cuMemSetAccess`). Kernels of these
    /// devices then use its blocks over the link between the devices.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`new`](Self::new), [`DeviceError::WrongDevice`] for a device of another machine, and
    /// [`DriverError::NotSupported`] if a device has no access to the memory of `device`.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem::sim::{Profile, Simulator};
    /// use cumem::{Buffer, CudaVirtualResource, Device, Stream};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let machine = Simulator::new([Profile::default(), Profile::default()])?;
    /// let (first, second) = (Device::of_simulator(&machine, 0)?, Device::of_simulator(&machine, 1)?);
    /// let memory = CudaVirtualResource::with_peers(&first, &[&second])?;
    /// let _shared = Buffer::from_slice(&[1, 2, 3], &Stream::new(&first)?, memory)?; // for kernels of both devices
    /// # Ok(())
    /// # }
    /// ```
    pub fn with_peers(device: &Device, peers: &[&Device]) -> Result<Self, DeviceError> {
        let mut ordinals = Vec::new();
        for peer in peers {
            let (id, found) = (device.id(), peer.id());
            if !found.same_machine(id) {
                return Err(DeviceError::WrongDevice { what: "the other device", found, expected: id });
            }
            if !device.driver().can_access_peer(peer.ordinal(), device.ordinal())? {
                return Err(
                    DriverError::NotSupported { what: "access to the memory of that device", device: found }.into()
                );
            }
            ordinals.push(peer.ordinal());
        }
        let mut resource = Self::new(device)?;
        resource.peers = ordinals;
        Ok(resource)
    }

    /// Lets the other devices access memory that was just mapped, or unmaps it.
    fn open_to_peers(&self, place: NonNull<u8>, bytes: usize) -> Result<(), DriverError> {
        let (driver, d) = (self.leaf.device.driver(), self.leaf.device.ordinal());
        // SAFETY: the range was just mapped as a whole.
        let opened = self.peers.iter().try_for_each(|&peer| unsafe { driver.set_access(d, place, bytes, peer) });
        if opened.is_err() {
            // SAFETY: the range was just mapped, and nothing uses it yet.
            unsafe { driver.unmap(d, place, bytes) }?;
        }
        opened
    }

    /// Returns the bytes of a granule. The address and the memory of each block are multiples of a granule.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem::sim::Profile;
    /// use cumem::Device;
    /// use cumem::resources::CudaVirtualResource;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let device = Device::simulated(Profile::default())?;
    /// let resource = CudaVirtualResource::new(&device)?;
    /// assert_eq!(resource.granularity(), 2 << 20);
    /// # Ok(())
    /// # }
    /// ```
    pub fn granularity(&self) -> usize {
        self.addresses.granularity()
    }

    /// Returns the reserved address range. The range contains all blocks, and two blocks that touch can be used as one
    /// range.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem::sim::Profile;
    /// use cumem::{Device, MemoryResource, Stream, layout};
    /// use cumem::resources::CudaVirtualResource;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let device = Device::simulated(Profile::default())?;
    /// let stream = Stream::new(&device)?;
    /// let resource = CudaVirtualResource::new(&device)?;
    /// let block = resource.allocate(&stream, layout::bytes(2 << 20)?)?;
    /// assert!(resource.addresses().contains(&block.addr()));
    /// # // SAFETY: the resource returned the block, and nothing uses it.
    /// # unsafe { resource.deallocate(&stream, block) }?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn addresses(&self) -> Range<u64> {
        self.addresses.range()
    }

    /// Returns the parts of the address range that no block occupies, in ascending order. Two gaps never touch.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem::sim::Profile;
    /// use cumem::{CudaVirtualResource, Device, MemoryResource, Stream, layout};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let device = Device::simulated(Profile::default())?;
    /// let stream = Stream::new(&device)?;
    /// let resource = CudaVirtualResource::new(&device)?;
    /// let granule = resource.granularity() as u64;
    /// let block = resource.allocate(&stream, layout::bytes(1000)?)?;
    /// let addresses = resource.addresses();
    /// assert_eq!(resource.gaps(), [addresses.start + granule..addresses.end]);
    /// # // SAFETY: the resource returned the block, and nothing has used it.
    /// # unsafe { resource.deallocate(&stream, block) }?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn gaps(&self) -> Vec<Range<u64>> {
        let addr = |at: u64| self.addresses().start + at * self.granularity() as u64;
        self.lock().gaps.iter().map(|gap| addr(gap.start)..addr(gap.end)).collect()
    }

    /// Places the next block at `addr` if a [gap](Self::gaps) that is large enough starts there. Otherwise the block is
    /// placed at the lowest addresses as usual.
    ///
    /// This is only a hint, for callers that want to fill a gap. The next allocation, by any caller, consumes the hint.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem::sim::Profile;
    /// use cumem::{CudaVirtualResource, Device, MemoryResource, Stream, layout};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let device = Device::simulated(Profile::default())?;
    /// let stream = Stream::new(&device)?;
    /// let resource = CudaVirtualResource::new(&device)?;
    /// let granule = layout::bytes(resource.granularity())?;
    /// let blocks = [(); 4].map(|()| resource.allocate(&stream, granule).unwrap());
    /// let [first, second, third, fourth] = blocks;
    /// let place = third.addr();
    /// for block in [first, third] {
    ///     // SAFETY: the resource returned the block, and nothing has used it.
    ///     unsafe { resource.deallocate(&stream, block) }?;
    /// }
    /// resource.place_next_at(place); // otherwise the block would be placed where the first was
    /// let block = resource.allocate(&stream, granule)?;
    /// assert_eq!(block.addr(), place);
    /// # for block in [second, fourth, block] {
    /// #     // SAFETY: the resource returned the block, and nothing has used it.
    /// #     unsafe { resource.deallocate(&stream, block) }?;
    /// # }
    /// # Ok(())
    /// # }
    /// ```
    pub fn place_next_at(&self, addr: u64) {
        self.lock().next = self.addresses.granule(addr);
    }

    fn lock(&self) -> MutexGuard<'_, Space> {
        self.space.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the number of granules of a block of `bytes` bytes.
    fn granules(&self, bytes: usize) -> u64 {
        bytes.div_ceil(self.granularity()) as u64
    }

    /// Returns the bytes of the granules of a block.
    fn mapped_bytes(&self, block: &Block) -> usize {
        self.granules(block.size()) as usize * self.granularity()
    }

    /// Makes the places of late frees available again. Within the closure of a kernel, which cannot wait, they stay.
    fn take_back_late(&self) {
        let late = std::mem::take(&mut self.lock().late);
        if late.is_empty() {
            return;
        }
        let waited = self.leaf.device.synchronize();
        let mut space = self.lock();
        match waited {
            Ok(()) => late.into_iter().for_each(|(at, count)| space.gaps.give(at, count)),
            Err(_) => space.late.extend(late),
        }
    }

    fn map(&self, bytes: usize) -> Result<NonNull<u8>, DriverError> {
        let device = &self.leaf.device;
        let count = self.granules(bytes);
        // The lock is not held during the driver call, so that other threads can map and unmap blocks at the same time.
        self.take_back_late();
        let at = {
            let mut space = self.lock();
            let hint = space.next.take();
            let found = hint.and_then(|at| space.gaps.take_at(at, count)).or_else(|| space.gaps.take_lowest(count));
            found.ok_or_else(|| used_up(device))?
        };
        let place = self.addresses.place(at);
        // SAFETY: the granules are reserved, and no other block has them.
        let mapped = unsafe { device.driver().map(device.ordinal(), place, count as usize * self.granularity()) }
            .and_then(|()| self.open_to_peers(place, count as usize * self.granularity()));
        if mapped.is_err() {
            self.lock().gaps.give(at, count);
        }
        mapped.map(|()| place)
    }
}

leaf_layer!(CudaVirtualResource);

// SAFETY: cuMemMap maps device memory that no other allocation has at addresses that no other block has. They are
// aligned to a granule and valid until cuMemUnmap.
unsafe impl MemoryResource for CudaVirtualResource {
    type Kind = kind::Device;

    fn allocate(&self, stream: &Stream, layout: Layout) -> Result<Block, AllocError> {
        self.leaf.allocate_aligned(stream, layout, self.granularity(), |bytes| self.map(bytes))
    }

    unsafe fn deallocate(&self, stream: &Stream, block: Block) -> Result<(), DeallocError> {
        let device = &self.leaf.device;
        self.leaf.deallocate(stream, block, |block| {
            // The driver unmaps memory without waiting for work that uses the memory.
            let finished = self.leaf.finish(stream)?;
            let bytes = self.mapped_bytes(block);
            // SAFETY: this leaf mapped the block with one call, and all work on that memory has ended.
            unsafe { device.driver().unmap(device.ordinal(), block.as_non_null(), bytes) }?;
            let at = self.addresses.granule(block.addr()).expect("a block of this leaf lies in its addresses");
            let count = self.granules(block.size());
            match finished {
                Finished::Now => self.lock().gaps.give(at, count),
                Finished::Later => self.lock().late.push((at, count)),
            }
            Ok::<_, DeviceError>(())
        })
    }
}

impl Drop for CudaVirtualResource {
    fn drop(&mut self) {
        let device = &self.leaf.device;
        let taken = {
            let mut space = self.lock();
            // The simulated device releases the addresses after it has unmapped the blocks.
            let late = std::mem::take(&mut space.late);
            late.into_iter().for_each(|(at, count)| space.gaps.give(at, count));
            space.gaps.taken()
        };
        self.addresses.release(device, taken, "blocks");
        self.aliases.release(device);
    }
}

impl CudaVirtualResource {
    /// Maps the memory of blocks a second time, one block after the other in the given order, so that memory at several
    /// places can be used as one range.
    ///
    /// No bytes are copied and no memory is allocated. The blocks stay at their addresses and share their bytes with
    /// the alias. Each block contributes all its granules. Blocks of zero bytes are skipped.
    ///
    /// The addresses of aliases are outside of [`addresses`](Self::addresses). The first alias reserves a second range
    /// of the same size.
    ///
    /// # Errors
    ///
    /// Returns
    /// - [`AliasError::Foreign`] if another resource made one of the blocks,
    /// - [`AliasError::NothingToMap`] if none of the blocks has memory,
    /// - otherwise the driver's error ([`DriverError::MissingSymbol`] before CUDA 11.0).
    ///
    /// Nothing is mapped then.
    ///
    /// # Safety
    ///
    /// Until the alias is [unmapped](Self::unmap_alias), the caller must ensure that
    /// - all blocks stay live: none of them is passed to [`deallocate`](crate::MemoryResource::deallocate),
    /// - uses of a byte through both addresses are ordered by streams and events, like uses through a single address.
    ///   Writes through one address are then visible through the other to later operations in that order,
    /// - no kernel uses a byte through both addresses, unless the kernel only reads the byte. Within a kernel, the
    ///   device does not order accesses through the two addresses (CUDA C++ Programming Guide, "Virtual Aliasing
    ///   Support").
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem::sim::Profile;
    /// use cumem::{CudaVirtualResource, Device, MemoryResource, Stream, layout};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let device = Device::simulated(Profile::default())?;
    /// let stream = Stream::new(&device)?;
    /// let resource = CudaVirtualResource::new(&device)?;
    /// let granule = layout::bytes(resource.granularity())?;
    /// let [first, between, last] = [(); 3].map(|()| resource.allocate(&stream, granule).unwrap());
    ///
    /// // `first` and `last` do not touch. The alias is one range over both.
    /// // SAFETY: the blocks stay live until the alias is unmapped, and nothing uses their memory.
    /// let alias = unsafe { resource.map_alias(&[&first, &last]) }?;
    /// assert_eq!(alias.size(), 2 * resource.granularity());
    ///
    /// // SAFETY: no work uses the addresses of the alias.
    /// unsafe { resource.unmap_alias(alias) }?;
    /// # for block in [first, between, last] {
    /// #     // SAFETY: the resource returned the block, and nothing has used it.
    /// #     unsafe { resource.deallocate(&stream, block) }?;
    /// # }
    /// # Ok(())
    /// # }
    /// ```
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
        // The list may contain a block more than once. `take` refuses a sum that exceeds the reserved addresses.
        let size = pieces.iter().fold(0_usize, |size, (_, bytes)| size.saturating_add(*bytes));
        let count = (size / self.granularity()) as u64;
        let place = self.aliases.take(device, &self.addresses, count)?;
        // SAFETY: one call mapped each block, and all are live. The addresses are reserved, and no other alias has
        // them.
        let mapped = unsafe { device.driver().map_again(device.ordinal(), place, &pieces) }
            .and_then(|()| self.open_to_peers(place, size));
        if mapped.is_err() {
            self.aliases.give(place, count);
        }
        mapped.map(|()| Alias { addr: place.as_ptr() as u64, size, maker }).map_err(AliasError::Driver)
    }

    /// Unmaps an alias. Its blocks stay mapped at their own addresses. For an example, see
    /// [`map_alias`](Self::map_alias).
    ///
    /// # Errors
    ///
    /// Returns [`UnmapError`] with the alias, which is still mapped, if another resource made it, or if the driver
    /// returns an error.
    ///
    /// # Safety
    ///
    /// The caller must ensure that all work that uses the addresses of the alias has ended, because the driver does not
    /// wait for such work. Work that uses the addresses of the blocks may still run.
    pub unsafe fn unmap_alias(&self, alias: Alias) -> Result<(), UnmapError> {
        let device = &self.leaf.device;
        if alias.maker != self.leaf.maker {
            let reason = self.foreign("alias", alias.addr);
            return Err(UnmapError { alias, reason });
        }
        let place = NonNull::new(std::ptr::with_exposed_provenance_mut(alias.addr as usize));
        let place = place.expect("no addresses are reserved at 0");
        // SAFETY: one call of this resource mapped the alias there, and all work on that memory has ended.
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
