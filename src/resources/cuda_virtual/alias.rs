//! [`Alias`]: a second mapping of the memory of blocks.

use super::addresses::{Addresses, used_up};
use crate::block::MakerId;
use crate::device::Device;
use crate::device::Locked;
use crate::human_bytes::HumanBytes;
use crate::resources::gaps::Gaps;
use cumem_driver::DriverError;
use std::ptr::NonNull;
use std::sync::Mutex;

/// A second mapping of the memory of blocks, one after the other in one address range. It is created by
/// [`CudaVirtualResource::map_alias`](crate::CudaVirtualResource::map_alias), which has an example.
///
/// Dropping an alias leaves the memory mapped. Pass it to
/// [`unmap_alias`](crate::CudaVirtualResource::unmap_alias) instead.
#[must_use = "a dropped alias stays mapped; pass the alias to `unmap_alias`"]
#[derive(Debug)]
pub struct Alias {
    pub(super) addr: u64,
    pub(super) size: usize,
    pub(super) maker: MakerId,
}

impl Alias {
    /// Returns the address of the first byte, a multiple of the
    /// [granularity](crate::CudaVirtualResource::granularity).
    pub fn addr(&self) -> u64 {
        self.addr
    }

    /// Returns the size in bytes: the granules of all blocks of the alias.
    pub fn size(&self) -> usize {
        self.size
    }
}

/// The error of memory that could not be mapped a second time, or of an alias that could not be unmapped.
///
/// # Examples
///
/// ```
/// use cumem::resources::AliasError;
/// use cumem::sim::Profile;
/// use cumem::{CudaVirtualResource, Device};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let device = Device::simulated(Profile::default())?;
/// let resource = CudaVirtualResource::new(&device)?;
/// // SAFETY: there are no blocks.
/// let error = unsafe { resource.map_alias(&[]) }.unwrap_err();
/// assert_eq!(error, AliasError::NothingToMap { blocks: 0 });
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AliasError {
    /// The resource did not make the block or the alias.
    #[error("{layer} did not make the {what} at {addr:#x}")]
    Foreign {
        /// The resource that refused.
        layer: &'static str,
        /// The foreign object: `block` or `alias`.
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
    /// The driver returned an error.
    #[error(transparent)]
    Driver(#[from] DriverError),
}

impl AliasError {
    /// Reports whether the driver ran out of memory or of addresses.
    pub fn is_out_of_memory(&self) -> bool {
        matches!(self, Self::Driver(error) if error.is_out_of_memory())
    }
}

/// The error of an alias that could not be unmapped. The alias is still mapped, and this error contains it.
#[derive(Debug, thiserror::Error)]
#[error("the alias of {} at {:#x} could not be unmapped", HumanBytes(alias.size()), alias.addr())]
#[non_exhaustive]
pub struct UnmapError {
    /// The alias that was passed to `unmap_alias`.
    pub alias: Alias,
    /// The reason why the alias was not unmapped.
    #[source]
    pub reason: AliasError,
}

/// The address range for aliases. The range is reserved when the first alias is mapped.
#[derive(Debug, Default)]
pub(super) struct Aliases(Mutex<Option<Space>>);

#[derive(Debug)]
struct Space {
    addresses: Addresses,
    gaps: Gaps,
}

impl Aliases {
    fn lock(&self) -> Locked<'_, Option<Space>> {
        Locked::new(&self.0)
    }

    /// Takes the addresses of `count` granules in one piece. The first call reserves a range as large as `like`.
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

    /// Makes the addresses free again that one call of [`take`](Self::take) returned.
    pub(super) fn give(&self, place: NonNull<u8>, count: u64) {
        if let Some(Space { addresses, gaps }) = &mut *self.lock() {
            let at = addresses.granule(place.as_ptr() as u64).expect("an alias lies in the addresses for aliases");
            gaps.give(at, count);
        }
    }

    /// Frees the address range, for use in a `drop`. If aliases are still mapped, the range stays reserved, and the
    /// function records an error.
    pub(super) fn release(&self, device: &Device) {
        if let Some(Space { addresses, gaps }) = self.lock().take() {
            addresses.release(device, gaps.taken(), "aliases");
        }
    }
}
