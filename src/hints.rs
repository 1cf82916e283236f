//! Hints about unified memory: prefetch and advice, and what became of them.
//!
//! A hint that was carried out answers [`Applied`](Outcome::Applied); one that would mean nothing answers
//! [`Skipped`](Outcome::Skipped) with the reason; one that the driver rejects is an error with its code.

use crate::block::Block;
use crate::device::Device;
use crate::error::DriverError;
use crate::location::{DeviceId, Location};
use crate::stream::Stream;
use smallvec::SmallVec;
use std::fmt;
use std::ops::Range;

/// What became of a hint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "a hint may have been skipped"]
pub enum Outcome {
    /// The driver accepted it.
    Applied,
    /// It was not passed to the driver.
    Skipped(SkipReason),
}

/// Why a hint was not passed to the driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SkipReason {
    /// The range has no bytes.
    EmptyRange,
    /// A device in question has no concurrent managed access, where the driver rejects hints.
    NoConcurrentManagedAccess(DeviceId),
}

impl fmt::Display for SkipReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EmptyRange => f.write_str("the range is empty"),
            Self::NoConcurrentManagedAccess(id) => write!(f, "{id} has no concurrent managed access"),
        }
    }
}

/// The six advices (`CUmem_advise`). Precedence: read-mostly, then preferred location, then accessed-by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Advice {
    /// Reads make local copies; a write collapses them (`SET_READ_MOSTLY`).
    SetReadMostly,
    /// Ends it (`UNSET_READ_MOSTLY`).
    UnsetReadMostly,
    /// Faults leave the pages there if the faulting processor can reach them (`SET_PREFERRED_LOCATION`).
    SetPreferredLocation(Location),
    /// Ends it (`UNSET_PREFERRED_LOCATION`).
    UnsetPreferredLocation,
    /// Keeps the data mapped for that processor, without moving it (`SET_ACCESSED_BY`).
    SetAccessedBy(Location),
    /// Ends it (`UNSET_ACCESSED_BY`).
    UnsetAccessedBy(Location),
}

impl Advice {
    /// The location that it names.
    pub fn location(self) -> Option<Location> {
        match self {
            Self::SetPreferredLocation(at) | Self::SetAccessedBy(at) | Self::UnsetAccessedBy(at) => Some(at),
            Self::SetReadMostly | Self::UnsetReadMostly | Self::UnsetPreferredLocation => None,
        }
    }
}

/// What a range of unified memory has been told (`cuMemRangeGetAttribute`).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct RangeAttributes {
    /// Every page is read-mostly.
    pub read_mostly: bool,
    /// The preferred location that all pages share.
    pub preferred_location: Option<Location>,
    /// The processors that every page stays mapped for.
    pub accessed_by: SmallVec<[Location; 4]>,
    /// Where all pages were last asked to be prefetched to; says nothing of where they are.
    pub last_prefetch_location: Option<Location>,
}

/// Enqueues on `stream` the migration of `range` (bytes of `block`) to a location.
///
/// # Errors
///
/// [`DriverError::OutOfRange`] if the range is not within the block, or what the driver answers, such as `CUDA_ERROR_INVALID_VALUE` if the block is no unified memory.
pub fn prefetch(
    block: &Block,
    range: Range<usize>,
    to: impl Into<Location>,
    stream: &Stream,
) -> Result<Outcome, DriverError> {
    let to = to.into();
    let (ptr, bytes) = slice_of(block, &range)?;
    let device = stream.device();
    if let Some(reason) = pointless(device, bytes) {
        return Ok(Outcome::Skipped(reason));
    }
    let raw = stream.raw()?;
    // SAFETY: the stream's handle is alive; a migration moves pages and changes no byte, and a range that is not
    // allocated is refused.
    unsafe { device.driver().prefetch(device.ordinal(), ptr, bytes, to, raw) }?;
    Ok(Outcome::Applied)
}

/// Tells the driver how `range` (bytes of `block`) will be used. Takes effect at once, not in stream order;
/// `stream` only says which device's context speaks.
///
/// # Errors
///
/// [`DriverError::OutOfRange`] if the range is not within the block, or what the driver answers, such as `CUDA_ERROR_INVALID_DEVICE` for a device that does not exist.
pub fn advise(block: &Block, range: Range<usize>, advice: Advice, stream: &Stream) -> Result<Outcome, DriverError> {
    let (ptr, bytes) = slice_of(block, &range)?;
    let device = stream.device();
    if let Some(reason) = pointless(device, bytes) {
        return Ok(Outcome::Skipped(reason));
    }
    // SAFETY: advice changes no byte, and a range that is not allocated is refused.
    unsafe { device.driver().advise(device.ordinal(), ptr, bytes, advice) }?;
    Ok(Outcome::Applied)
}

/// Asks the driver what `range` (bytes of `block`) has been told.
///
/// # Errors
///
/// [`DriverError::OutOfRange`] if the range is not within the block, or what the driver answers, such as `CUDA_ERROR_INVALID_VALUE` for an empty range or for memory that is
/// not unified.
pub fn range_attributes(block: &Block, range: Range<usize>, stream: &Stream) -> Result<RangeAttributes, DriverError> {
    let (ptr, bytes) = slice_of(block, &range)?;
    let device = stream.device();
    device.driver().range_attributes(device.ordinal(), ptr, bytes)
}

/// Why a hint about `bytes` bytes would mean nothing.
fn pointless(device: &Device, bytes: usize) -> Option<SkipReason> {
    match bytes {
        0 => Some(SkipReason::EmptyRange),
        _ if !device.attributes().concurrent_managed_access => Some(SkipReason::NoConcurrentManagedAccess(device.id())),
        _ => None,
    }
}

fn slice_of(block: &Block, range: &Range<usize>) -> Result<(*const u8, usize), DriverError> {
    if range.start > range.end || range.end > block.size() {
        return Err(DriverError::OutOfRange { start: range.start, end: range.end, size: block.size() });
    }
    Ok((block.as_ptr().wrapping_add(range.start), range.end - range.start))
}
