//! [`Chunks`]: what the pool has from its upstream. The only place that takes from it and gives back.

use super::fence::Fences;
use super::units::{Extent, UNIT};
use super::untouched::Untouched;
use cumem::{AllocError, Block, DeallocReason, Location, Stream, Upstream, hints, layout};
use std::collections::BTreeMap;
use std::ops::Range;

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct Chunks {
    blocks: BTreeMap<u64, Block>,
    reserved: usize,
    /// What of it no stream has been given yet.
    pub(super) untouched: Untouched,
    peak_touched: usize,
    /// Addresses, in units, in which chunks that touch can be used as one.
    joinable: Range<u64>,
}

impl Chunks {
    /// From now on, chunks that touch within `addresses` (bytes) are used as one.
    pub(super) fn set_joinable(&mut self, addresses: Range<u64>) {
        self.joinable = addresses.start / UNIT as u64..addresses.end / UNIT as u64;
    }

    /// Whether memory at `addr`, where a chunk or an untouched part begins, is apart from what lies before it.
    pub(super) fn is_boundary(&self, addr: u64) -> bool {
        if self.untouched.starts_at(addr) {
            return self.blocks.contains_key(&addr);
        }
        // What lies before the first of the addresses is somebody else's.
        !self.joinable.contains(&addr) || addr == self.joinable.start
    }

    /// Whether a whole chunk lies in `units`.
    pub(super) fn has_chunk_within(&self, units: Range<u64>) -> bool {
        self.blocks.range(units.clone()).any(|(&addr, block)| addr + (block.size() / UNIT) as u64 <= units.end)
    }

    /// Bytes that are had from the upstream.
    pub(super) fn reserved(&self) -> usize {
        self.reserved
    }

    /// Bytes of that which streams have been given at some time, and the most that they ever were.
    pub(super) fn touched(&self) -> (usize, usize) {
        let now = self.reserved - self.untouched.units() as usize * UNIT;
        (now, now.max(self.peak_touched))
    }

    /// Lets the first `units` of the untouched part at `addr` go, to be used.
    pub(super) fn touch(&mut self, addr: u64, units: u64) -> Option<Fences> {
        let fences = self.untouched.take(addr, units);
        self.peak_touched = self.touched().1;
        fences
    }

    pub(super) fn count(&self) -> usize {
        self.blocks.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Block> {
        self.blocks.values()
    }

    /// Where each chunk is.
    pub(super) fn extents(&self) -> Vec<Extent> {
        self.blocks.iter().map(|(&addr, block)| Extent { addr, units: (block.size() / UNIT) as u64 }).collect()
    }

    /// Where each chunk is that can be used as one with those beside it.
    pub(super) fn joinable_extents(&self) -> Vec<Extent> {
        let extents = self.blocks.range(self.joinable.clone());
        extents.map(|(&addr, block)| Extent { addr, units: (block.size() / UNIT) as u64 }).collect()
    }

    /// The chunk that memory at `addr` lies in, and where it begins.
    ///
    /// # Panics
    ///
    /// If it is none of the pool's.
    pub(super) fn chunk_at(&self, addr: u64) -> (u64, &Block) {
        let found = self.blocks.range(..=addr).next_back();
        let found = found.filter(|&(start, block)| addr < start + (block.size() / UNIT) as u64);
        found.map(|(&start, block)| (start, block)).expect("all memory of a pool lies in a chunk")
    }

    /// Takes `bytes` or, where memory has run out, half of it and half of that, down to `least`. Both are
    /// multiples of [`UNIT`]. The memory is ready on `stream`, and on its way to `prefetch`.
    pub(super) fn grow(
        &mut self,
        upstream: &impl Upstream,
        stream: &Stream,
        bytes: usize,
        least: usize,
        prefetch: Option<Location>,
    ) -> Result<Extent, AllocError> {
        let mut ask = bytes;
        let block = loop {
            match upstream.allocate(stream, layout::bytes(ask)?) {
                Ok(block) => break block,
                Err(error) if error.is_out_of_memory() && ask > least => {
                    ask = layout::align_down(ask / 2, UNIT).max(least);
                }
                Err(error) => return Err(error),
            }
        };
        if let Some(to) = prefetch
            && let Err(source) = hints::prefetch(&block, 0..block.size(), to, stream)
        {
            let requested = block.size();
            // SAFETY: the block has just come from this upstream, and nothing has used it.
            let result = unsafe { upstream.deallocate(stream, block) };
            cumem::record_drop_error("a chunk that could not be prefetched", result);
            return Err(AllocError::PrefetchFailed { requested, source });
        }
        let grown = Extent { addr: block.addr() / UNIT as u64, units: (block.size() / UNIT) as u64 };
        self.reserved += block.size();
        self.blocks.insert(grown.addr, block);
        Ok(grown)
    }

    /// The part of the chunk at `addr` that no stream has been given yet.
    pub(super) fn untouched_of(&self, addr: u64) -> Option<(Range<u64>, Fences)> {
        let end = addr + (self.blocks.get(&addr)?.size() / UNIT) as u64;
        self.untouched.part_within(addr, end)
    }

    /// Gives back the chunk at `addr`, all of whose touched memory is free and waits for `fences`. On failure it
    /// stays.
    pub(super) fn release(
        &mut self,
        upstream: &impl Upstream,
        addr: u64,
        fences: &Fences,
        service: &Stream,
    ) -> Result<usize, DeallocReason> {
        fences.wait_on(service)?;
        let untouched = self.untouched_of(addr);
        if let Some((_, fences)) = &untouched {
            fences.wait_on(service)?;
        }
        let Some(block) = self.blocks.remove(&addr) else { return Ok(0) };
        let bytes = block.size();
        // SAFETY: the chunk came from this upstream and nothing in it is live; its last uses come before
        // the fences, for which `service` has just been made to wait.
        match unsafe { upstream.deallocate(service, block) } {
            Ok(()) => {
                self.peak_touched = self.touched().1;
                if let Some((part, _)) = untouched {
                    self.untouched.take(part.start, part.end - part.start);
                }
                self.reserved -= bytes;
                Ok(bytes)
            }
            Err(error) => {
                self.blocks.insert(addr, error.block);
                Err(error.reason)
            }
        }
    }
}
