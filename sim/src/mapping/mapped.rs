//! Pages of the operating system, by `mmap`. Their memory is that of the process only when they are touched.
//!
//! A file in memory is filled with [`POISON`] once, and mapped copy-on-write over a range as often as necessary.
//! Reading therefore costs no memory, and writing costs only the pages that are written.

use crate::poison::POISON;
use std::fs::File;
use std::io::Write as _;
use std::os::fd::AsRawFd as _;
#[cfg(target_os = "linux")]
use std::os::fd::FromRawFd as _;
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes that are reserved at a time if the operating system allows it: more than most programs ever use.
pub(crate) const REGION: usize = 1 << 40;
/// For alignments up to this one, the relative addresses are the same in every run.
pub(crate) const REGION_ALIGN: usize = 1 << 30;

const TILE: usize = 16 << 20;

/// Most tiles that are mapped at a time: half a terabyte. Memory beyond them is zeroed instead of poisoned,
/// because Linux allows a process only 65,530 mappings.
const MAX_TILES: usize = 32_768;

static TILES: AtomicUsize = AtomicUsize::new(0);

/// The number of tiles that are mapped over some pages.
#[derive(Debug, Default)]
pub(super) struct Pages {
    tiles: usize,
}

/// Reserves `bytes` addresses, which are whole pages, from a multiple of `align` on.
pub(super) fn reserve(bytes: usize, align: usize) -> Option<usize> {
    let slack = align.saturating_sub(crate::uvm::PAGE as usize);
    let raw = map(ptr::null_mut(), bytes.checked_add(slack)?, libc::PROT_NONE, None)?;
    let base = raw.next_multiple_of(align);
    unmap(raw, base - raw);
    unmap(base + bytes, raw + slack - base);
    Some(base)
}

/// Gives back addresses.
///
/// # Safety
///
/// The caller must ensure that [`reserve`] returned the addresses, and that nothing uses them.
pub(super) unsafe fn release(base: usize, bytes: usize, _align: usize) {
    unmap(base, bytes);
}

/// Puts pages behind addresses.
///
/// # Safety
///
/// The caller must ensure that the addresses are reserved and have no pages.
pub(super) unsafe fn open(base: usize, bytes: usize) -> Option<Pages> {
    let mut pages = Pages::default();
    if map(base as *mut libc::c_void, bytes, libc::PROT_READ | libc::PROT_WRITE, None).is_none() {
        // The failed call may have removed the reservation.
        // SAFETY: the caller ensures that the addresses are reserved.
        unsafe { close(base, bytes, &mut pages) };
        return None;
    }
    pages.poison(base, bytes);
    Some(pages)
}

/// Gives pages back to the operating system but keeps the addresses. A use after free therefore faults, instead of
/// reading other data.
///
/// # Safety
///
/// The caller must ensure that the addresses are reserved, and that nothing uses the pages.
pub(super) unsafe fn close(base: usize, bytes: usize, pages: &mut Pages) {
    map(base as *mut libc::c_void, bytes, libc::PROT_NONE, None);
    TILES.fetch_sub(std::mem::take(&mut pages.tiles), Ordering::Relaxed);
}

/// Resets pages to their fresh contents.
///
/// # Safety
///
/// The caller must ensure that the pages are open, and that nothing uses them.
pub(super) unsafe fn refresh(base: usize, bytes: usize) {
    // SAFETY: the caller ensures that the pages are mapped and unused. Private pages revert to the file's, or to zero.
    unsafe { libc::madvise(base as *mut libc::c_void, bytes, libc::MADV_DONTNEED) };
}

impl Pages {
    /// Maps the pattern over the range. If that fails, the rest of the range stays zeroed.
    fn poison(&mut self, base: usize, bytes: usize) {
        let Some(tile) = tile() else { return };
        let end = base + bytes;
        let mut at = base;
        while at < end {
            if TILES.fetch_add(1, Ordering::Relaxed) >= MAX_TILES {
                TILES.fetch_sub(1, Ordering::Relaxed);
                return;
            }
            self.tiles += 1;
            let bytes = TILE.min(end - at).min(TILE - at % TILE);
            let (place, rw) = (at as *mut libc::c_void, libc::PROT_READ | libc::PROT_WRITE);
            if map(place, bytes, rw, Some(tile)).is_none() {
                // The failed call may have removed the old mapping. Map the place again,
                // so that no other mapping takes it.
                map(place, bytes, rw, None);
                return;
            }
            at += bytes;
        }
    }
}

/// Maps private memory, from `file` or anonymous, at `at` or, if `at` is null, where the kernel chooses.
fn map(at: *mut libc::c_void, bytes: usize, protection: i32, file: Option<&File>) -> Option<usize> {
    let mut flags = libc::MAP_PRIVATE | libc::MAP_NORESERVE;
    flags |= if at.is_null() { 0 } else { libc::MAP_FIXED };
    flags |= if file.is_none() { libc::MAP_ANONYMOUS } else { 0 };
    let fd = file.map_or(-1, |file| file.as_raw_fd());
    // The offset follows from the address, so that the kernel can merge adjacent parts of a tile into one mapping.
    // The number of mappings is limited.
    let offset = file.map_or(0, |_| (at as usize % TILE) as libc::off_t);
    // SAFETY: if `at` is null, the kernel chooses unused addresses.
    // Every other `at` lies in a range that this module reserved.
    let mapped = unsafe { libc::mmap(at, bytes, protection, flags, fd, offset) };
    (mapped != libc::MAP_FAILED).then_some(mapped as usize)
}

fn unmap(base: usize, bytes: usize) {
    if bytes > 0 {
        // SAFETY: this module reserved the range, and its owner no longer uses it.
        unsafe { libc::munmap(base as *mut libc::c_void, bytes) };
    }
}

/// Returns the file with the pattern, which is created at first use. `None` if the system has no files in memory.
fn tile() -> Option<&'static File> {
    static TILE_FILE: OnceLock<Option<File>> = OnceLock::new();
    TILE_FILE.get_or_init(|| memory_file().and_then(fill)).as_ref()
}

#[cfg(target_os = "linux")]
fn memory_file() -> Option<File> {
    // SAFETY: the name is a C string; the call accesses no other memory.
    let fd = unsafe { libc::memfd_create(c"cumem-poison".as_ptr(), libc::MFD_CLOEXEC) };
    // SAFETY: the descriptor was just created and has no other owner.
    (fd >= 0).then(|| unsafe { File::from_raw_fd(fd) })
}

#[cfg(not(target_os = "linux"))]
fn memory_file() -> Option<File> {
    None
}

fn fill(mut file: File) -> Option<File> {
    let piece = POISON.repeat(TILE / POISON.len() / 16);
    for _ in 0..16 {
        file.write_all(&piece).ok()?;
    }
    Some(file)
}
