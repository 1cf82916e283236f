//! [`Block`]: what `allocate` returns and `deallocate` takes back.

use crate::device::stream::Stream;
use cumem_driver::BlockEvent;
use std::alloc::Layout;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

/// Who made a block: a leaf, or a suballocator such as a pool.
///
/// Every resource that makes blocks of its own draws one at construction, puts it in its blocks, and
/// refuses blocks that carry another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct MakerId(u32);

impl MakerId {
    /// A number that no other maker of this process has.
    ///
    /// # Panics
    ///
    /// After 2³² − 1 makers.
    pub fn unique() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let next = NEXT.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_add(1));
        Self(next.expect("2^32 - 1 memory resources were made in one process"))
    }
}

/// One allocation: where it is, how large, and its maker's private tag.
///
/// Owned and never copied, so that freeing twice does not compile. Adaptors hand it on unchanged.
/// Dropping a block leaks its memory, which is safe and never what you want.
#[must_use = "a dropped block leaks its memory; give it back to `deallocate`"]
#[derive(Debug)]
pub struct Block {
    ptr: NonNull<u8>,
    size: usize,
    tag: u64,
    maker: MakerId,
    align_shift: u8,
}

// SAFETY: a block is an address and its description; nothing is reached through it without unsafe
// code that states its own reason.
unsafe impl Send for Block {}
// SAFETY: as for `Send`.
unsafe impl Sync for Block {}

impl Block {
    /// A block at `ptr` for `layout`, made by `maker`, with a `tag` that only the maker reads: where it
    /// finds its bookkeeping again without a look-up by address.
    ///
    /// For resources. Safe, because a block is only a description; giving one that no `allocate` returned to
    /// `deallocate` is not.
    #[inline]
    pub fn new(maker: MakerId, ptr: NonNull<u8>, layout: Layout, tag: u64) -> Self {
        Self { ptr, size: layout.size(), tag, maker, align_shift: layout.align().trailing_zeros() as u8 }
    }

    /// The block of a request for zero bytes: aligned, dangling, never given to the driver.
    #[inline]
    pub fn empty(maker: MakerId, layout: Layout) -> Self {
        let align = layout.align().max(crate::layout::CUDA_ALLOCATION_ALIGNMENT);
        let ptr = NonNull::without_provenance(std::num::NonZero::new(align).unwrap_or(std::num::NonZero::<usize>::MIN));
        Self::new(maker, ptr, layout, 0)
    }

    /// The first byte. Whether the host may use it depends on the kind of the resource.
    #[inline]
    pub fn as_ptr(&self) -> *mut u8 {
        self.ptr.as_ptr()
    }

    /// The first byte, as a non-null pointer.
    #[inline]
    pub fn as_non_null(&self) -> NonNull<u8> {
        self.ptr
    }

    /// The first byte's address, as kernels and the driver know it.
    #[inline]
    pub fn addr(&self) -> u64 {
        self.ptr.as_ptr() as u64
    }

    /// Bytes that were asked for. The memory behind it may be larger; only these may be used.
    #[inline]
    pub fn size(&self) -> usize {
        self.size
    }

    /// The layout that was asked for.
    #[inline]
    pub fn layout(&self) -> Layout {
        // SAFETY: size and alignment were taken from a valid `Layout` in `new`.
        unsafe { Layout::from_size_align_unchecked(self.size, 1 << self.align_shift) }
    }

    /// The maker's private tag.
    #[inline]
    pub fn tag(&self) -> u64 {
        self.tag
    }

    /// Who made it.
    #[inline]
    pub fn maker(&self) -> MakerId {
        self.maker
    }

    /// Tells the race detector of a simulated machine that the block is usable on `stream`, or about to be freed there.
    #[inline]
    pub(crate) fn declare(&self, stream: &Stream, event: BlockEvent) {
        if let Some(model) = stream.device().model()
            && let Ok(raw) = stream.raw()
        {
            model.declare(stream.device_id().ordinal(), self.addr(), self.size as u64, raw, event);
        }
    }
}
