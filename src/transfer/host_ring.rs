//! [`Ring`]: transfers from and to memory of the process, through page-locked memory.
//!
//! Threads of the host copy between the caller's memory and the slots of the ring. The calling thread gives the device
//! its copies, all of them and in the order of the chunks, so that a simulated device sees the same calls in every run;
//! where it would wait for the other threads it copies too, so that no transfer needs them to get on.

use super::copy_threads;
use super::device_staging::{Part, Stage};
use super::enqueue::{enqueue_copy, settle};
use super::path::STAGING_SLOT;
use super::pipeline::{Belt, PER_CHUNK, SLOTS};
use super::request::Direction;
use super::request::Ends;
use super::request::Transfer;
use crate::device::error::DeviceError;
use crate::device::stream::Stream;
use cumem_driver::owned::{OwnedEvent, OwnedPinnedMemory, RawDevice};

/// What a thread copies at a time.
const PIECE: usize = 128 << 10;
const SLOT: usize = PER_CHUNK * PIECE;
/// Copies that the link has before it: enough to keep it busy, while most slots are the host's.
const UNDER_WAY: usize = 2;
/// What a copy within the device moves at a time, where there is a stage.
const GROUP: usize = STAGING_SLOT / 2;

/// On the way up, that much is in the caches.
const SLOTS_UP: usize = SLOTS / 2;

/// 32 MiB of page-locked memory.
pub(super) struct Ring {
    memory: OwnedPinnedMemory,
    landed: Box<[OwnedEvent]>,
}

/// Where the chunks and pieces of a transfer are.
#[derive(Debug, Clone, Copy)]
struct Places {
    transfer: Transfer,
    slots: *mut u8,
}

// SAFETY: addresses; who copies vouches for what is there.
unsafe impl Send for Places {}
// SAFETY: as above.
unsafe impl Sync for Places {}

impl Places {
    /// What the host copies for a piece of `belt`.
    fn on_host(&self, belt: &Belt, piece: usize) -> Ends {
        let chunk = belt.chunk_of(piece);
        let part = self.part(belt, chunk);
        let start = piece * PIECE;
        let (slot, host) = (part.host.wrapping_add(start - part.start), self.transfer.host.wrapping_add(start));
        let bytes = PIECE.min(self.transfer.bytes - start);
        match self.transfer.direction {
            Direction::ToDevice => Ends { to: slot, from: host, bytes },
            Direction::ToHost => Ends { to: host, from: slot, bytes },
        }
    }

    /// What the device copies for a chunk.
    fn on_device(&self, part: Part) -> Ends {
        let device = self.transfer.device.wrapping_add(part.start);
        match self.transfer.direction {
            Direction::ToDevice => Ends { to: device, from: part.host, bytes: part.bytes },
            Direction::ToHost => Ends { to: part.host, from: device, bytes: part.bytes },
        }
    }

    /// A chunk, and its slot.
    fn part(&self, belt: &Belt, chunk: usize) -> Part {
        let pieces = belt.pieces(chunk);
        let start = pieces.start * PIECE;
        let bytes = (pieces.len() * PIECE).min(self.transfer.bytes - start);
        Part { start, bytes, host: self.slots.wrapping_add(chunk % belt.slots * SLOT) }
    }
}

impl Ring {
    pub(super) fn new(door: &RawDevice) -> Result<Self, DeviceError> {
        let landed = (0..SLOTS).map(|_| OwnedEvent::new(door, false)).collect::<Result<_, _>>()?;
        Ok(Self { memory: OwnedPinnedMemory::new(door, SLOTS * SLOT)?, landed })
    }

    /// Carries the transfer out, through a `stage` if there is one, unless no thread can be had: then it says so, and
    /// nothing was done.
    ///
    /// # Safety
    ///
    /// That of [`Transfers::carry`](super::Transfers::carry).
    pub(super) unsafe fn carry(
        &self,
        transfer: Transfer,
        stage: Option<&Stage>,
        stream: &Stream,
    ) -> Result<bool, DeviceError> {
        let Some(crew) = copy_threads::get() else { return Ok(false) };
        let places = Places { transfer, slots: self.memory.at(0) };
        let slots = if transfer.direction == Direction::ToDevice { SLOTS_UP } else { SLOTS };
        let belt = &Belt::new(transfer.bytes.div_ceil(PIECE), slots, transfer.direction);
        let copy = move |piece| {
            let ends = places.on_host(belt, piece);
            match transfer.direction {
                // SAFETY: the caller vouches for its memory, and the belt has given the slot to the host.
                Direction::ToDevice => unsafe { ends.stream() },
                // SAFETY: as above.
                Direction::ToHost => unsafe { ends.drain() },
            }
        };
        crew.in_place_scope(|scope| {
            let call = || belt.call(copy_threads::size(), || scope.spawn(move |_| belt.work(copy)));
            // SAFETY: by this function's contract.
            let fed = unsafe { self.feed(places, belt, stage, stream, call, |chunk| belt.wait(chunk, copy)) };
            match &fed {
                Ok(()) => belt.finish(copy),
                Err(_) => belt.stop(),
            }
            // Whatever happened, the ring is not used any more when it is lent again.
            match stage {
                Some(stage) => stage.settle(fed, transfer.direction, stream),
                None => {
                    let settled = settle(stream);
                    fed.and(settled)
                }
            }
            .map(|()| true)
        })
    }

    /// Gives the device its copies, each when the host has done its part (`wait`), and the host the slots that have
    /// become free, for which it calls threads (`call`).
    ///
    /// # Safety
    ///
    /// That of [`carry`](Self::carry).
    unsafe fn feed(
        &self,
        places: Places,
        belt: &Belt,
        stage: Option<&Stage>,
        stream: &Stream,
        call: impl Fn(),
        wait: impl Fn(usize),
    ) -> Result<(), DeviceError> {
        let (count, direction) = (belt.chunks(), places.transfer.direction);
        let link = stage.map_or_else(|| stream.raw(), |stage| Ok(stage.link()))?;
        if direction == Direction::ToDevice {
            belt.open(0..belt.slots.min(count));
            call();
        }
        for step in 0..count + UNDER_WAY {
            if step < count {
                match direction {
                    Direction::ToDevice => wait(step),
                    Direction::ToHost => step.checked_sub(belt.slots).into_iter().for_each(&wait),
                }
                let part = places.part(belt, step);
                match stage {
                    // SAFETY: the caller vouches for the device's end, and the belt has given the slot to the device.
                    None => unsafe { enqueue_copy(places.on_device(part), link, stream) },
                    // SAFETY: as above; the slot is page-locked.
                    Some(stage) => unsafe { stage.pass(places.transfer, part, GROUP, stream) },
                }?;
                // SAFETY: the stream is alive, and belongs to this device.
                unsafe { self.landed[step % belt.slots].record(link) }?;
                if step == 0 && direction == Direction::ToHost {
                    // They wake while the first chunk comes.
                    call();
                }
            }
            if let Some(chunk) = step.checked_sub(UNDER_WAY) {
                self.landed[chunk % belt.slots].synchronize()?;
                let next = match direction {
                    Direction::ToDevice => chunk + belt.slots,
                    Direction::ToHost => chunk,
                };
                belt.open(next.min(count)..(next + 1).min(count));
                call();
            }
        }
        Ok(())
    }
}
