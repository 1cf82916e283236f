//! Single hints about a range of a block, and queries of its advice and pages.

use super::outcome::{HintOutcome, SkipReason};
use crate::block::Block;
use crate::device::Device;
use crate::device::error::DeviceError;
use crate::device::notice::Notice;
use crate::device::stream::Stream;
use crate::unified::residency::Residency;
use cumem_driver::{
    Advice, DeviceId, DriverError, Location, MemoryType, RangeAttributes, RawStream, Residency as PageResidency,
};
use std::ops::Range;
use std::sync::Arc;

/// Enqueues on `stream` the migration of `range` (bytes of `block`) to a location.
///
/// # Errors
///
/// Returns [`DeviceError::OutOfRange`] if the range is not within the block. Returns the driver's error if it rejects
/// the prefetch, for example `CUDA_ERROR_INVALID_DEVICE` for a device that does not exist. A prefetch of memory that does
/// not migrate is no error: it is [skipped](SkipReason::DoesNotMigrate).
///
/// # Examples
///
/// ```
/// # use cumem::sim::Profile;
/// # use cumem::{Device, ManagedResource, Stream, UnifiedBuffer};
/// # let device = Device::simulated(Profile::default())?;
/// # let stream = Stream::new(&device)?;
/// use cumem::unified::hints;
///
/// let buffer = UnifiedBuffer::<u8, _>::zeroed(1 << 20, &stream, ManagedResource::new(&device)?)?;
/// let outcome = hints::prefetch(buffer.block(), 0..1 << 20, device.id(), &stream)?;
/// assert!(outcome.is_applied());
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
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
    let (ptr, raw) = (addr as *const u8, raw_for_hint(stream));
    // SAFETY: the stream's handle is alive. A migration moves pages and changes no byte, and the driver rejects a range
    // that is not allocated.
    match unsafe { device.driver().prefetch(device.ordinal(), ptr, bytes, to, raw) } {
        Ok(()) => {
            note_prefetch(device, addr, bytes, to);
            Ok(HintOutcome::Applied)
        }
        Err(error) => skipped_or(device, ptr, error),
    }
}

/// Returns the driver's handle of the stream for a prefetch. For another thread's default stream, this is the calling
/// thread's default stream: a migration changes no byte, so it needs no order with other work.
pub(super) fn raw_for_hint(stream: &Stream) -> RawStream {
    stream.raw().unwrap_or(RawStream::PER_THREAD)
}

/// Announces to all listeners that a prefetch was enqueued.
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

/// Does the same as [`prefetch`], but makes no driver call if all pages are assumed to be at the location already. The
/// result is then [`SkipReason::AlreadyThere`].
///
/// This library records which pages are on a device. The record follows prefetches, host guards, launches on other
/// devices, and memory that is freed to the driver. It covers as many bytes as the device has memory, and is used only
/// while no page can be evicted. Other code may move pages without this library, for example through raw pointers on
/// the host, or in kernels that another library launches. Such pages fault in at their first use. Nothing is assumed
/// about pages on the host, so a prefetch to the host always reaches the driver.
///
/// # Errors
///
/// Returns the errors of [`prefetch`]. A skipped prefetch does not detect a block that is no longer allocated, because
/// it makes no driver call.
///
/// # Examples
///
/// ```
/// # use cumem::sim::Profile;
/// # use cumem::{Device, ManagedResource, Stream, UnifiedBuffer};
/// # let device = Device::simulated(Profile::default())?;
/// # let stream = Stream::new(&device)?;
/// use cumem::unified::{HintOutcome, SkipReason, hints};
///
/// let buffer = UnifiedBuffer::<u8, _>::zeroed(1 << 20, &stream, ManagedResource::new(&device)?)?;
/// let bytes = 0..buffer.size_bytes();
/// let first = hints::prefetch_if_needed(buffer.block(), bytes.clone(), device.id(), &stream)?;
/// let again = hints::prefetch_if_needed(buffer.block(), bytes, device.id(), &stream)?;
/// assert_eq!(first, HintOutcome::Applied);
/// assert_eq!(again, HintOutcome::Skipped(SkipReason::AlreadyThere));
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
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

