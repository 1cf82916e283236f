//! [`Stage`]: transfers between page-locked and unified memory, through plain device memory.
//!
//! A copy engine moves the bytes over the link at its full speed, which the driver does for plain device memory only, and a
//! copy within the device follows a chunk behind.

use super::gear::{DeviceMemory, Door, Lane, Mark};
use super::host::Ends;
use super::path::Direction;
use super::{Transfer, enqueue_copy, settle};
use crate::error::DriverError;
use crate::stream::Stream;

const SLOTS: usize = 3;
const SLOT: usize = 8 << 20;

/// 24 MiB of device memory, and a stream for the link.
pub(super) struct Stage {
    memory: DeviceMemory,
    lane: Lane,
    filled: [Mark; SLOTS],
    emptied: [Mark; SLOTS],
}

impl Stage {
    pub(super) fn new(door: &Door) -> Result<Self, DriverError> {
        let marks = || Ok::<_, DriverError>([Mark::new(door)?, Mark::new(door)?, Mark::new(door)?]);
        let (filled, emptied, lane) = (marks()?, marks()?, Lane::new(door)?);
        Ok(Self { memory: DeviceMemory::new(door, SLOTS * SLOT)?, lane, filled, emptied })
    }

    /// # Safety
    ///
    /// That of [`Transfers::carry`](super::Transfers::carry), and the host's end is page-locked.
    pub(super) unsafe fn carry(&self, transfer: Transfer, stream: &Stream) -> Result<(), DriverError> {
        // SAFETY: by this function's contract.
        let enqueued = unsafe { self.enqueue(transfer, stream) };
        // Where a wait fails the device is waited for: neither end, nor the memory here, is used any more afterwards.
        let device = |error| stream.device().synchronize().and(Err(error));
        match (enqueued, transfer.direction) {
            // The stream that comes last has waited for the other.
            (Ok(()), Direction::ToDevice) => settle(stream),
            (Ok(()), Direction::ToHost) => self.lane.synchronize().or_else(device),
            (Err(error), _) => device(error),
        }
    }

    /// # Safety
    ///
    /// That of [`carry`](Self::carry), until both streams have passed it.
    unsafe fn enqueue(&self, transfer: Transfer, stream: &Stream) -> Result<(), DriverError> {
        let raw = stream.raw()?;
        let (first, second, size) = match transfer.direction {
            Direction::ToDevice => (self.lane.raw, raw, SLOT),
            // The end is a copy over the link that nothing overlaps: a shorter one.
            Direction::ToHost => (raw, self.lane.raw, SLOT / 2),
        };
        for (chunk, start) in (0..transfer.bytes).step_by(size).enumerate() {
            let (slot, bytes) = (self.memory.at(chunk % SLOTS * SLOT), size.min(transfer.bytes - start));
            let (filled, emptied) = (&self.filled[chunk % SLOTS], &self.emptied[chunk % SLOTS]);
            let Ends { to, from, .. } = transfer.ends().part(start, bytes);
            if chunk >= SLOTS {
                emptied.hold(first)?;
            }
            // SAFETY: the caller vouches for its end; the slot is empty, and waits are enqueued where it is not.
            unsafe { enqueue_copy(Ends { to: slot, from, bytes }, first, stream) }?;
            filled.set(first)?;
            filled.hold(second)?;
            // SAFETY: the caller vouches for its end; the slot is full from here on.
            unsafe { enqueue_copy(Ends { to, from: slot, bytes }, second, stream) }?;
            emptied.set(second)?;
        }
        Ok(())
    }
}
