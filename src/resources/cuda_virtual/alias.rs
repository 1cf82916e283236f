//! [`Alias`]: memory of blocks at a second address.

use super::addresses::{Addresses, used_up};
use super::{CudaVirtualResource, Gaps};
use crate::block::{Block, MakerId};
use crate::device::Device;
use crate::human_bytes::HumanBytes;
use cumem_driver::DriverError;
use std::ptr::NonNull;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Memory of blocks, mapped a second time, end to end: see [`CudaVirtualResource::map_alias`].
///
/// Dropping it leaves the memory mapped, which is safe and never what you want.
#[must_use = "a dropped alias stays mapped; give it back to `unmap_alias`"]
#[derive(Debug)]
pub struct Alias {
    addr: u64,
    size: usize,
    maker: MakerId,
}

impl Alias {
    /// The first byte's address, a multiple of the [granularity](CudaVirtualResource::granularity).
    pub fn addr(&self) -> u64 {
        self.addr
    }

    /// Bytes, whole granules: those of all its blocks.
    pub fn size(&self) -> usize {
        self.size
    }
}

/// Memory that could not be mapped a second time, or an alias that could not be unmapped.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AliasError {
    /// The resource did not make the block or the alias.
    #[error("{layer} did not make the {what} at {addr:#x}")]
    Foreign {
        /// The resource that was asked.
        layer: &'static str,
        /// `block` or `alias`.
        what: &'static str,
        /// The address of the block or alias.
        addr: u64,
    },
    /// None of the blocks has memory.
    #[error("none of the {blocks} blocks has memory that could be mapped a second time")]
    NothingToMap {
        /// The number of blocks given.
        blocks: usize,
    },
    /// The driver refused.
    #[error(transparent)]
    Driver(#[from] DriverError),
}

impl AliasError {
    /// Reports whether the driver ran out of memory or of addresses.
    pub fn is_out_of_memory(&self) -> bool {
        matches!(self, Self::Driver(error) if error.is_out_of_memory())
    }
}

/// An alias that could not be unmapped. It is still mapped, and in this error.
#[derive(Debug, thiserror::Error)]
#[error("the alias of {} at {:#x} could not be unmapped", HumanBytes(alias.size()), alias.addr())]
#[non_exhaustive]
pub struct UnmapError {
    /// The alias, as it was given.
    pub alias: Alias,
    /// Why it was not unmapped.
    #[source]
    pub reason: AliasError,
}

/// Addresses of aliases, reserved when the first is made.
#[derive(Debug, Default)]
pub(super) struct Aliases(Mutex<Option<Space>>);

#[derive(Debug)]
struct Space {
    addresses: Addresses,
    gaps: Gaps,
}

impl Aliases {
    fn lock(&self) -> MutexGuard<'_, Option<Space>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// So many granules, of as many as there are in `like`.
    fn take(&self, device: &Device, like: &Addresses, count: u64) -> Result<NonNull<u8>, DriverError> {
        let mut space = self.lock();
        if space.is_none() {
            let addresses = Addresses::reserve(device, like.granules(), like.granularity())?;
            let gaps = Gaps::new(addresses.granules());
            *space = Some(Space { addresses, gaps });
        }
        let taken =
            space.as_mut().and_then(|Space { addresses, gaps }| Some(addresses.place(gaps.take_lowest(count)?)));
        taken.ok_or_else(|| used_up(device))
    }

    /// Takes back what was taken together.
    fn give(&self, place: NonNull<u8>, count: u64) {
        if let Some(Space { addresses, gaps }) = &mut *self.lock() {
            let at = addresses.granule(place.as_ptr() as u64).expect("an alias lies in the addresses for aliases");
            gaps.give(at, count);
        }
    }

    /// Gives the addresses back in a drop, unless there are aliases.
    pub(super) fn release(&self, device: &Device) {
        if let Some(Space { addresses, gaps }) = self.lock().take() {
            addresses.release(device, gaps.taken(), "aliases");
        }
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
