//! [`Mapping`]: addresses reserved from the operating system, whose pages cost nothing until touched and
//! then hold [`POISON`].
//!
//! A file in memory that is filled with the pattern once is mapped over the range as often as needed,
//! copy-on-write: reading costs no memory, writing costs the pages that are written.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::{AsRawFd as _, FromRawFd as _};
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What fresh simulated memory holds, over and over: a NaN as `f32`, as `f64` and as half precision, and no
/// small number as an integer.
pub const POISON: [u8; 4] = [0xA5, 0xA5, 0xF5, 0x7F];

const TILE: usize = 16 << 20;

/// Linux allows a process 65,530 mappings; memory beyond this many tiles is zeroed instead of poisoned
/// (half a terabyte at a time).
const MAX_TILES: usize = 32_768;

static TILES: AtomicUsize = AtomicUsize::new(0);

/// A reserved range of addresses. Dropping it unmaps it.
#[derive(Debug)]
pub(super) struct Mapping {
    base: usize,
    bytes: usize,
    tiles: usize,
    /// Part of another one, to which the addresses go back.
    part: bool,
}

impl Mapping {
    /// `bytes`, rounded up to pages, at a multiple of `align` (a power of two), without pages: whoever touches the
    /// addresses before they are [opened](Self::open) faults. `None` if the operating system refuses.
    pub(super) fn closed(bytes: usize, align: usize) -> Option<Self> {
        let page = super::uvm::PAGE as usize;
        let bytes = bytes.checked_next_multiple_of(page)?;
        let slack = align.saturating_sub(page);
        let raw = map(ptr::null_mut(), bytes.checked_add(slack)?, libc::PROT_NONE, None)?;
        let base = raw.next_multiple_of(align);
        unmap(raw, base - raw);
        unmap(base + bytes, raw + slack - base);
        Some(Self { base, bytes, tiles: 0, part: false })
    }

    /// Puts pages behind a part of closed addresses, until the result is dropped.
    ///
    /// # Safety
    ///
    /// The part lies within, has no pages yet, and is dropped before `self`.
    pub(super) unsafe fn open(&self, base: u64, bytes: usize) -> Option<Self> {
        let mut part = Self { base: base as usize, bytes, tiles: 0, part: true };
        let opened = map(base as *mut libc::c_void, bytes, libc::PROT_READ | libc::PROT_WRITE, None);
        // On failure the part is closed again as it is dropped.
        opened.map(|_| {
            part.poison();
            part
        })
    }

    pub(super) fn base(&self) -> u64 {
        self.base as u64
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes as u64
    }

    pub(super) fn contains(&self, addr: u64) -> bool {
        (self.base()..self.base() + self.bytes()).contains(&addr)
    }

    /// Gives the pages back but keeps the addresses, so that a late use of them faults instead of finding
    /// other data.
    fn retire(&mut self) {
        map(self.base as *mut libc::c_void, self.bytes, libc::PROT_NONE, None);
        self.forget_tiles();
    }

    /// Maps the poison over the range. Where that fails, the range stays zeroed.
    fn poison(&mut self) {
        let Some(tile) = tile() else { return };
        let end = self.base + self.bytes;
        let mut at = self.base;
        while at < end {
            if TILES.fetch_add(1, Ordering::Relaxed) >= MAX_TILES {
                TILES.fetch_sub(1, Ordering::Relaxed);
                return;
            }
            self.tiles += 1;
            let bytes = TILE.min(end - at).min(TILE - at % TILE);
            let (place, rw) = (at as *mut libc::c_void, libc::PROT_READ | libc::PROT_WRITE);
            if map(place, bytes, rw, Some(tile)).is_none() {
                // The old mapping may be gone with the failure, and somebody else's must not come in its place.
                map(place, bytes, rw, None);
                return;
            }
            at += bytes;
        }
    }

    fn forget_tiles(&mut self) {
        TILES.fetch_sub(std::mem::take(&mut self.tiles), Ordering::Relaxed);
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        if self.part {
            self.retire();
        } else {
            unmap(self.base, self.bytes);
            self.forget_tiles();
        }
    }
}

