//! [`Chunks`]: the memory that the pool took from its upstream. Only this type allocates from the upstream for the pool
//! and frees to it.

use super::fence::Fences;
use super::request::Request;
use super::step::{GRANULARITY, STEP_MAX};
use super::units::{Extent, UNIT};
use super::untouched::Untouched;
use cumem::device::deferral::allowing_waits;
use cumem::error::{DeallocReason, unreported};
use cumem::sim::declare_released;
use cumem::unified::hints;
use cumem::{AllocError, Block, Location, Stream, Upstream, layout};
use std::collections::BTreeMap;
use std::ops::Range;

/// A wholly free chunk is kept for requests of at least this part of the request that it was allocated for. With 16
/// instead of 256, a trace of a training run takes an eighth more memory (`gpt2`, `device | pool`).
pub(super) const KEPT_RATIO: u64 = 256;

fn is_much_larger(made_for: u64, request: u32) -> bool {
    made_for / KEPT_RATIO > u64::from(request)
}

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Chunks {
    blocks: BTreeMap<u64, Block>,
    /// The units of the request that each chunk was allocated for. Chunks for no single request are left out.
    made_for: BTreeMap<u64, u64>,
    reserved: usize,
    peak_reserved: usize,
    /// The most bytes to grow by, if the request needs no more: lower while the upstream is nearly out of memory.
    step_most: usize,
    /// The smallest chunk that the upstream has refused since it last served the pool. A request of this size cuts kept
    /// chunks, because the upstream would refuse a chunk for it.
    refused: usize,
    /// The parts of chunks that no stream has been given yet.
    pub(super) untouched: Untouched,
    peak_touched: usize,
    /// The addresses, in units, in which adjacent chunks can be used as one.
    joinable: Range<u64>,
}

impl Chunks {
    pub(super) fn new() -> Self {
        Self {
            blocks: BTreeMap::new(),
            made_for: BTreeMap::new(),
            reserved: 0,
            peak_reserved: 0,
            step_most: STEP_MAX,
            refused: usize::MAX,
            untouched: Untouched::default(),
            peak_touched: 0,
            joinable: 0..0,
        }
    }

    /// Declares that adjacent chunks within `addresses` (bytes) can be used as one.
    pub(super) fn set_joinable(&mut self, addresses: Range<u64>) {
        self.joinable = addresses.start / UNIT as u64..addresses.end / UNIT as u64;
    }

    /// Reports whether memory at `addr` must stay apart from the memory before it. A chunk or an untouched part must
    /// begin at `addr`.
    pub(super) fn is_boundary(&self, addr: u64) -> bool {
        if self.untouched.starts_at(addr) {
            return self.blocks.contains_key(&addr);
        }
        // The memory before the first of these addresses does not belong to the leaf.
        !self.joinable.contains(&addr) || addr == self.joinable.start
    }

    /// Reports whether a whole chunk lies within `units`.
    pub(super) fn has_chunk_within(&self, units: Range<u64>) -> bool {
        self.blocks.range(units.clone()).any(|(&addr, block)| addr + (block.size() / UNIT) as u64 <= units.end)
    }

    /// Returns the bytes that the pool holds from its upstream.
    pub(super) fn reserved(&self) -> usize {
        self.reserved
    }

    /// Makes the peaks start again from the present values.
    pub(super) fn reset_peaks(&mut self) {
        (self.peak_reserved, self.peak_touched) = (self.reserved, self.touched().0);
    }

    /// Returns the most bytes that the pool has ever held from its upstream.
    pub(super) fn peak_reserved(&self) -> usize {
        self.peak_reserved
    }

    /// Returns the most bytes to grow by, if the request needs no more.
    pub(super) fn step_most(&self) -> usize {
        self.step_most
    }

    /// Reports whether the free memory at `addr` is a whole chunk that is kept for larger requests than one of
    /// `request` units. A small block would otherwise make the whole chunk useless for a large one.
    fn keeps(&self, addr: u64, units: u64, request: u32) -> bool {
        let is_kept = self.made_for.get(&addr).is_some_and(|&made_for| is_much_larger(made_for, request));
        is_kept && units == (self.blocks[&addr].size() / UNIT) as u64
    }

    /// Reports whether `request` may be served from the free memory at `addr`.
    pub(super) fn admits(&self, addr: u64, units: u64, request: Request) -> bool {
        request.cuts_kept || request.units as usize * UNIT >= self.refused || !self.keeps(addr, units, request.units)
    }

    /// Reports whether a chunk is kept for larger requests than one of `request` units.
    pub(super) fn keeps_any(&self, request: u32) -> bool {
        self.made_for.values().any(|&made_for| is_much_larger(made_for, request))
    }

    /// Reports whether the pool has one chunk, which was not allocated for a single request.
    pub(super) fn is_one_for_all(&self) -> bool {
        self.blocks.len() == 1 && self.made_for.is_empty()
    }

    /// Returns the bytes of the chunks that are not kept for larger requests than one of `request` units.
    pub(super) fn reserved_for(&self, request: u32) -> usize {
        let kept = self.made_for.iter().filter(|&(_, &made_for)| is_much_larger(made_for, request));
        self.reserved - kept.map(|(addr, _)| self.blocks[addr].size()).sum::<usize>()
    }

    /// Returns the reserved bytes that streams have been given at some time, and the most that they have ever been.
    pub(super) fn touched(&self) -> (usize, usize) {
        let now = self.reserved - self.untouched.units() as usize * UNIT;
        (now, now.max(self.peak_touched))
    }

    /// Takes the first `units` of the untouched part at `addr` into use. Returns its fences.
    pub(super) fn touch(&mut self, addr: u64, units: u64) -> Option<Fences> {
        let fences = self.untouched.take(addr, units);
        self.peak_touched = self.touched().1;
        fences
    }

