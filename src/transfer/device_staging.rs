//! [`DeviceStaging`]: transfers between pinned and unified memory, through plain device memory.
//!
//! A copy engine moves the bytes over the link at the link's full speed. The driver uses such engines only for plain
//! device memory, so a copy within the device follows one chunk behind.

use super::enqueue::{enqueue_copy, wait_for_stream};
use super::request::{Direction, Ends, Part, Transfer};
use super::sizes::STAGING_SLOT;
use crate::device::error::DeviceError;
use crate::device::stream::Stream;
use cumem_driver::RawStream;
use cumem_driver::owned::{OwnedDeviceMemory, OwnedEvent, OwnedStream, RawDevice};

/// Slots of the staging memory: copies over the link work on one while the copy within the device works on another.
const SLOTS: usize = 3;
/// Bytes of device memory of a staging.
pub(super) const BYTES: usize = SLOTS * STAGING_SLOT;

/// 24 MiB of device memory, and a stream for the copies over the link.
pub(super) struct DeviceStaging {
    memory: OwnedDeviceMemory,
    link: OwnedStream,
    /// For each slot, recorded after it is filled.
    filled: [OwnedEvent; SLOTS],
    /// For each slot, recorded after it is emptied.
    emptied: [OwnedEvent; SLOTS],
}

impl DeviceStaging {
    pub(super) fn new(device: &RawDevice) -> Result<Self, DeviceError> {
        let events = || {
            Ok::<_, DeviceError>([
                OwnedEvent::new(device, false)?,
                OwnedEvent::new(device, false)?,
                OwnedEvent::new(device, false)?,
            ])
        };
        let (filled, emptied, link) = (events()?, events()?, OwnedStream::new(device, false)?);
        Ok(Self { memory: OwnedDeviceMemory::new(device, BYTES)?, link, filled, emptied })
    }

    /// Runs the transfer.
    ///
    /// # Safety
    ///
    /// - The contract of [`Transfer`].
    /// - The host's end is pinned memory.
    pub(super) unsafe fn run(&self, transfer: Transfer, stream: &Stream) -> Result<(), DeviceError> {
        let group = match transfer.direction {
            Direction::ToDevice => STAGING_SLOT,
            // The last copy over the link overlaps with nothing, so it is shorter.
            Direction::ToHost => STAGING_SLOT / 2,
        };
        let mut starts = (0..transfer.bytes).step_by(group);
        let enqueued = starts.try_for_each(|start| {
            let part =
                Part { start, bytes: group.min(transfer.bytes - start), host: transfer.host.wrapping_add(start) };
            // SAFETY: the caller keeps the contract of this function, the part is pinned, and `wait` is called below.
            unsafe { self.enqueue_part(transfer, part, group, stream) }
        });
        self.wait(enqueued, transfer.direction, stream)
    }

    /// Enqueues the copies of one part.
    ///
    /// Each copy within the device moves a group of `group` bytes, which is half a slot or a whole one. A part lies
    /// within one group. For example, the host ring moves a group of 4 MiB over the link in parts of at most 2 MiB.
    ///
    /// # Safety
    ///
    /// - The contract of [`Transfer`], until [`wait`](Self::wait) returns. Here the host's end is the part's `host`,
    ///   which is pinned memory.
    /// - The parts of a transfer come in order, with the same `group`, and no other transfer uses this object.
    pub(super) unsafe fn enqueue_part(
        &self,
        transfer: Transfer,
        part: Part,
        group: usize,
        stream: &Stream,
    ) -> Result<(), DeviceError> {
        let (raw, link) = (stream.raw()?, self.link.raw());
        let Part { start, bytes, host } = part;
        let (nth, within) = (start / group, start % group);
        let slot = self.memory.at(nth % SLOTS * STAGING_SLOT);
        let device = transfer.device.wrapping_add(start - within);
        let group_bytes = group.min(transfer.bytes - (start - within));
        let (is_first, is_last, is_reused) = (within == 0, within + bytes == group_bytes, nth >= SLOTS);
        let (filled, emptied) = (&self.filled[nth % SLOTS], &self.emptied[nth % SLOTS]);
        let staged = slot.wrapping_add(within);
        match transfer.direction {
            Direction::ToDevice => {
                if is_first && is_reused {
                    // SAFETY: `link` is a live stream of this device.
                    unsafe { emptied.make_stream_wait(link) }?;
                }
                // SAFETY: the caller ensures that the host's end is valid. The slot is empty when the copy starts: if
                // an earlier group has used it, `link` waits for `emptied`.
                unsafe { enqueue_copy(Ends { to: staged, from: host, bytes }, link, stream) }?;
                if is_last {
                    // SAFETY: `link` is a live stream of this device.
                    unsafe { filled.record(link) }?;
                    // SAFETY: `raw` is a live stream of this device.
                    unsafe { filled.make_stream_wait(raw) }?;
                    // SAFETY: the caller ensures that the device's end is valid. `raw` waits until the slot is full.
                    unsafe { enqueue_copy(Ends { to: device, from: slot, bytes: group_bytes }, raw, stream) }?;
                    // SAFETY: `raw` is a live stream of this device.
                    unsafe { emptied.record(raw) }?;
                }
            }
            Direction::ToHost => {
                if is_first {
                    if is_reused {
                        // SAFETY: `raw` is a live stream of this device.
                        unsafe { emptied.make_stream_wait(raw) }?;
                    }
                    // SAFETY: the caller ensures that the device's end is valid. The slot is empty when the copy
                    // starts: if an earlier group has used it, `raw` waits for `emptied`.
                    unsafe { enqueue_copy(Ends { to: slot, from: device, bytes: group_bytes }, raw, stream) }?;
                    // SAFETY: `raw` is a live stream of this device.
                    unsafe { filled.record(raw) }?;
                    // SAFETY: `link` is a live stream of this device.
                    unsafe { filled.make_stream_wait(link) }?;
                }
                // SAFETY: the caller ensures that the host's end is valid. `link` has waited until the slot is full.
                unsafe { enqueue_copy(Ends { to: host, from: staged, bytes }, link, stream) }?;
                if is_last {
                    // SAFETY: `link` is a live stream of this device.
                    unsafe { emptied.record(link) }?;
                }
            }
        }
        Ok(())
    }

    /// Returns the start of the staging memory, which is that of its first slot.
    pub(super) fn start(&self) -> *mut u8 {
        self.memory.at(0)
    }

    /// Returns the stream of the copies over the link.
    pub(super) fn link(&self) -> RawStream {
        self.link.raw()
    }

    /// Waits for the copies of a transfer, of which `enqueued` reports whether all could be enqueued.
    ///
    /// After an error it synchronizes the device. So in any case nothing uses either end, nor the staging memory,
    /// afterwards.
    pub(super) fn wait(
        &self,
        enqueued: Result<(), DeviceError>,
        direction: Direction,
        stream: &Stream,
    ) -> Result<(), DeviceError> {
        let wait_for_device = |error| stream.device().synchronize().map_err(DeviceError::from).and(Err(error));
        match (enqueued, direction) {
            // The last copy is on `stream`, which has waited for the link. To the host it is on the link.
            (Ok(()), Direction::ToDevice) => wait_for_stream(stream),
            (Ok(()), Direction::ToHost) => self.link.synchronize().map_err(DeviceError::from).or_else(wait_for_device),
            (Err(error), _) => wait_for_device(error),
        }
    }
}
