//! [`Mapping`]: addresses reserved from the operating system. Their pages cost no memory until they are touched,
//! and then hold [`POISON`].
//!
//! A file in memory is filled with the pattern once, and mapped copy-on-write over a range as often as necessary.
//! Reading therefore costs no memory, and writing costs only the pages that are written.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::{AsRawFd as _, FromRawFd as _};
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The pattern that fresh simulated memory holds. Read as `f32` or `f64` it is a NaN; in half precision every second
/// value is a NaN. As an integer it is no small number.
///
/// # Examples
///
/// ```
/// use cumem_driver::Driver;
/// use cumem_sim::{POISON, Profile, Simulator};
///
/// let sim = Simulator::new([Profile::h100_pcie5()])?;
/// let memory = sim.allocate_pinned(0, 4)?;
/// // SAFETY: the memory is live and initialized, and nothing writes to it.
/// assert_eq!(unsafe { memory.cast::<[u8; 4]>().read() }, POISON);
/// assert!(f32::from_ne_bytes(POISON).is_nan());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub const POISON: [u8; 4] = [0xA5, 0xA5, 0xF5, 0x7F];

const TILE: usize = 16 << 20;

/// Most tiles that are mapped at a time: half a terabyte. Memory beyond them is zeroed instead of poisoned,
/// because Linux allows a process only 65,530 mappings.
const MAX_TILES: usize = 32_768;

static TILES: AtomicUsize = AtomicUsize::new(0);

/// A reserved range of addresses. Dropping it unmaps it.
#[derive(Debug)]
pub(super) struct Mapping {
    base: usize,
    bytes: usize,
    tiles: usize,
    /// True for a part of another mapping, to which its addresses return when it is dropped.
    part: bool,
}

impl Mapping {
    /// Reserves `bytes` addresses, rounded up to pages, from a multiple of `align` (a power of two) on. They have no
    /// pages: an access faults until they are [opened](Self::open). Returns `None` if the operating system refuses.
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

    /// Puts pages behind a part of these addresses, until the result is dropped.
    ///
    /// # Safety
    ///
    /// The caller must ensure that the part lies within these addresses, has no pages yet,
    /// and is dropped before `self`.
    pub(super) unsafe fn open(&self, base: u64, bytes: usize) -> Option<Self> {
        let mut part = Self { base: base as usize, bytes, tiles: 0, part: true };
        let opened = map(base as *mut libc::c_void, bytes, libc::PROT_READ | libc::PROT_WRITE, None);
        // On failure, dropping `part` closes the addresses again.
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

    /// Gives the pages back to the operating system but keeps the addresses. A use after free therefore faults,
    /// instead of reading other data.
    fn retire(&mut self) {
        map(self.base as *mut libc::c_void, self.bytes, libc::PROT_NONE, None);
        self.forget_tiles();
    }

    /// Maps the pattern over the range. If that fails, the rest of the range stays zeroed.
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
                // The failed call may have removed the old mapping. Map the place again,
                // so that no other mapping takes it.
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

/// Resets whole pages of a mapping to their fresh contents.
///
/// # Safety
///
/// The caller must ensure that the pages lie in a live [`Mapping`] and that nothing uses them.
pub(super) unsafe fn refresh(base: u64, bytes: usize) {
    // SAFETY: the caller ensures that the pages are mapped and unused. Private pages revert to the file's, or to zero.
    unsafe { libc::madvise(base as *mut libc::c_void, bytes, libc::MADV_DONTNEED) };
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

#[cfg(test)]
mod tests {
    use super::*;

    fn first_bytes(mapping: &Mapping) -> [u8; 4] {
        // SAFETY: the mapping is live, readable and at least a page long.
        unsafe { ptr::read(mapping.base as *const [u8; 4]) }
    }

    /// Returns pages and the addresses behind which they lie. The pages come first, so that they are dropped first.
    fn opened(bytes: usize, align: usize) -> (Mapping, Mapping) {
        let addresses = Mapping::closed(bytes, align).expect("the process has free addresses");
        // SAFETY: the addresses have no pages yet, and callers drop the pages first.
        let pages = unsafe { addresses.open(addresses.base(), bytes) }.expect("the addresses have no pages");
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
    fn a_size_larger_than_any_machine_is_refused() {
        assert!(Mapping::closed(1 << 50, 4096).is_none());
        assert!(Mapping::closed(usize::MAX - 1, 4096).is_none());
    }

    #[test]
    fn refreshed_pages_are_poison_again() {
        let (mapping, _addresses) = opened(1 << 16, 4096);
        // SAFETY: the mapping is live and writable.
        unsafe { ptr::write(mapping.base as *mut [u8; 4], [0; 4]) };
        assert_eq!(first_bytes(&mapping), [0; 4]);
        // SAFETY: the pages are the whole live mapping, and nothing else uses them.
        unsafe { refresh(mapping.base(), 1 << 16) };
        assert_eq!(first_bytes(&mapping), POISON);
    }
}
