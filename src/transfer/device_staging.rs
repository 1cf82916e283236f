//! [`Stage`]: transfers between page-locked and unified memory, through plain device memory.
//!
//! A copy engine moves the bytes over the link at its full speed, which the driver does for plain device memory only,
//! and a copy within the device follows a chunk behind.

use super::enqueue::{enqueue_copy, settle};
use super::path::STAGING_SLOT as SLOT;
use super::request::Direction;
use super::request::Ends;
use super::request::Transfer;
use crate::device::error::DeviceError;
use crate::device::stream::Stream;
use cumem_driver::RawStream;
use cumem_driver::owned::{OwnedDeviceMemory, OwnedEvent, OwnedStream, RawDevice};

const SLOTS: usize = 3;

/// Bytes of a transfer from `start` on, and where page-locked memory has them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Part {
    pub(super) start: usize,
    pub(super) bytes: usize,
    pub(super) host: *mut u8,
}

/// 24 MiB of device memory, and a stream for the link.
pub(super) struct Stage {
    memory: OwnedDeviceMemory,
    lane: OwnedStream,
    filled: [OwnedEvent; SLOTS],
    emptied: [OwnedEvent; SLOTS],
}

impl Stage {
    pub(super) fn new(door: &RawDevice) -> Result<Self, DeviceError> {
        let marks = || {
            Ok::<_, DeviceError>([
                OwnedEvent::new(door, false)?,
                OwnedEvent::new(door, false)?,
                OwnedEvent::new(door, false)?,
            ])
        };
        let (filled, emptied, lane) = (marks()?, marks()?, OwnedStream::new(door, false)?);
        Ok(Self { memory: OwnedDeviceMemory::new(door, SLOTS * SLOT)?, lane, filled, emptied })
    }

    /// # Safety
    ///
    /// That of [`Transfers::carry`](super::Transfers::carry), and the host's end is page-locked.
    pub(super) unsafe fn carry(&self, transfer: Transfer, stream: &Stream) -> Result<(), DeviceError> {
        let group = match transfer.direction {
            Direction::ToDevice => SLOT,
            // The end is a copy over the link that nothing overlaps: a shorter one.
            Direction::ToHost => SLOT / 2,
        };
        let mut parts = (0..transfer.bytes).step_by(group);
        let enqueued = parts.try_for_each(|start| {
            let part =
                Part { start, bytes: group.min(transfer.bytes - start), host: transfer.host.wrapping_add(start) };
            // SAFETY: by this function's contract.
            unsafe { self.pass(transfer, part, group, stream) }
        });
        self.settle(enqueued, transfer.direction, stream)
    }

    /// Enqueues the copies of one part, which lies within one of the groups of `group` bytes that the copies within the
    /// device move: half a slot, or a whole one. Parts come in order.
    ///
    /// # Safety
    ///
    /// That of [`carry`](Self::carry), until [`settle`](Self::settle), with the part's memory for the host's end.
    pub(super) unsafe fn pass(
        &self,
        transfer: Transfer,
        part: Part,
        group: usize,
        stream: &Stream,
    ) -> Result<(), DeviceError> {
        let (raw, link) = (stream.raw()?, self.lane.raw());
        let Part { start, bytes, host } = part;
        let (nth, within) = (start / group, start % group);
        let (slot, device) = (self.memory.at(nth % SLOTS * SLOT), transfer.device.wrapping_add(start - within));
        let whole = group.min(transfer.bytes - (start - within));
        let (begins, ends, again) = (within == 0, within + bytes == whole, nth >= SLOTS);
        let (filled, emptied) = (&self.filled[nth % SLOTS], &self.emptied[nth % SLOTS]);
        let staged = slot.wrapping_add(within);
        match transfer.direction {
            Direction::ToDevice => {
                if begins && again {
                    // SAFETY: both streams are alive, and belong to this device.
                    unsafe { emptied.hold(link) }?;
                }
                // SAFETY: the caller vouches for its end; the slot is empty, and waits are enqueued where it is not.
                unsafe { enqueue_copy(Ends { to: staged, from: host, bytes }, link, stream) }?;
                if ends {
                    // SAFETY: both streams are alive, and belong to this device.
                    unsafe { filled.record(link) }?;
                    // SAFETY: both streams are alive, and belong to this device.
                    unsafe { filled.hold(raw) }?;
                    // SAFETY: the caller vouches for its end; the slot is full from here on.
                    unsafe { enqueue_copy(Ends { to: device, from: slot, bytes: whole }, raw, stream) }?;
                    // SAFETY: both streams are alive, and belong to this device.
                    unsafe { emptied.record(raw) }?;
                }
            }
            Direction::ToHost => {
                if begins {
                    if again {
                        // SAFETY: both streams are alive, and belong to this device.
                        unsafe { emptied.hold(raw) }?;
                    }
                    // SAFETY: as above.
                    unsafe { enqueue_copy(Ends { to: slot, from: device, bytes: whole }, raw, stream) }?;
                    // SAFETY: both streams are alive, and belong to this device.
                    unsafe { filled.record(raw) }?;
                    // SAFETY: both streams are alive, and belong to this device.
                    unsafe { filled.hold(link) }?;
                }
                // SAFETY: as above.
                unsafe { enqueue_copy(Ends { to: host, from: staged, bytes }, link, stream) }?;
                if ends {
                    // SAFETY: both streams are alive, and belong to this device.
                    unsafe { emptied.record(link) }?;
                }
            }
        }
        Ok(())
    }

    /// Its memory: slots of [`SLOT`] bytes.
    pub(super) fn start(&self) -> *mut u8 {
        self.memory.at(0)
    }

    /// The stream for the link, behind which the last part's bytes are over the link.
    pub(super) fn link(&self) -> RawStream {
        self.lane.raw()
    }

    /// Waits for what was `enqueued`. Where that fails the device is waited for: neither end, nor the memory here, is
    /// used any more afterwards.
    pub(super) fn settle(
        &self,
        enqueued: Result<(), DeviceError>,
        direction: Direction,
        stream: &Stream,
    ) -> Result<(), DeviceError> {
        let device = |error| stream.device().synchronize().map_err(DeviceError::from).and(Err(error));
        match (enqueued, direction) {
            // The stream that comes last has waited for the other.
            (Ok(()), Direction::ToDevice) => settle(stream),
            (Ok(()), Direction::ToHost) => self.lane.synchronize().map_err(DeviceError::from).or_else(device),
            (Err(error), _) => device(error),
        }
    }
}
