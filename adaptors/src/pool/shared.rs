//! [`Shared`]: the state that misses share.

use super::arena::Arena;
use super::chunks::Chunks;
use super::fence::Fences;
use super::futile::Futile;
use super::request::{Piece, Request};
use super::stitch::stitches::Stitches;
use super::units::Extent;
use cumem::Stream;
use cumem::device::StreamId;

/// The state that misses share, protected by the pool's mutex. A thread that holds the mutex may lock a slot. A thread
/// that holds a slot's lock must not lock the mutex.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) arena: Arena,
    pub(super) chunks: Chunks,
    pub(super) stitches: Stitches,
    /// The pool's own stream. The pool allocates its initial chunks on it, and frees all chunks on it.
    pub(super) service: Stream,
    /// How often a miss had to wait for another thread's miss since the pool last grew.
    pub(super) contended_misses: u32,
    /// The last request that no memory of the pool could serve.
    pub(super) futile: Option<Futile>,
}

/// Figures of [`Shared`], for statistics.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct SharedFigures {
    pub(super) reserved: usize,
    pub(super) peak_reserved: usize,
    pub(super) touched: usize,
    pub(super) peak_touched: usize,
    pub(super) chunks: usize,
    /// Free units in the arena and in untouched parts.
    pub(super) free_units: u64,
    /// The most units of one of these pieces.
    pub(super) largest_free: u64,
}

impl Shared {
    pub(super) fn figures(&self) -> SharedFigures {
        let Self { arena, chunks, .. } = self;
        let largest_untouched = chunks.untouched.iter().map(|(part, _)| part.end - part.start).max().unwrap_or(0);
        let (touched, peak_touched) = chunks.touched();
        SharedFigures {
            reserved: chunks.reserved(),
            peak_reserved: chunks.peak_reserved(),
            touched,
            peak_touched,
            chunks: chunks.count(),
            free_units: arena.units() + chunks.untouched.units(),
            largest_free: arena.largest().max(largest_untouched),
        }
    }

    /// Takes the smallest piece of the arena that satisfies `request` ([`Arena::take`]).
    pub(super) fn take(&mut self, request: Request, stream: StreamId, wait: bool) -> Option<Piece> {
        let Self { arena, chunks, .. } = self;
        arena.take(request, stream, wait, |addr, units| chunks.admits(addr, units, request))
    }

    /// Takes the lowest run of pieces of the arena that satisfies `request` ([`Arena::take_run`]).
    pub(super) fn take_run(&mut self, request: Request) -> Option<Piece> {
        let Self { arena, chunks, .. } = self;
        arena.take_run(request, |addr, units| chunks.admits(addr, units, request))
    }

    /// Adds the memory of a new chunk: as untouched memory if it occupies no pages yet (`lazy`), otherwise to the arena.
    pub(super) fn add_chunk(&mut self, grown: Extent, fences: Fences, lazy: bool) {
        let Extent { addr, units } = grown;
        if lazy {
            self.chunks.untouched.insert(addr..addr + units, fences);
        } else {
            self.arena.insert(addr, units, self.chunks.is_boundary(addr), fences);
        }
    }

    /// Takes the first `units` of the untouched part at `addr` into use. They enter the arena.
    pub(super) fn touch(&mut self, addr: u64, units: u64) {
        let boundary = self.chunks.is_boundary(addr);
        if let Some(fences) = self.chunks.touch(addr, units) {
            self.arena.insert(addr, units, boundary, fences);
        }
    }
}
