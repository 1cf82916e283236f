//! [`Ring`]: transfers from and to memory of the process, through page-locked memory.
//!
//! Threads of the host copy chunks between the caller's memory and the slots of the ring. The calling thread gives the
//! device its copies, all of them and in the order of the chunks, so that a simulated device sees the same calls in every
//! run.

use super::belt::{Belt, SLOTS};
use super::gear::{Door, Mark, PinnedMemory};
use super::host::{self, Ends};
use super::path::Direction;
use super::{Transfer, enqueue_copy, settle};
use crate::error::DriverError;
use crate::stream::Stream;
use std::thread;

/// A slot, and a chunk of a large transfer.
const SLOT: usize = 2 << 20;
/// Below, chunks are half as large, so that every thread has some.
const LARGE: usize = 16 << 20;
/// Copies that the link has before it: enough to keep it busy, while most slots are the host's.
const UNDER_WAY: usize = 2;

/// 24 MiB of page-locked memory.
pub(super) struct Ring {
    memory: PinnedMemory,
    landed: Box<[Mark]>,
}

/// Where the chunks of a transfer are.
#[derive(Debug, Clone, Copy)]
struct Chunks {
    transfer: Transfer,
    slots: *mut u8,
    size: usize,
}

// SAFETY: addresses; who copies vouches for what is there.
unsafe impl Sync for Chunks {}

impl Chunks {
    fn count(&self) -> usize {
        self.transfer.bytes.div_ceil(self.size)
    }

    /// The chunk at the device's end, in its slot, and at the host's end; and its size.
    fn places(&self, chunk: usize) -> (*mut u8, *mut u8, *mut u8, usize) {
        let start = chunk * self.size;
        let slot = self.slots.wrapping_add(chunk % SLOTS * SLOT);
        let (device, host) = (self.transfer.device.wrapping_add(start), self.transfer.host.wrapping_add(start));
        (device, slot, host, self.size.min(self.transfer.bytes - start))
    }

    fn on_host(&self, chunk: usize) -> Ends {
        let (_, slot, host, bytes) = self.places(chunk);
        match self.transfer.direction {
            Direction::ToDevice => Ends { to: slot, from: host, bytes },
            Direction::ToHost => Ends { to: host, from: slot, bytes },
        }
    }

    fn on_device(&self, chunk: usize) -> Ends {
        let (device, slot, _, bytes) = self.places(chunk);
        match self.transfer.direction {
            Direction::ToDevice => Ends { to: device, from: slot, bytes },
            Direction::ToHost => Ends { to: slot, from: device, bytes },
        }
    }
}

impl Ring {
    pub(super) fn new(door: &Door) -> Result<Self, DriverError> {
        let landed = (0..SLOTS).map(|_| Mark::new(door)).collect::<Result<_, _>>()?;
        Ok(Self { memory: PinnedMemory::new(door, SLOTS * SLOT)?, landed })
    }

    /// Carries the transfer out, unless no thread can be had: then it says so, and nothing was done.
    ///
    /// # Safety
    ///
    /// That of [`Transfers::carry`](super::Transfers::carry).
    pub(super) unsafe fn carry(&self, transfer: Transfer, stream: &Stream) -> Result<bool, DriverError> {
        let size = if transfer.bytes < LARGE { SLOT / 2 } else { SLOT };
        let chunks = &Chunks { transfer, slots: self.memory.at(0), size };
        // To begin with the slots are the host's to fill, or the device's.
        let filled_by_host = if transfer.direction == Direction::ToDevice { SLOTS } else { 0 };
        let belt = &Belt::new(chunks.count(), filled_by_host);
        // SAFETY: the caller vouches for its memory, and the belt has given the slot to the host.
        let copy = move |chunk| unsafe { chunks.on_host(chunk).stream() };
        thread::scope(|scope| {
            let start = |_: &usize| thread::Builder::new().spawn_scoped(scope, move || belt.work(copy)).is_ok();
            if (0..host::threads().min(chunks.count().div_ceil(2))).filter(start).count() == 0 {
                return Ok(false);
            }
            // SAFETY: by this function's contract.
            let fed = unsafe { self.feed(chunks, belt, stream) };
            if fed.is_err() {
                belt.stop();
            }
            // Whatever happened, the ring is not used any more when it is lent again.
            let settled = settle(stream);
            fed.and(settled).map(|()| true)
        })
    }

    /// Gives the device its copies, each when the host has done its part, and the host the slots that have become free.
    ///
    /// # Safety
    ///
    /// That of [`carry`](Self::carry).
    unsafe fn feed(&self, chunks: &Chunks, belt: &Belt, stream: &Stream) -> Result<(), DriverError> {
        let (count, raw) = (chunks.count(), stream.raw()?);
        for step in 0..count + UNDER_WAY {
            if step < count {
                let (before, _) = turns(chunks.transfer.direction, step);
                before.into_iter().for_each(|chunk| belt.wait(chunk));
                // SAFETY: the caller vouches for the device's end, and the belt has given the slot to the device.
                unsafe { enqueue_copy(chunks.on_device(step), raw, stream) }?;
                self.landed[step % SLOTS].set(raw)?;
            }
            if let Some(chunk) = step.checked_sub(UNDER_WAY) {
                self.landed[chunk % SLOTS].wait()?;
                belt.open(turns(chunks.transfer.direction, chunk).1);
            }
        }
        Ok(())
    }
}

/// The chunk that the host has to have copied before the device may copy `chunk`; and up to where the host may go on when
/// the device has done so.
fn turns(direction: Direction, chunk: usize) -> (Option<usize>, usize) {
    match direction {
        Direction::ToDevice => (Some(chunk), chunk + 1 + SLOTS),
        Direction::ToHost => (chunk.checked_sub(SLOTS), chunk + 1),
    }
}
