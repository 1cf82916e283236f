//! [`Shared`]: what misses share.

use super::arena::Arena;
use super::chunks::Chunks;
use super::stitch::stitches::Stitches;
use cumem::Stream;

/// What misses share. Whoever holds its lock may take the lock of a slot, never the other way round.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) arena: Arena,
    pub(super) chunks: Chunks,
    pub(super) stitches: Stitches,
    /// The pool's own stream, on which chunks are taken at construction and given back.
    pub(super) service: Stream,
    /// How often a thread that missed had to wait for another one here, since the pool grew last.
    pub(super) contended_misses: u32,
}

impl Shared {
    /// Lets the first `units` of the untouched part at `addr` be used: the arena has them now.
    pub(super) fn touch(&mut self, addr: u64, units: u64) {
        let boundary = self.chunks.is_boundary(addr);
        if let Some(fences) = self.chunks.touch(addr, units) {
            self.arena.insert(addr, units, boundary, fences);
        }
    }
}