/// Prefetches whole blocks to one location, and skips blocks whose pages are assumed to be there. For callers that
/// prefetch often, a `Prefetcher` is faster than [`prefetch_if_needed`], because it looks up the record of pages once
/// and not at each call.
///
/// # Examples
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
    /// Creates a prefetcher to `to` for streams of the machine of `device`. Streams of another machine work too, but
    /// every prefetch then looks up the record of pages.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Device, ManagedResource, Stream, UnifiedBuffer};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// use cumem::unified::hints::Prefetcher;
    ///
    /// let buffer = UnifiedBuffer::<u8, _>::zeroed(1 << 20, &stream, ManagedResource::new(&device)?)?;
    /// let prefetcher = Prefetcher::new(&device, device.id());
    /// assert!(prefetcher.prefetch_if_needed(buffer.block(), &stream)?.is_applied());
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn new(device: &Device, to: impl Into<Location>) -> Self {
        Self { residency: Arc::clone(Residency::of(device)), machine: device.id(), to: to.into() }
    }

    /// Enqueues on `stream` the migration of a block, unless all its pages are assumed to be at the location.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`prefetch_if_needed`].
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Device, ManagedResource, Stream, UnifiedBuffer};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// use cumem::unified::hints::Prefetcher;
    ///
    /// let buffer = UnifiedBuffer::<u8, _>::zeroed(1 << 20, &stream, ManagedResource::new(&device)?)?;
    /// let prefetcher = Prefetcher::new(&device, device.id());
    /// assert!(prefetcher.prefetch_if_needed(buffer.block(), &stream)?.is_applied());
    /// assert!(!prefetcher.prefetch_if_needed(buffer.block(), &stream)?.is_applied());
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn prefetch_if_needed(&self, block: &Block, stream: &Stream) -> Result<HintOutcome, DeviceError> {
        let (addr, bytes) = (block.addr(), block.size());
        match stream.device_id().same_machine(self.machine) {
            true => prefetch_span_unless_there(&self.residency, addr, bytes, self.to, stream),
            false => prefetch_span_if_needed(addr, bytes, self.to, stream),
        }
    }
}

/// Does the same as [`prefetch_if_needed`] for `bytes` bytes at `addr`.
#[inline]
pub(crate) fn prefetch_span_if_needed(
    addr: u64,
    bytes: usize,
    to: impl Into<Location>,
    stream: &Stream,
) -> Result<HintOutcome, DeviceError> {
    prefetch_span_unless_there(Residency::of(stream.device()), addr, bytes, to.into(), stream)
}

/// Prefetches bytes at an address, unless `residency`, which is that of the stream's machine, has all their pages at
/// the target.
#[inline]
fn prefetch_span_unless_there(
    residency: &Residency,
    addr: u64,
    bytes: usize,
    to: Location,
    stream: &Stream,
) -> Result<HintOutcome, DeviceError> {
    match bytes > 0 && residency.has(stream.device(), addr, bytes, to) {
        true => Ok(HintOutcome::Skipped(SkipReason::AlreadyThere)),
        false => prefetch_span(addr, bytes, to, stream),
    }
}

/// Advises the driver how `range` (bytes of `block`) will be used. Advice takes effect at once, not in stream order.
/// `stream` only selects the device whose context makes the call.
///
/// # Errors
///
/// Returns [`DeviceError::OutOfRange`] if the range is not within the block. Returns the driver's error if it rejects
/// the advice, for example `CUDA_ERROR_INVALID_DEVICE` for a device that does not exist.
///
/// # Examples
///
/// ```
/// # use cumem::sim::Profile;
/// # use cumem::{Device, ManagedResource, Stream, UnifiedBuffer};
/// # let device = Device::simulated(Profile::default())?;
/// # let stream = Stream::new(&device)?;
/// use cumem::unified::{Advice, hints};
///
/// let buffer = UnifiedBuffer::<u8, _>::zeroed(1 << 20, &stream, ManagedResource::new(&device)?)?;
/// let outcome = hints::advise(buffer.block(), 0..4096, Advice::SetReadMostly, &stream)?;
/// assert!(outcome.is_applied());
/// assert!(hints::range_attributes(buffer.block(), 0..4096, &stream)?.read_mostly);
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
pub fn advise(block: &Block, range: Range<usize>, advice: Advice, stream: &Stream) -> Result<HintOutcome, DeviceError> {
    let (ptr, bytes) = slice_of(block, &range)?;
    let device = stream.device();
    if let Some(reason) = pointless(device, bytes) {
        return Ok(HintOutcome::Skipped(reason));
    }
    // SAFETY: advice changes no byte, and the driver rejects a range that is not allocated.
    if let Err(error) = unsafe { device.driver().advise(device.ordinal(), ptr, bytes, advice) } {
        return skipped_or(device, ptr, error);
    }
    // The residency record must exist before the notice, because `ManagedMemoryHints` needs it to undo advice.
    Residency::of(device);
    device.tell(&Notice::Advised { addr: ptr as u64, bytes });
    Ok(HintOutcome::Applied)
}

