//! [`Subject`]: a resource under a check, with the objects that checks need.

use crate::broken::{BoxError, Broken, Outcome, ensure};
use crate::contents::Contents;
use crate::expectations::Expectations;
use crate::live::{BlockId, LiveBlocks};
use cumem::{AllocError, Block, Device, MemoryResource, Stream, layout};
use std::alloc::Layout;

/// A resource under a check. Created anew for each check.
pub(crate) struct Subject<'a, R: MemoryResource> {
    pub(crate) resource: R,
    pub(crate) device: Device,
    /// A stream for checks that need any one stream.
    pub(crate) stream: Stream,
    pub(crate) contents: Contents<R::Kind>,
    pub(crate) expectations: &'a Expectations,
    pub(crate) seed: u64,
    pub(crate) make: &'a dyn Fn(&Device) -> Result<R, BoxError>,
}

impl<R: MemoryResource> Subject<'_, R> {
    /// Creates another resource like the one under the check.
    pub(crate) fn another(&self) -> Result<R, Broken> {
        (self.make)(&self.device).map_err(|error| Broken::new("a second resource was not made").because(error))
    }

    pub(crate) fn streams(&self, count: usize) -> Result<Vec<Stream>, Broken> {
        (0..count).map(|_| Stream::new(&self.device).map_err(Broken::from)).collect()
    }

    /// Allocates a block that the resource must provide, and checks the block.
    pub(crate) fn get(&self, stream: &Stream, layout: Layout) -> Result<Block, Broken> {
        get(&self.resource, stream, layout)
    }

    /// Allocates a block that may exceed the available memory, and checks the block.
    pub(crate) fn try_get(&self, stream: &Stream, layout: Layout) -> Result<Option<Block>, Broken> {
        match self.resource.allocate(stream, layout) {
            Ok(block) => check(&block, layout).map(|()| Some(block)),
            Err(error) if error.is_out_of_memory() => Ok(None),
            Err(error) => Err(refused(layout, error)),
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

    /// Writes a pattern into a block and verifies it.
    pub(crate) fn touch(&self, stream: &Stream, block: &Block) -> Outcome {
        // SAFETY: the contents are of the resource's kind; the block was just allocated on this stream.
        unsafe { self.contents.write(stream, block, block.addr()) }?;
        // SAFETY: the block is live and of the resource's kind, and this use follows the write on the same stream.
        unsafe { self.contents.verify(stream, block, block.addr()) }?;
        stream.synchronize()?;
        self.contents.settle()
    }
}

/// Allocates a block that the resource must provide, and checks the block.
pub(crate) fn get<R: MemoryResource + ?Sized>(resource: &R, stream: &Stream, layout: Layout) -> Result<Block, Broken> {
    let block = resource.allocate(stream, layout).map_err(|error| refused(layout, error))?;
    check(&block, layout).map(|()| block)
}

/// Frees a block that no work uses, or only work on `stream`.
pub(crate) fn put<R: MemoryResource + ?Sized>(resource: &R, stream: &Stream, block: Block) -> Outcome {
    // SAFETY: the callers in this crate used the block on `stream` only, or waited, and do not keep its address.
    unsafe { resource.deallocate(stream, block) }.map_err(Broken::from)
}

/// Checks that a block has the requested layout and a valid address.
pub(crate) fn check(block: &Block, asked: Layout) -> Outcome {
    ensure!(block.layout() == asked, "asked for {asked:?}, got a block of {:?}", block.layout());
    Ok(LiveBlocks::new().enter(BlockId::of(block))?)
}

/// Returns a layout at CUDA's alignment; all sizes in this crate are valid.
pub(crate) fn bytes(size: usize) -> Layout {
    layout::bytes(size).expect("a size below isize::MAX")
}

fn refused(layout: Layout, error: AllocError) -> Broken {
    Broken::new(format!("{} bytes aligned to {} were refused", layout.size(), layout.align())).because(error)
}
