//! [`Tagged`] counts the memory that passes through under a name in a ledger.

use cumem::error::TrimError;
use cumem::layer::Beneath;
use cumem::resource::MakerId;
use cumem::unified::accounting::{Ledger, Tag};
use cumem::{AllocError, Block, DeallocError, Layer, MemoryResource, Stream, Upstream};
use std::alloc::Layout;
use std::any::Any;
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// An adaptor that enters each block in a [`Ledger`] under a name, from its allocation until it is freed.
///
/// `find::<TaggedState>()` returns its [`TaggedState`] from any stack.
#[derive(Debug)]
pub struct Tagged<U> {
    name: TaggedState,
    ledger: Arc<Ledger>,
    tags: Mutex<HashMap<(u64, MakerId), Tag>>,
    upstream: U,
}

/// The name under which a [`Tagged`] counts memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaggedState(String);

impl TaggedState {
    /// Returns the name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<U> Tagged<U> {
    /// Creates the adaptor, which counts the upstream's memory under `name` in `ledger`.
    pub fn new(upstream: U, ledger: &Arc<Ledger>, name: impl Into<String>) -> Self
    where
        U: Upstream,
    {
        Self { name: TaggedState(name.into()), ledger: Arc::clone(ledger), tags: Mutex::default(), upstream }
    }

    /// Returns the upstream.
    pub fn upstream(&self) -> &U {
        &self.upstream
    }

    fn tags(&self) -> MutexGuard<'_, HashMap<(u64, MakerId), Tag>> {
        self.tags.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Enters the block in the ledger. A block of zero bytes is skipped, because it has no bytes to count.
    fn tag(&self, block: &Block) {
        if block.size() > 0 {
            let tag = self.ledger.tag(block.addr(), block.size(), &self.name.0);
            self.tags().insert((block.addr(), block.maker()), tag);
        }
    }
}

impl<U: Layer> Layer for Tagged<U> {
    fn describe(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tagged({})", self.name.0)
    }
    fn beneath(&self) -> Beneath<'_> {
        Beneath::Layer(&self.upstream)
    }
    fn state(&self) -> &dyn Any {
        &self.name
    }
    fn trim_layer(&self, _keep: usize) -> Result<usize, TrimError> {
        Ok(0)
    }
}

// SAFETY: every block is the upstream's and is passed on unchanged.
unsafe impl<U: Upstream> MemoryResource for Tagged<U> {
    type Kind = U::Kind;

    fn allocate(&self, stream: &Stream, layout: Layout) -> Result<Block, AllocError> {
        self.upstream.allocate(stream, layout).inspect(|block| self.tag(block))
    }

    unsafe fn deallocate(&self, stream: &Stream, block: Block) -> Result<(), DeallocError> {
        // Removed before the upstream is called, because the upstream may give the same memory to another thread at
        // once.
        let tag = self.tags().remove(&(block.addr(), block.maker()));
        let tagged = tag.is_some();
        drop(tag);
        // SAFETY: the caller upholds the contract of this method, which is the upstream's.
        let freed = unsafe { self.upstream.deallocate(stream, block) };
        freed.inspect_err(|error| {
            if tagged {
                self.tag(&error.block);
            }
        })
    }
}

impl<U: Upstream> Upstream for Tagged<U> {}

impl<U: Layer> fmt::Display for Tagged<U> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        cumem::layer::fmt_stack(self, f)
    }
}
