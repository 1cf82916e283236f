//! [`Request`]: the memory that a miss needs. [`Piece`]: the memory that serves it.
#![forbid(unsafe_code)]

use super::fence::Fences;
use super::units::Region;

/// A piece of free memory, with the fences that a stream must wait for before it uses the piece.
#[derive(Debug)]
pub(super) struct Piece {
    pub(super) region: Region,
    pub(super) fences: Fences,
}

/// The memory that a miss needs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Request {
    /// Units that the piece must contain.
    pub(super) units: u32,
    /// The power of two, in units, that the address of these units must be a multiple of.
    pub(super) align: u64,
    /// Units to take if the piece has them: at least `units`.
    pub(super) preferred: u32,
    /// Whether the request may cut a wholly free chunk that is kept for larger requests.
    pub(super) cuts_kept: bool,
    /// Whether the stream may wait for a recorded use ([`Fences::hold_a_use`]). Only if nothing else serves the request.
    pub(super) waits_for_uses: bool,
}

impl Request {
    /// Reports whether the stream may wait for memory with these fences, if it waits at all.
    pub(super) fn may_wait_for(&self, fences: &Fences) -> bool {
        self.waits_for_uses || !fences.hold_a_use()
    }
}
