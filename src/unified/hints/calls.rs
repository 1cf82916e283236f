//! Single hints and questions, about a range of a block.

use super::outcome::{HintOutcome, SkipReason};
use crate::block::Block;
use crate::device::Device;
use crate::device::error::DeviceError;
use crate::device::notice::Notice;
use crate::device::stream::Stream;
use crate::unified::residency::Residency;
use cumem_driver::{Advice, DeviceId, Location, RangeAttributes, Residency as PageResidency};
use std::ops::Range;
use std::sync::Arc;

/// Enqueues on `stream` the migration of `range` (bytes of `block`) to a location.
///
/// # Errors
///
/// [`DeviceError::OutOfRange`] if the range is not within the block, or what the driver answers, such as
/// `CUDA_ERROR_INVALID_VALUE` if the block is no unified memory.
pub fn prefetch(
    block: &Block,
    range: Range<usize>,
    to: impl Into<Location>,
    stream: &Stream,
) -> Result<HintOutcome, DeviceError> {
    let (ptr, bytes) = slice_of(block, &range)?;
    prefetch_span(ptr as u64, bytes, to.into(), stream)
}

/// Enqueues on `stream` the migration of `bytes` bytes at `addr` to a location.
fn prefetch_span(addr: u64, bytes: usize, to: Location, stream: &Stream) -> Result<HintOutcome, DeviceError> {
    let device = stream.device();
    if let Some(reason) = pointless(device, bytes) {
        return Ok(HintOutcome::Skipped(reason));
    }
    let (ptr, raw) = (addr as *const u8, stream.raw()?);
    // SAFETY: the stream's handle is alive; a migration moves pages and changes no byte, and a range that is not
    // allocated is refused.
    unsafe { device.driver().prefetch(device.ordinal(), ptr, bytes, to, raw) }?;
    note_prefetch(device, addr, bytes, to);
    Ok(HintOutcome::Applied)
}

/// Announces that a prefetch was enqueued.
pub(super) fn note_prefetch(device: &Device, addr: u64, bytes: usize, to: Location) {
    Residency::of(device);
    if let Location::Device(id) = to
        && id != device.id()
        && let Some(target) = device.opened_sibling(id.ordinal())
    {
        Residency::of(&target);
    }
    device.tell(&Notice::Prefetched { addr, bytes, to });
}

/// The same, but asks nothing of the driver if all pages are [assumed](SkipReason::AlreadyThere) to be there. What is
/// assumed is kept by this library from prefetches, host guards, launches on other devices and what is returned to
/// the driver, up to the size of the device's memory, and only while nothing can be evicted. Pages that others moved
/// without a word (raw pointers on the host, kernels of other libraries) fault in at their first use. Nothing is
/// assumed of pages on the host.
///
/// # Errors
///
/// Those of [`prefetch`]; if the driver is not asked, it does not notice a block that is no longer allocated.
#[inline]
pub fn prefetch_if_needed(
    block: &Block,
    range: Range<usize>,
    to: impl Into<Location>,
    stream: &Stream,
) -> Result<HintOutcome, DeviceError> {
    let (ptr, bytes) = slice_of(block, &range)?;
    prefetch_span_if_needed(ptr as u64, bytes, to, stream)
}

/// Prefetches whole blocks to one location, each unless its pages are there. It is [`prefetch_if_needed`] for callers
/// that prefetch often: what the function looks up at each call, this looks up once.
///
/// ```
/// use cumem::sim::Profile;
/// use cumem::unified::HintOutcome;
/// use cumem::unified::hints::Prefetcher;
/// use cumem::{Device, ManagedResource, Stream, UnifiedBuffer};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let device = Device::simulated(Profile::default())?;
/// let stream = Stream::new(&device)?;
/// let buffer = UnifiedBuffer::<u8, _>::zeroed(1 << 20, &stream, ManagedResource::new(&device)?)?;
/// let prefetcher = Prefetcher::new(&device, device.id());
/// assert_eq!(prefetcher.prefetch_if_needed(buffer.block(), &stream)?, HintOutcome::Applied);
/// assert_ne!(prefetcher.prefetch_if_needed(buffer.block(), &stream)?, HintOutcome::Applied);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Prefetcher {
    residency: Arc<Residency>,
    machine: DeviceId,
    to: Location,
}

impl Prefetcher {
    /// Creates a prefetcher to `to` for streams of the machine of `device`. Streams of another machine work too, and
    /// take longer.
    pub fn new(device: &Device, to: impl Into<Location>) -> Self {
        Self { residency: Arc::clone(Residency::of(device)), machine: device.id(), to: to.into() }
    }

    /// Enqueues on `stream` the migration of a block, unless all its pages are assumed to be there.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`prefetch_if_needed`].
    #[inline]
    pub fn prefetch_if_needed(&self, block: &Block, stream: &Stream) -> Result<HintOutcome, DeviceError> {
        let device = stream.device();
        let (addr, bytes) = (block.addr(), block.size());
        let known = device.id().same_machine(self.machine);
        match known && bytes > 0 && self.residency.has(device, addr, bytes, self.to) {
            true => Ok(HintOutcome::Skipped(SkipReason::AlreadyThere)),
            false => prefetch_if_needed(block, 0..bytes, self.to, stream),
        }
    }
}

