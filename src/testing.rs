//! What tests of programs on a simulated device call: assertions about memory, and each driver call made to fail.

pub mod assertions;
pub mod faults;

use crate::block::Block;
use crate::device::stream::Stream;
use cumem_driver::BlockEvent;

/// Records for the race detector that a block is usable on a stream from now on. Buffers do this themselves; the
/// function is for programs that use blocks. Does nothing on a GPU.
pub fn declare_allocation(block: &Block, stream: &Stream) {
    block.declare(stream, BlockEvent::Allocated);
}

/// Records for the race detector that a block is about to be freed on a stream. Buffers do this themselves; the
/// function is for programs that use blocks. Does nothing on a GPU.
pub fn declare_free(block: &Block, stream: &Stream) {
    block.declare(stream, BlockEvent::Freed);
}
