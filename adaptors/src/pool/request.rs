//! [`Request`]: what a miss asks for. [`Piece`]: what it gets.
#![forbid(unsafe_code)]

use super::fence::Fences;
use super::units::Region;

/// A piece taken out, with what has to be waited for first.
#[derive(Debug)]
pub(super) struct Piece {
    pub(super) region: Region,
    pub(super) fences: Fences,
}

/// What a piece must be good for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Request {
    /// Units that must be in it.
    pub(super) units: u32,
    /// Where they must begin: at a multiple of this power of two.
    pub(super) align: u64,
    /// Units to take if the piece has them: at least `units`.
    pub(super) preferred: u32,
}