/// Makes whole pages inside a mapping fresh again.
///
/// # Safety
///
/// The pages lie in a live [`Mapping`] and nobody uses them.
pub(super) unsafe fn refresh(base: u64, bytes: usize) {
    // SAFETY: the caller vouches for the pages; private pages fall back to the file's, or to zero.
    unsafe { libc::madvise(base as *mut libc::c_void, bytes, libc::MADV_DONTNEED) };
}

/// Private memory, from the file or from nothing; at a place of ours if one is given.
fn map(at: *mut libc::c_void, bytes: usize, protection: i32, file: Option<&File>) -> Option<usize> {
    let mut flags = libc::MAP_PRIVATE | libc::MAP_NORESERVE;
    flags |= if at.is_null() { 0 } else { libc::MAP_FIXED };
    flags |= if file.is_none() { libc::MAP_ANONYMOUS } else { 0 };
    let fd = file.map_or(-1, |file| file.as_raw_fd());
    // Parts of the file by address: neighbours are then one mapping to the kernel, which limits their number.
    let offset = file.map_or(0, |_| (at as usize % TILE) as libc::off_t);
    // SAFETY: without a place, the kernel chooses addresses that nobody has; every place given here lies in
    // a range that this module reserved.
    let mapped = unsafe { libc::mmap(at, bytes, protection, flags, fd, offset) };
    (mapped != libc::MAP_FAILED).then_some(mapped as usize)
}

fn unmap(base: usize, bytes: usize) {
    if bytes > 0 {
        // SAFETY: the range was reserved by this module, and whoever had it is done with it.
        unsafe { libc::munmap(base as *mut libc::c_void, bytes) };
    }
}

/// The file with the pattern, made at first use; `None` where files in memory are not to be had.
fn tile() -> Option<&'static File> {
    static TILE_FILE: OnceLock<Option<File>> = OnceLock::new();
    TILE_FILE.get_or_init(|| memory_file().and_then(fill)).as_ref()
}

#[cfg(target_os = "linux")]
fn memory_file() -> Option<File> {
    // SAFETY: the name is a C string; the call touches nothing else.
    let fd = unsafe { libc::memfd_create(c"cumem-poison".as_ptr(), libc::MFD_CLOEXEC) };
    // SAFETY: the descriptor is new and nobody else's.
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

#[cfg(test)]
mod tests {
    use super::*;

    fn first_bytes(mapping: &Mapping) -> [u8; 4] {
        // SAFETY: the mapping is live, readable and at least a page.
        unsafe { ptr::read(mapping.base as *const [u8; 4]) }
    }

    /// The addresses, and the pages behind them, which go first.
    fn opened(bytes: usize, align: usize) -> (Mapping, Mapping) {
        let addresses = Mapping::closed(bytes, align).expect("addresses are plenty");
        // SAFETY: nothing has been opened there, and the pages are the first of the pair.
        let pages = unsafe { addresses.open(addresses.base(), bytes) }.expect("pages that nobody touches");
        (pages, addresses)
    }

    #[test]
    fn a_huge_range_costs_nothing_and_is_aligned() {
        let (pages, _addresses) = opened(80 << 30, 2 << 20);
        assert_eq!(pages.base() % (2 << 20), 0);
        assert_eq!(pages.bytes, 80 << 30);
        assert_eq!(first_bytes(&pages), POISON);
    }

    #[test]
    fn what_no_machine_has_is_refused() {
        assert!(Mapping::closed(1 << 50, 4096).is_none());
        assert!(Mapping::closed(usize::MAX - 1, 4096).is_none());
    }

    #[test]
    fn refreshed_pages_are_poison_again() {
        let (mapping, _addresses) = opened(1 << 16, 4096);
        // SAFETY: the mapping is live and writable.
        unsafe { ptr::write(mapping.base as *mut [u8; 4], [0; 4]) };
        assert_eq!(first_bytes(&mapping), [0; 4]);
        // SAFETY: the whole mapping is ours.
        unsafe { refresh(mapping.base(), 1 << 16) };
        assert_eq!(first_bytes(&mapping), POISON);
    }
}
