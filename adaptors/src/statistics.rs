//! [`Statistics`] counts the calls that pass through it.

mod counters;
mod scope;

pub use counters::{Counts, StatisticsState};
pub use scope::Scope;

use cumem::error::{DeallocReason, TrimError};
use cumem::layer::Beneath;
use cumem::{AllocError, Block, DeallocError, Layer, MemoryResource, Stream, Upstream};
use std::alloc::Layout;
use std::any::Any;
use std::fmt;

/// An adaptor that counts bytes, blocks and failures. Over a pool it counts the users' requests;
/// under a pool, the chunks that the pool allocates.
///
/// `find::<StatisticsState>()` returns its [`StatisticsState`] from any stack.
#[derive(Debug)]
pub struct Statistics<U> {
    counters: StatisticsState,
    upstream: U,
}

impl<U> Statistics<U> {
    /// Creates the adaptor with all counters at 0.
    pub fn new(upstream: U) -> Self
    where
        U: Upstream,
    {
        Self { counters: StatisticsState::new(), upstream }
    }

    /// Returns the upstream.
    pub fn upstream(&self) -> &U {
        &self.upstream
    }

    /// Returns the counters.
    pub fn counters(&self) -> &StatisticsState {
        &self.counters
    }
}

impl<U: Layer> Layer for Statistics<U> {
    fn describe(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("statistics")
    }
    fn beneath(&self) -> Beneath<'_> {
        Beneath::Layer(&self.upstream)
    }
    fn state(&self) -> &dyn Any {
        &self.counters
    }
    fn trim_layer(&self, _keep: usize) -> Result<usize, TrimError> {
        Ok(0)
    }
}

// SAFETY: every block is the upstream's and is passed on unchanged.
unsafe impl<U: Upstream> MemoryResource for Statistics<U> {
    type Kind = U::Kind;

    #[inline]
    fn allocate(&self, stream: &Stream, layout: Layout) -> Result<Block, AllocError> {
        let result = self.upstream.allocate(stream, layout);
        match &result {
            Ok(_) => self.counters.allocated(layout.size()),
            Err(_) => self.counters.failed(),
        }
        result
    }

    #[inline]
    unsafe fn deallocate(&self, stream: &Stream, block: Block) -> Result<(), DeallocError> {
        let bytes = block.size();
        // Counted before the upstream is called, because the upstream may give the same memory to another thread at
        // once.
        if let Err(outstanding) = self.counters.freed(bytes) {
            let reason = DeallocReason::NotOutstanding { layer: "statistics", outstanding, returned: bytes };
            return Err(DeallocError::new(block, reason));
        }
        // SAFETY: the caller upholds the contract of this method, which is the upstream's.
        let result = unsafe { self.upstream.deallocate(stream, block) };
        if result.is_err() {
            self.counters.not_freed(bytes);
        }
        result
    }
}

impl<U: Upstream> Upstream for Statistics<U> {}

impl<U: Layer> fmt::Display for Statistics<U> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        cumem::layer::fmt_stack(self, f)
    }
}
