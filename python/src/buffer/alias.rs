//! Short-lived buffers over a part of a block that another buffer owns. They let several threads of Python copy to
//! different parts, where Rust's `&mut` would exclude them.

use crate::failure::Failure;
use crate::opened::{Bytes, with_bytes};
use cumem::{AnyResource, Block, Buffer, MemoryKind, layout};
use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut, Range};

/// Calls `work` with a buffer over `range` of `owner`. The alias frees nothing.
pub(super) fn with_alias<K: MemoryKind, T>(
    owner: &Buffer<u8, AnyResource<K>>,
    range: Range<usize>,
    work: impl FnOnce(&mut Buffer<u8, &AnyResource<K>>) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let mut alias = Alias::new(owner, range)?;
    work(&mut alias)
}

/// A buffer whose drop does not free the block.
pub(super) struct Alias<'a, K: MemoryKind>(ManuallyDrop<Buffer<u8, &'a AnyResource<K>>>);

impl<'a, K: MemoryKind> Alias<'a, K> {
    /// Creates an alias of `range`, which is within the block.
    pub(super) fn new(owner: &'a Buffer<u8, AnyResource<K>>, range: Range<usize>) -> Result<Self, Failure> {
        let whole = owner.block();
        let layout = layout::bytes(range.len()).map_err(|error| Failure::Alloc(error.into(), K::NAME))?;
        // SAFETY: the callers pass a range within the block.
        let start = unsafe { whole.as_non_null().add(range.start) };
        let block = Block::new(whole.maker(), start, layout, whole.tag());
        // SAFETY: the owner's resource made the block, which is live and ready on the owner's stream. The owner is borrowed,
        // and the alias never frees. Python code that uses the same bytes elsewhere at the same time gets unspecified bytes,
        // which are valid, as with every buffer of Python.
        let alias = unsafe { Buffer::from_block(block, range.len(), owner.stream(), owner.resource()) };
        Ok(Self(ManuallyDrop::new(alias.map_err(|refused| Failure::from(refused.reason))?)))
    }
}

impl<'a, K: MemoryKind> Deref for Alias<'a, K> {
    type Target = Buffer<u8, &'a AnyResource<K>>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl<K: MemoryKind> DerefMut for Alias<'_, K> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.0
    }
}

impl<K: MemoryKind> Drop for Alias<'_, K> {
    fn drop(&mut self) {
        // SAFETY: only this drop takes the buffer, and it runs once.
        if let Err(refused) = unsafe { ManuallyDrop::take(&mut self.0) }.into_block() {
            std::mem::forget(refused.value);
        }
    }
}

impl Bytes {
    /// Returns the address.
    pub(crate) fn address(&self) -> usize {
        with_bytes!(self, buffer => buffer.block().addr() as usize)
    }

    /// Returns the stream on which the memory is freed.
    pub(crate) fn stream(&self) -> &cumem::Stream {
        with_bytes!(self, buffer => buffer.stream())
    }
}
