//! Tools for tests on a simulated device: assertions about memory, and failures of each driver call in turn.

pub mod assertions;
pub mod faults;

use crate::block::Block;
use crate::device::stream::Stream;
use cumem_driver::BlockEvent;

/// Records for the race detector that a block is usable on a stream from now on. Buffers do this themselves; the
/// function is for programs that use blocks. Does nothing on a GPU.
///
/// # Examples
///
/// ```
/// # use cumem::sim::Profile;
/// # use cumem::{CudaResource, Device, MemoryResource, Stream, layout};
/// # let device = Device::simulated(Profile::default())?;
/// # let stream = Stream::new(&device)?;
/// use cumem::sim::{declare_allocation, declare_free};
///
/// let memory = CudaResource::new(&device);
/// let block = memory.allocate(&stream, layout::bytes(1000)?)?;
/// declare_allocation(&block, &stream);
/// // enqueue work on `stream` that uses the block
/// declare_free(&block, &stream);
/// // SAFETY: all work that uses the block is on `stream`.
/// unsafe { memory.deallocate(&stream, block) }?;
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
pub fn declare_allocation(block: &Block, stream: &Stream) {
    block.declare(stream, BlockEvent::Allocated);
}

/// Records for the race detector that a block is about to be freed on a stream. Buffers do this themselves; the
/// function is for programs that use blocks. Does nothing on a GPU.
///
/// # Examples
///
/// ```
/// # use cumem::sim::Profile;
/// # use cumem::{CudaResource, Device, MemoryResource, Stream, layout};
/// # let device = Device::simulated(Profile::default())?;
/// # let stream = Stream::new(&device)?;
/// use cumem::sim::declare_free;
///
/// let memory = CudaResource::new(&device);
/// let block = memory.allocate(&stream, layout::bytes(1000)?)?;
/// declare_free(&block, &stream);
/// // SAFETY: no work uses the block.
/// unsafe { memory.deallocate(&stream, block) }?;
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
pub fn declare_free(block: &Block, stream: &Stream) {
    block.declare(stream, BlockEvent::Freed);
}
