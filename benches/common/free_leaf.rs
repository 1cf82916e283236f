//! A leaf that costs nearly nothing, to measure the adaptors over it.

use super::{allocate, free, give_up, layout};
use cumem::error::{TrimError, Usage};
use cumem::layer::{Beneath, Layer};
use cumem::resource::MakerId;
use cumem::{AllocError, Block, DeallocError, Device, ManagedResource, MemoryResource, Stream, Upstream, kind};
use std::alloc::Layout;
use std::any::Any;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};

const BYTES: usize = 1 << 20;

/// Hands out the same managed memory again and again, to one block at a time.
pub(crate) struct FreeLeaf {
    device: Device,
    maker: MakerId,
    taken: AtomicBool,
    /// The memory of its blocks; `None` only while the leaf is dropped.
    memory: Option<Block>,
    source: ManagedResource,
    stream: Stream,
}

impl FreeLeaf {
    pub(crate) fn new(device: &Device) -> Self {
        let source = ManagedResource::new(device).unwrap_or_else(|error| give_up(error));
        let stream = Stream::new(device).unwrap_or_else(|error| give_up(error));
        let memory = Some(allocate(&source, &stream, layout(BYTES)));
        Self { device: device.clone(), maker: MakerId::unique(), taken: AtomicBool::new(false), memory, source, stream }
    }

    #[cold]
    fn exhausted(&self, requested: usize) -> AllocError {
        let allocated = if self.taken.load(Ordering::Relaxed) { BYTES } else { 0 };
        let mut held = Usage::default();
        (held.reserved, held.maximum) = (BYTES, Some(BYTES));
        (held.allocated, held.requested, held.blocks) = (allocated, allocated, usize::from(allocated > 0));
        (held.free, held.largest_free) = (BYTES - allocated, BYTES - allocated);
        AllocError::Exhausted { layer: "free leaf", requested, held: Box::new(held), upstream: None }
    }
}

impl Layer for FreeLeaf {
    fn describe(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("free leaf")
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

// SAFETY: the memory is one live block of managed memory, aligned to 256 bytes, which `taken` gives to one block at a
// time. It is freed when the leaf is dropped. Benches never access it, so no access is unordered.
unsafe impl MemoryResource for FreeLeaf {
    type Kind = kind::Managed;

    #[inline]
    fn allocate(&self, _stream: &Stream, layout: Layout) -> Result<Block, AllocError> {
        match &self.memory {
            Some(memory)
                if layout.size() <= BYTES && layout.align() <= 256 && !self.taken.swap(true, Ordering::Acquire) =>
            {
                Ok(Block::new(self.maker, memory.as_non_null(), layout, 0))
            }
            _ => Err(self.exhausted(layout.size())),
        }
    }

    #[inline]
    unsafe fn deallocate(&self, _stream: &Stream, block: Block) -> Result<(), DeallocError> {
        if block.maker() != self.maker {
            return Err(DeallocError::foreign("free leaf", block));
        }
        self.taken.store(false, Ordering::Release);
        Ok(())
    }
}

impl Upstream for FreeLeaf {}

impl Drop for FreeLeaf {
    fn drop(&mut self) {
        if let Some(memory) = self.memory.take() {
            free(&self.source, &self.stream, memory);
        }
    }
}
