//! [`Subject`]: a resource under a check, with what the check needs around it.

use crate::broken::{Broken, Outcome, ensure};
use crate::contents::Contents;
use crate::expectations::Expectations;
use crate::live::{BlockId, LiveBlocks};
use cumem::{AllocError, Block, Device, MemoryResource, Stream, layout};
use std::alloc::Layout;
use std::error::Error;

/// What a factory may fail with.
pub type BoxError = Box<dyn Error + Send + Sync>;

/// A resource under a check. Made anew for each.
pub(crate) struct Subject<'a, R: MemoryResource> {
    pub(crate) resource: R,
    pub(crate) device: Device,
    /// A stream for checks that need one and care not which.
    pub(crate) stream: Stream,
    pub(crate) contents: Contents<R::Kind>,
    pub(crate) expectations: &'a Expectations,
    pub(crate) seed: u64,
    pub(crate) make: &'a dyn Fn(&Device) -> Result<R, BoxError>,
}

impl<R: MemoryResource> Subject<'_, R> {
    /// Another resource like the one under the check.
    pub(crate) fn another(&self) -> Result<R, Broken> {
        (self.make)(&self.device).map_err(|error| Broken::new(format!("a second resource was not made: {error}")))
    }

    pub(crate) fn streams(&self, count: usize) -> Result<Vec<Stream>, Broken> {
        (0..count).map(|_| Stream::new(&self.device).map_err(Broken::from)).collect()
    }

    /// Allocates what must be had, and checks the block.
    pub(crate) fn get(&self, stream: &Stream, layout: Layout) -> Result<Block, Broken> {
        get(&self.resource, stream, layout)
    }

    /// Allocates what may exceed the memory there is, and checks the block.
    pub(crate) fn try_get(&self, stream: &Stream, layout: Layout) -> Result<Option<Block>, Broken> {
        match self.resource.allocate(stream, layout) {
            Ok(block) => check(&block, layout).map(|()| Some(block)),
            Err(error) if error.is_out_of_memory() => Ok(None),
            Err(error) => Err(refused(layout, &error)),
        }
    }

    /// Frees a block that no work uses.
    pub(crate) fn put(&self, stream: &Stream, block: Block) -> Outcome {
        put(&self.resource, stream, block)
    }

    /// Allocates, writes, verifies and frees one block.
    pub(crate) fn round_trip(&self, stream: &Stream, layout: Layout) -> Outcome {
        let block = self.get(stream, layout)?;
        self.touch(stream, &block)?;
        self.put(stream, block)
    }

    /// Writes a block and verifies what was written.
    pub(crate) fn touch(&self, stream: &Stream, block: &Block) -> Outcome {
        // SAFETY: the contents are of the resource's kind; the block was just allocated on this stream.
        unsafe { self.contents.write(stream, block, block.addr()) }?;
        // SAFETY: as before, and later on the same stream.
        unsafe { self.contents.verify(stream, block, block.addr()) }?;
        stream.synchronize()?;
        self.contents.settle()
    }
}

/// Allocates what must be had, and checks the block.
pub(crate) fn get<R: MemoryResource + ?Sized>(resource: &R, stream: &Stream, layout: Layout) -> Result<Block, Broken> {
    let block = resource.allocate(stream, layout).map_err(|error| refused(layout, &error))?;
    check(&block, layout).map(|()| block)
}

/// Frees a block that no work uses, or only work on `stream`.
pub(crate) fn put<R: MemoryResource + ?Sized>(resource: &R, stream: &Stream, block: Block) -> Outcome {
    // SAFETY: the callers in this crate used the block on `stream` only, or waited, and forget its address here.
    unsafe { resource.deallocate(stream, block) }.map_err(Broken::from)
}

/// Whether a block is what was asked for.
pub(crate) fn check(block: &Block, asked: Layout) -> Outcome {
    ensure!(block.layout() == asked, "asked for {asked:?}, got a block of {:?}", block.layout());
    Ok(LiveBlocks::new().enter(BlockId::of(block))?)
}

/// A layout at CUDA's alignment; the sizes of this crate are all valid.
pub(crate) fn bytes(size: usize) -> Layout {
    layout::bytes(size).expect("a size below isize::MAX")
}

fn refused(layout: Layout, error: &AllocError) -> Broken {
    Broken::new(format!("{} bytes aligned to {} were refused: {error}", layout.size(), layout.align()))
}