    pub(super) fn count(&self) -> usize {
        self.blocks.len()
    }

    /// Returns the bytes of the smallest chunk.
    pub(super) fn smallest(&self) -> Option<usize> {
        self.iter().map(Block::size).min()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Block> {
        self.blocks.values()
    }

    /// Returns the address range of each chunk.
    pub(super) fn extents(&self) -> Vec<Extent> {
        self.blocks.iter().map(|(&addr, block)| Extent { addr, units: (block.size() / UNIT) as u64 }).collect()
    }

    /// Returns the address range of each chunk that can be used as one with adjacent chunks.
    pub(super) fn joinable_extents(&self) -> Vec<Extent> {
        let extents = self.blocks.range(self.joinable.clone());
        extents.map(|(&addr, block)| Extent { addr, units: (block.size() / UNIT) as u64 }).collect()
    }

    /// Returns the chunk that contains `addr`, and the address where the chunk begins.
    ///
    /// # Panics
    ///
    /// Panics if no chunk of this pool contains `addr`.
    pub(super) fn chunk_at(&self, addr: u64) -> (u64, &Block) {
        let found = self.blocks.range(..=addr).next_back();
        let found = found.filter(|&(start, block)| addr < start + (block.size() / UNIT) as u64);
        found.map(|(&start, block)| (start, block)).expect("all memory of a pool lies in a chunk")
    }

    /// Allocates a chunk of the first of `sizes`. While the upstream is out of memory, the function tries the next size.
    /// Only the refusal of the last size is reported.
    /// All sizes are multiples of [`UNIT`]. The memory is ready on `stream`; if `prefetch` is given, a prefetch to it
    /// has been enqueued there. `made_for` is the number of units of the request, or 0 if the chunk is for any request.
    pub(super) fn grow(
        &mut self,
        upstream: &impl Upstream,
        stream: &Stream,
        sizes: &[usize],
        made_for: u64,
        prefetch: Option<Location>,
    ) -> Result<Extent, AllocError> {
        let mut left = sizes.iter();
        let block = loop {
            let &bytes = left.next().expect("there is a size to try");
            let (layout, is_last) = (layout::bytes(bytes)?, left.len() == 0);
            let allocate = || allowing_waits(|| upstream.allocate(stream, layout));
            match if is_last { allocate() } else { unreported(allocate) } {
                Ok(block) => break block,
                Err(error) if error.is_out_of_memory() => {
                    self.refused = self.refused.min(bytes);
                    self.step_most = layout::align_down(self.step_most.min(bytes) / 2, UNIT).max(GRANULARITY);
                    if is_last {
                        return Err(error);
                    }
                }
                Err(error) => return Err(error),
            }
        };
        if let Some(to) = prefetch
            && let Err(source) = hints::prefetch(&block, 0..block.size(), to, stream)
        {
            let requested = block.size();
            // SAFETY: this upstream has just allocated the block, and nothing has used it.
            let result = allowing_waits(|| unsafe { upstream.deallocate(stream, block) });
            cumem::error::record_drop_error("a chunk that could not be prefetched", result);
            return Err(AllocError::PrefetchFailed { requested, source });
        }
        let grown = Extent { addr: block.addr() / UNIT as u64, units: (block.size() / UNIT) as u64 };
        self.step_most = (self.step_most * 2).min(STEP_MAX);
        self.refused = usize::MAX;
        self.reserved += block.size();
        self.peak_reserved = self.peak_reserved.max(self.reserved);
        if made_for > 0 {
            self.made_for.insert(grown.addr, made_for);
        }
        self.blocks.insert(grown.addr, block);
        Ok(grown)
    }

    /// Returns the part of the chunk at `addr` that no stream has been given yet, and its fences.
    pub(super) fn untouched_of(&self, addr: u64) -> Option<(Range<u64>, Fences)> {
        let end = addr + (self.blocks.get(&addr)?.size() / UNIT) as u64;
        self.untouched.part_within(addr, end)
    }

    /// Frees the chunk at `addr`. All of its touched memory must be free and covered by `fences`. If the upstream
    /// refuses the chunk, the pool keeps it.
    pub(super) fn release(
        &mut self,
        upstream: &impl Upstream,
        addr: u64,
        fences: &Fences,
        service: &Stream,
    ) -> Result<usize, DeallocReason> {
        fences.finish_before(service)?;
        let untouched = self.untouched_of(addr);
        if let Some((_, fences)) = &untouched {
            fences.finish_before(service)?;
        }
        let Some(block) = self.blocks.remove(&addr) else { return Ok(0) };
        let bytes = block.size();
        // The chunk leaves all counts before the upstream is called, because the upstream may panic, and has the block
        // then.
        self.peak_touched = self.touched().1;
        if let Some((part, _)) = &untouched {
            self.untouched.take(part.start, part.end - part.start);
        }
        self.reserved -= bytes;
        let made_for = self.made_for.remove(&addr);
        declare_released(&block, service);
        // SAFETY: the chunk came from this upstream, and it has no live block. Its last uses come before the fences,
        // and `service` has just been made to wait for those.
        match allowing_waits(|| unsafe { upstream.deallocate(service, block) }) {
            Ok(()) => {
                self.step_most = STEP_MAX;
                self.refused = usize::MAX;
                Ok(bytes)
            }
            Err(error) => {
                self.reserved += bytes;
                if let Some((part, fences)) = untouched {
                    self.untouched.insert(part, fences);
                }
                if let Some(made_for) = made_for {
                    self.made_for.insert(addr, made_for);
                }
                self.blocks.insert(addr, error.block);
                Err(error.reason)
            }
        }
    }
}
