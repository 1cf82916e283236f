//! [`PrivatePool`]: a pool over chunks, without its type.

use super::chunks::Chunks;
use crate::pool::{Pool, PoolStats};
use cumem::resource::MakerId;
use cumem::{AllocError, Block, DeallocError, MemoryResource, Stream, Upstream};
use std::alloc::Layout;

/// The pool of some graphs.
pub(super) trait PrivatePool: Send + Sync {
    fn maker(&self) -> MakerId;

    fn stats(&self) -> PoolStats;

    fn allocate(&self, stream: &Stream, layout: Layout) -> Result<Block, AllocError>;

    /// # Safety
    ///
    /// The caller must uphold the contract of [`MemoryResource::deallocate`].
    unsafe fn deallocate(&self, stream: &Stream, block: Block) -> Result<(), DeallocError>;

    /// Lets the pool's drop free its chunks.
    fn close(&self);
}

impl<U: Upstream + Send + Sync> PrivatePool for Pool<Chunks<U>> {
    fn maker(&self) -> MakerId {
        self.state().maker()
    }

    fn stats(&self) -> PoolStats {
        Pool::stats(self)
    }

    fn allocate(&self, stream: &Stream, layout: Layout) -> Result<Block, AllocError> {
        MemoryResource::allocate(self, stream, layout)
    }

    unsafe fn deallocate(&self, stream: &Stream, block: Block) -> Result<(), DeallocError> {
        // SAFETY: the caller upholds the contract of this method, which is the same.
        unsafe { MemoryResource::deallocate(self, stream, block) }
    }

    fn close(&self) {
        self.upstream().close();
    }
}
