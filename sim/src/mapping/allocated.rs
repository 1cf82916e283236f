//! Pages from the allocator of the standard library, for Miri and for systems without `mmap`.
//!
//! All bytes of an open range cost memory at once, because [`POISON`] is written there. A closed range holds no value:
//! Miri reports a use after free as a read of uninitialized memory.

use crate::poison::POISON;
use std::alloc::{Layout, alloc, dealloc};
use std::mem::MaybeUninit;
use std::ptr;

/// Bytes that are allocated at a time. A larger request gets a region of its own.
pub(crate) const REGION: usize = 64 << 20;
/// For alignments up to this one, the relative addresses are the same in every run.
pub(crate) const REGION_ALIGN: usize = 2 << 20;

/// Pages have no data besides their bytes.
#[derive(Debug)]
pub(super) struct Pages;

/// Reserves `bytes` addresses, which are whole pages, from a multiple of `align` on.
pub(super) fn reserve(bytes: usize, align: usize) -> Option<usize> {
    let layout = Layout::from_size_align(bytes, align).ok().filter(|layout| layout.size() > 0)?;
    // SAFETY: the layout has a size.
    let base = unsafe { alloc(layout) };
    (!base.is_null()).then(|| base.expose_provenance())
}

/// Gives back addresses.
///
/// # Safety
///
/// The caller must ensure that [`reserve`] returned the addresses for the same size and alignment, and that nothing uses
/// them.
pub(super) unsafe fn release(base: usize, bytes: usize, align: usize) {
    let layout = Layout::from_size_align(bytes, align).expect("the addresses were reserved with this layout");
    // SAFETY: the caller ensures that `alloc` returned the addresses for this layout.
    unsafe { dealloc(ptr::with_exposed_provenance_mut(base), layout) };
}

/// Writes the pattern to addresses.
///
/// # Safety
///
/// The caller must ensure that the addresses are reserved, and that nothing uses them.
pub(super) unsafe fn open(base: usize, bytes: usize) -> Option<Pages> {
    // SAFETY: the caller ensures that the addresses are reserved and unused.
    unsafe { refresh(base, bytes) };
    Some(Pages)
}

/// Makes the bytes at addresses uninitialized.
///
/// # Safety
///
/// The caller must ensure that the addresses are reserved, and that nothing uses them.
pub(super) unsafe fn close(base: usize, bytes: usize, _pages: &mut Pages) {
    let page = MaybeUninit::<[u8; crate::uvm::PAGE as usize]>::uninit();
    let pages = ptr::with_exposed_provenance_mut::<MaybeUninit<[u8; crate::uvm::PAGE as usize]>>(base);
    for index in 0..bytes / size_of_val(&page) {
        // SAFETY: the caller ensures that the whole pages at `base` are reserved and unused.
        unsafe { pages.add(index).write(page) };
    }
}

/// Writes the pattern to whole pages. Each copy doubles the written part, because Miri interprets a copy of any length
/// as one step.
///
/// # Safety
///
/// The caller must ensure that the addresses are reserved, and that nothing uses them.
pub(super) unsafe fn refresh(base: usize, bytes: usize) {
    let first = ptr::with_exposed_provenance_mut::<u8>(base);
    // SAFETY: the caller ensures that the range, which is at least a page, is reserved and unused.
    unsafe { ptr::copy_nonoverlapping(POISON.as_ptr(), first, POISON.len()) };
    let mut done = POISON.len();
    while done < bytes {
        let more = done.min(bytes - done);
        let next = first.wrapping_add(done);
        // SAFETY: both parts lie in the range, the first one before the second one.
        unsafe { ptr::copy_nonoverlapping(first, next, more) };
        done += more;
    }
}