/// The same for bytes at an address.
#[inline]
pub(crate) fn prefetch_span_if_needed(
    addr: u64,
    bytes: usize,
    to: impl Into<Location>,
    stream: &Stream,
) -> Result<HintOutcome, DeviceError> {
    let (device, to) = (stream.device(), to.into());
    match bytes > 0 && Residency::of(device).has(device, addr, bytes, to) {
        true => Ok(HintOutcome::Skipped(SkipReason::AlreadyThere)),
        false => prefetch_span(addr, bytes, to, stream),
    }
}

/// Tells the driver how `range` (bytes of `block`) will be used. Takes effect at once, not in stream order;
/// `stream` only says which device's context speaks.
///
/// # Errors
///
/// [`DeviceError::OutOfRange`] if the range is not within the block, or what the driver answers, such as
/// `CUDA_ERROR_INVALID_DEVICE` for a device that does not exist.
pub fn advise(block: &Block, range: Range<usize>, advice: Advice, stream: &Stream) -> Result<HintOutcome, DeviceError> {
    let (ptr, bytes) = slice_of(block, &range)?;
    let device = stream.device();
    if let Some(reason) = pointless(device, bytes) {
        return Ok(HintOutcome::Skipped(reason));
    }
    // SAFETY: advice changes no byte, and a range that is not allocated is refused.
    unsafe { device.driver().advise(device.ordinal(), ptr, bytes, advice) }?;
    // The books must be there to hear of it, because `ManagedMemoryHints` undoes advice by them.
    Residency::of(device);
    device.tell(&Notice::Advised { addr: ptr as u64, bytes });
    Ok(HintOutcome::Applied)
}

/// Asks the driver what `range` (bytes of `block`) has been told.
///
/// # Errors
///
/// [`DeviceError::OutOfRange`] if the range is not within the block, or what the driver answers, such as
/// `CUDA_ERROR_INVALID_VALUE` for an empty range or for memory that is not unified.
pub fn range_attributes(block: &Block, range: Range<usize>, stream: &Stream) -> Result<RangeAttributes, DeviceError> {
    let (ptr, bytes) = slice_of(block, &range)?;
    let device = stream.device();
    Ok(device.driver().range_attributes(device.ordinal(), ptr, bytes)?)
}

/// Where the pages of `range` (bytes of `block`) are, by the work that has been done. `None` on a GPU, whose driver
/// does not say; the simulator does.
///
/// # Errors
///
/// [`DeviceError::OutOfRange`] if the range is not within the block; on a simulated device `CUDA_ERROR_INVALID_VALUE`
/// if the block is not of its machine.
pub fn residency(block: &Block, range: Range<usize>, stream: &Stream) -> Result<Option<PageResidency>, DeviceError> {
    let (ptr, bytes) = slice_of(block, &range)?;
    let device = stream.device();
    let Some(model) = device.model() else { return Ok(None) };
    if bytes == 0 {
        return Ok(Some(PageResidency::default()));
    }
    // What the simulator does not know is refused as the driver refuses it.
    device.pointer_info(ptr)?;
    Ok(model.residency(ptr, bytes))
}

/// Which of the devices in question, `own` or the target, has no concurrent managed access, so that prefetches to
/// `target` through a stream of `own` mean nothing.
///
/// # Errors
///
/// [`DeviceError::WrongDevice`] if the target belongs to another machine, [`DriverError::NoSuchDevice`] if there is
/// none.
pub fn device_without_migration(own: &Device, target: Location) -> Result<Option<DeviceId>, DeviceError> {
    let other = match target {
        Location::Device(id) if !id.same_machine(own.id()) => {
            let (found, expected) = (id, own.id());
            return Err(DeviceError::WrongDevice { what: "the target of the prefetch", found, expected });
        }
        Location::Device(id) if id != own.id() => Some(own.sibling(id.ordinal())?),
        _ => None,
    };
    let without = |device: &&Device| !device.attributes().concurrent_managed_access;
    Ok([Some(own), other.as_ref()].into_iter().flatten().find(without).map(Device::id))
}

/// Why a hint about `bytes` bytes would mean nothing.
pub(super) fn pointless(device: &Device, bytes: usize) -> Option<SkipReason> {
    match bytes {
        0 => Some(SkipReason::EmptyRange),
        _ if !device.attributes().concurrent_managed_access => Some(SkipReason::NoConcurrentManagedAccess(device.id())),
        _ => None,
    }
}

pub(super) fn slice_of(block: &Block, range: &Range<usize>) -> Result<(*const u8, usize), DeviceError> {
    if range.start > range.end || range.end > block.size() {
        return Err(DeviceError::OutOfRange { start: range.start, end: range.end, size: block.size() });
    }
    Ok((block.as_ptr().wrapping_add(range.start), range.end - range.start))
}
