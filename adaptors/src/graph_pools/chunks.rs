//! [`Chunks`]: the upstream of a private pool.

use cumem::error::{DeallocReason, TrimError};
use cumem::layer::Beneath;
use cumem::{AllocError, Block, DeallocError, Device, DeviceError, Layer, LayerExt, MemoryResource, Stream, Upstream};
use std::alloc::Layout;
use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Allocates chunks from `upstream` for work that runs later on any stream, and keeps them until the pool is closed.
///
/// The layer shows no layer beneath. The pool above therefore treats its chunks as plain memory, even if they are mapped
/// memory of a pool.
#[derive(Debug)]
pub(super) struct Chunks<U> {
    upstream: Arc<U>,
    device: Device,
    /// A stream that is never captured.
    service: Stream,
    closing: AtomicBool,
}

impl<U: Upstream> Chunks<U> {
    pub(super) fn new(upstream: Arc<U>) -> Result<Self, DeviceError> {
        let device = upstream.device().clone();
        let service = Stream::new(&device)?;
        Ok(Self { upstream, device, service, closing: AtomicBool::new(false) })
    }
}

impl<U> Chunks<U> {
    /// Lets the pool free its chunks: no graph uses them any more.
    pub(super) fn close(&self) {
        self.closing.store(true, Ordering::Release);
    }
}

impl<U> Layer for Chunks<U> {
    fn describe(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("chunks of a graph pool")
    }

    fn beneath(&self) -> Beneath<'_> {
        Beneath::Device(&self.device)
    }

    fn state(&self) -> &dyn Any {
        &()
    }

    fn trim_layer(&self, _keep: usize) -> Result<usize, TrimError> {
        Ok(0)
    }
}

// SAFETY: every block is the upstream's. The host has waited for the stream of its allocation, so every stream may use it.
unsafe impl<U: Upstream> MemoryResource for Chunks<U> {
    type Kind = U::Kind;

    fn allocate(&self, _stream: &Stream, layout: Layout) -> Result<Block, AllocError> {
        let block = self.upstream.allocate(&self.service, layout)?;
        // The captured work runs at a launch, perhaps on a stream that waits for no other. The memory has to be ready by
        // then.
        if let Err(error) = self.service.synchronize() {
            // SAFETY: the upstream made the block, and nothing has used it.
            let _freed = unsafe { self.upstream.deallocate(&self.service, block) };
            return Err(error.into());
        }
        Ok(block)
    }

    unsafe fn deallocate(&self, stream: &Stream, block: Block) -> Result<(), DeallocError> {
        if !self.closing.load(Ordering::Acquire) {
            return Err(DeallocError::new(block, DeallocReason::Kept { layer: "graph_pools" }));
        }
        // SAFETY: the caller upholds the contract of this method, which is the upstream's.
        unsafe { self.upstream.deallocate(stream, block) }
    }
}

impl<U: Upstream> Upstream for Chunks<U> {}
