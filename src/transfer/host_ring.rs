//! [`HostRing`]: transfers between pageable memory and the device, through pinned memory.
//!
//! Threads of the host copy between the caller's memory and the slots of the ring. The calling thread enqueues all
//! copies of the device, in the order of the chunks, so that a simulated device sees the same calls in every run. While
//! it waits for the other threads it copies too. So a transfer finishes even if these threads make no progress.

use super::copy_threads;
use super::device_staging::DeviceStaging;
use super::enqueue::{enqueue_copy, wait_for_stream};
use super::pipeline::{PIECES_PER_CHUNK, Pipeline, SLOTS_MAX};
use super::request::{Direction, Ends, Part, Transfer};
use super::sizes::STAGING_SLOT;
use crate::device::error::DeviceError;
use crate::device::stream::Stream;
use cumem_driver::owned::{OwnedEvent, OwnedPinnedMemory, RawDevice};

/// Bytes that a thread copies at a time.
const PIECE: usize = 128 << 10;
const SLOT: usize = PIECES_PER_CHUNK * PIECE;
/// Bytes of pinned memory of a ring.
pub(super) const BYTES: usize = SLOTS_MAX * SLOT;
/// Copies of the device in flight: enough to keep the link busy, and so few that the host has most of the slots.
const IN_FLIGHT: usize = 2;
/// Bytes that a copy within the device moves at a time, in transfers that are also staged on the device.
const GROUP: usize = STAGING_SLOT / 2;
/// Slots that a transfer to the device uses: 16 MiB, because that much stays in the processor's caches.
const SLOTS_TO_DEVICE: usize = SLOTS_MAX / 2;

/// 32 MiB of pinned memory.
pub(super) struct HostRing {
    memory: OwnedPinnedMemory,
    /// For each slot, recorded after the device's copy of its chunk.
    copied: Box<[OwnedEvent]>,
}

/// Finds the memory of a transfer's chunks and pieces.
#[derive(Debug, Clone, Copy)]
struct ChunkMap {
    transfer: Transfer,
    slots: *mut u8,
}

// SAFETY: the pointers are only addresses here; the unsafe call that copies has the contract for their memory.
unsafe impl Send for ChunkMap {}
// SAFETY: a shared reference gives only the same addresses.
unsafe impl Sync for ChunkMap {}

impl ChunkMap {
    /// Returns the ends of the host's copy of a piece.
    fn host_copy(&self, pipeline: &Pipeline, piece: usize) -> Ends {
        let chunk = pipeline.chunk_of(piece);
        let part = self.part(pipeline, chunk);
        let start = piece * PIECE;
        let (slot, host) = (part.host.wrapping_add(start - part.start), self.transfer.host.wrapping_add(start));
        let bytes = PIECE.min(self.transfer.bytes - start);
        match self.transfer.direction {
            Direction::ToDevice => Ends { to: slot, from: host, bytes },
            Direction::ToHost => Ends { to: host, from: slot, bytes },
        }
    }

    /// Returns the ends of the device's copy of a part.
    fn device_copy(&self, part: Part) -> Ends {
        let device = self.transfer.device.wrapping_add(part.start);
        match self.transfer.direction {
            Direction::ToDevice => Ends { to: device, from: part.host, bytes: part.bytes },
            Direction::ToHost => Ends { to: part.host, from: device, bytes: part.bytes },
        }
    }

    /// Returns a chunk as a part of the transfer, whose host end is the chunk's slot.
    fn part(&self, pipeline: &Pipeline, chunk: usize) -> Part {
        let pieces = pipeline.pieces(chunk);
        let start = pieces.start * PIECE;
        let bytes = (pieces.len() * PIECE).min(self.transfer.bytes - start);
        Part { start, bytes, host: self.slots.wrapping_add(chunk % pipeline.slots * SLOT) }
    }
}

impl HostRing {
    pub(super) fn new(device: &RawDevice) -> Result<Self, DeviceError> {
        let copied = (0..SLOTS_MAX).map(|_| OwnedEvent::new(device, false)).collect::<Result<_, _>>()?;
        Ok(Self { memory: OwnedPinnedMemory::new(device, BYTES)?, copied })
    }

