//! [`Kept`]: a free block on its way between a list and the upstream.

use cumem::Block;
use cumem::device::KeptStream;

/// A block of the upstream, and the stream in whose list it was, or is to be.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) block: Block,
    pub(super) bin: usize,
    pub(super) stream: KeptStream,
}