/// Returns the advice and the last prefetch that the driver has recorded for `range` (bytes of `block`).
///
/// # Errors
///
/// Returns [`DeviceError::OutOfRange`] if the range is not within the block. Returns the driver's error, for example
/// `CUDA_ERROR_INVALID_VALUE` for an empty range or for memory that is not unified.
///
/// # Examples
///
/// ```
/// # use cumem::sim::Profile;
/// # use cumem::{Device, ManagedResource, Stream, UnifiedBuffer};
/// # let device = Device::simulated(Profile::default())?;
/// # let stream = Stream::new(&device)?;
/// use cumem::unified::{Advice, hints};
///
/// let buffer = UnifiedBuffer::<u8, _>::zeroed(1 << 20, &stream, ManagedResource::new(&device)?)?;
/// let half = 0..1 << 19;
/// assert!(hints::advise(buffer.block(), half.clone(), Advice::SetReadMostly, &stream)?.is_applied());
/// assert!(hints::range_attributes(buffer.block(), half, &stream)?.read_mostly);
/// assert!(!hints::range_attributes(buffer.block(), 0..1 << 20, &stream)?.read_mostly);
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
pub fn range_attributes(block: &Block, range: Range<usize>, stream: &Stream) -> Result<RangeAttributes, DeviceError> {
    let (ptr, bytes) = slice_of(block, &range)?;
    let device = stream.device();
    Ok(device.driver().range_attributes(device.ordinal(), ptr, bytes)?)
}

/// Returns the locations of the pages of `range` (bytes of `block`), after the work that has been done so far. Returns
/// `None` on a GPU, because its driver does not report them.
///
/// # Errors
///
/// Returns [`DeviceError::OutOfRange`] if the range is not within the block. On a simulated device, returns
/// `CUDA_ERROR_INVALID_VALUE` if the block belongs to another machine.
///
/// # Examples
///
/// ```
/// # use cumem::sim::Profile;
/// # use cumem::{Device, Location, ManagedResource, Stream, UnifiedBuffer};
/// # let device = Device::simulated(Profile::default())?;
/// # let stream = Stream::new(&device)?;
/// use cumem::unified::hints;
///
/// let mut buffer = UnifiedBuffer::<u8, _>::zeroed(1 << 20, &stream, ManagedResource::new(&device)?)?;
/// buffer.host_write()?.fill(7);
/// let pages = hints::residency(buffer.block(), 0..1 << 20, &stream)?;
/// assert_eq!(pages.unwrap().on(Location::Host), 1 << 20);
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
pub fn residency(block: &Block, range: Range<usize>, stream: &Stream) -> Result<Option<PageResidency>, DeviceError> {
    let (ptr, bytes) = slice_of(block, &range)?;
    let device = stream.device();
    let Some(model) = device.model() else { return Ok(None) };
    if bytes == 0 {
        return Ok(Some(PageResidency::default()));
    }
    // Returns the driver's error for an address that the simulator has not allocated.
    device.pointer_info(ptr)?;
    Ok(model.residency(ptr, bytes))
}

/// Returns the device that makes prefetches to `target` through streams of `own` useless, or `None` if they work. That
/// device is the first of `own` and the target that has no concurrent managed access.
///
/// # Errors
///
/// Returns [`DeviceError::WrongDevice`] if the target belongs to another machine, and
/// [`DriverError::NoSuchDevice`](crate::DriverError::NoSuchDevice) if the target does not exist.
///
/// # Examples
///
/// ```
/// use cumem::sim::Profile;
/// use cumem::unified::hints::device_without_migration;
/// use cumem::{Device, Location};
///
/// let gpu = Device::simulated(Profile::default())?;
/// assert_eq!(device_without_migration(&gpu, Location::Host)?, None);
/// let old = Device::simulated(Profile::maxwell())?;
/// assert_eq!(device_without_migration(&old, Location::Host)?, Some(old.id()));
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
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

/// Returns the outcome of a hint that the driver rejected with `error`: skipped if the memory does not migrate, otherwise
/// the error.
#[cold]
fn skipped_or(device: &Device, ptr: *const u8, error: DriverError) -> Result<HintOutcome, DeviceError> {
    does_not_migrate(device, ptr).map_or(Err(error.into()), |reason| Ok(HintOutcome::Skipped(reason)))
}

/// Returns the reason to skip a hint if the driver knows the memory, and the memory does not migrate.
pub(super) fn does_not_migrate(device: &Device, ptr: *const u8) -> Option<SkipReason> {
    let memory_type = device.pointer_info(ptr).ok()?.memory_type;
    (memory_type != MemoryType::Unified).then_some(SkipReason::DoesNotMigrate(memory_type))
}

/// Returns the reason why a hint about `bytes` bytes would have no effect, or `None` if it has one.
pub(super) fn pointless(device: &Device, bytes: usize) -> Option<SkipReason> {
    match bytes {
        0 => Some(SkipReason::EmptyRange),
        _ if !device.attributes().concurrent_managed_access => Some(SkipReason::NoConcurrentManagedAccess(device.id())),
        _ => None,
    }
}

/// Returns the address and the length of `range` (bytes of `block`), after a check that it is within the block.
pub(super) fn slice_of(block: &Block, range: &Range<usize>) -> Result<(*const u8, usize), DeviceError> {
    if range.start > range.end || range.end > block.size() {
        return Err(DeviceError::OutOfRange { start: range.start, end: range.end, size: block.size() });
    }
    Ok((block.as_ptr().wrapping_add(range.start), range.end - range.start))
}