    /// Runs the transfer, through `staging` too if it is given. Returns `false`, without having done anything, if there
    /// are no copy threads.
    ///
    /// # Safety
    ///
    /// The contract of [`Transfer`].
    pub(super) unsafe fn run(
        &self,
        transfer: Transfer,
        staging: Option<&DeviceStaging>,
        stream: &Stream,
    ) -> Result<bool, DeviceError> {
        let Some(threads) = copy_threads::thread_pool() else { return Ok(false) };
        let map = ChunkMap { transfer, slots: self.memory.at(0) };
        let slots = if transfer.direction == Direction::ToDevice { SLOTS_TO_DEVICE } else { SLOTS_MAX };
        let pipeline = &Pipeline::new(transfer.bytes.div_ceil(PIECE), slots, transfer.direction);
        let copy = move |piece| {
            let ends = map.host_copy(pipeline, piece);
            match transfer.direction {
                // SAFETY: the caller ensures that the host's end is valid. The pipeline has opened the piece, so the
                // device does not use the slot.
                Direction::ToDevice => unsafe { ends.copy_past_caches() },
                // SAFETY: the same two reasons.
                Direction::ToHost => unsafe { ends.copy_and_demote_source() },
            }
        };
        threads.in_place_scope(|scope| {
            let start_workers =
                || pipeline.start_workers(copy_threads::count(), || scope.spawn(move |_| pipeline.work(copy)));
            let wait_for_host = |chunk| pipeline.wait_for_chunk(chunk, copy);
            // SAFETY: the caller keeps the contract of `Transfer`, and the waits below end the device's copies.
            let enqueued = unsafe { self.enqueue_chunks(map, pipeline, staging, stream, start_workers, wait_for_host) };
            match &enqueued {
                Ok(()) => pipeline.copy_open_pieces(copy),
                Err(_) => pipeline.stop(),
            }
            // Wait after an error too, because the next transfer that borrows the ring reuses its slots.
            match staging {
                Some(staging) => staging.wait(enqueued, transfer.direction, stream),
                None => {
                    let waited = wait_for_stream(stream);
                    enqueued.and(waited)
                }
            }
            .map(|()| true)
        })
    }

    /// Enqueues the device's copies, and opens each slot to the host when the device has finished with it.
    ///
    /// `start_workers` starts threads for pieces that have been opened. `wait_for_host` waits until the host has copied
    /// a chunk.
    ///
    /// # Safety
    ///
    /// The contract of [`Transfer`], until the stream, or `staging`, has been waited for.
    unsafe fn enqueue_chunks(
        &self,
        map: ChunkMap,
        pipeline: &Pipeline,
        staging: Option<&DeviceStaging>,
        stream: &Stream,
        start_workers: impl Fn(),
        wait_for_host: impl Fn(usize),
    ) -> Result<(), DeviceError> {
        let (count, direction) = (pipeline.chunks(), map.transfer.direction);
        let link = staging.map_or_else(|| stream.raw(), |staging| Ok(staging.link()))?;
        if direction == Direction::ToDevice {
            pipeline.open(0..pipeline.slots.min(count));
            start_workers();
        }
        for step in 0..count + IN_FLIGHT {
            if step < count {
                match direction {
                    Direction::ToDevice => wait_for_host(step),
                    Direction::ToHost => step.checked_sub(pipeline.slots).into_iter().for_each(&wait_for_host),
                }
                let part = map.part(pipeline, step);
                match staging {
                    // SAFETY: the caller ensures that the device's end is valid. The host has finished with the slot.
                    None => unsafe { enqueue_copy(map.device_copy(part), link, stream) },
                    // SAFETY: the same two reasons; the slot is pinned, and the chunks come in order.
                    Some(staging) => unsafe { staging.enqueue_part(map.transfer, part, GROUP, stream) },
                }?;
                // SAFETY: `link` is a live stream of this device.
                unsafe { self.copied[step % pipeline.slots].record(link) }?;
                if step == 0 && direction == Direction::ToHost {
                    // The threads wake while the first chunk is in flight.
                    start_workers();
                }
            }
            if let Some(chunk) = step.checked_sub(IN_FLIGHT) {
                self.copied[chunk % pipeline.slots].synchronize()?;
                let next = match direction {
                    Direction::ToDevice => chunk + pipeline.slots,
                    Direction::ToHost => chunk,
                };
                pipeline.open(next.min(count)..(next + 1).min(count));
                start_workers();
            }
        }
        Ok(())
    }
}
