//! [`Alias`]: memory of blocks at a second address.

use super::addresses::{Addresses, used_up};
use crate::block::MakerId;
use crate::device::Device;
use crate::human_bytes::HumanBytes;
use crate::resources::gaps::Gaps;
use cumem_driver::DriverError;
use std::ptr::NonNull;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Memory of blocks, mapped a second time, end to end: see [`CudaVirtualResource::map_alias`](crate::CudaVirtualResource::map_alias).
///
/// Dropping it leaves the memory mapped, which is safe and never what you want.
#[must_use = "a dropped alias stays mapped; give it back to `unmap_alias`"]
#[derive(Debug)]
pub struct Alias {
    pub(super) addr: u64,
    pub(super) size: usize,
    pub(super) maker: MakerId,
}

impl Alias {
    /// The first byte's address, a multiple of the [granularity](crate::CudaVirtualResource::granularity).
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
    pub(super) fn take(&self, device: &Device, like: &Addresses, count: u64) -> Result<NonNull<u8>, DriverError> {
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
    pub(super) fn give(&self, place: NonNull<u8>, count: u64) {
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
