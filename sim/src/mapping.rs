//! [`Mapping`]: reserved addresses of this process, and pages behind them that hold [`POISON`](crate::POISON) at first.

#[cfg(any(miri, not(unix)))]
mod allocated;
#[cfg(all(unix, not(miri)))]
mod mapped;

#[cfg(any(miri, not(unix)))]
use allocated as system;
#[cfg(all(unix, not(miri)))]
use mapped as system;
pub(super) use system::{REGION, REGION_ALIGN};

/// A reserved range of addresses, or pages behind a part of one. Dropping a range gives the addresses back; dropping
/// pages closes their addresses.
#[derive(Debug)]
pub(super) struct Mapping {
    base: usize,
    bytes: usize,
    role: Role,
}

#[derive(Debug)]
enum Role {
    Addresses { align: usize },
    Pages(system::Pages),
}

impl Mapping {
    /// Reserves `bytes` addresses, rounded up to pages, from a multiple of `align` (a power of two) on. They have no
    /// pages: an access faults until they are [opened](Self::open). Returns `None` if the operating system refuses.
    pub(super) fn closed(bytes: usize, align: usize) -> Option<Self> {
        let bytes = bytes.checked_next_multiple_of(super::uvm::PAGE as usize)?;
        let base = system::reserve(bytes, align)?;
        Some(Self { base, bytes, role: Role::Addresses { align } })
    }

    /// Puts pages behind a part of these addresses, until the result is dropped.
    ///
    /// # Safety
    ///
    /// The caller must ensure that the part lies within these addresses, has no pages yet,
    /// and is dropped before `self`.
    pub(super) unsafe fn open(&self, base: u64, bytes: usize) -> Option<Self> {
        let base = base as usize;
        // SAFETY: the caller ensures that the part lies within reserved addresses, and has no pages.
        let pages = unsafe { system::open(base, bytes) }?;
        Some(Self { base, bytes, role: Role::Pages(pages) })
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
}

impl Drop for Mapping {
    fn drop(&mut self) {
        match &mut self.role {
            // SAFETY: the range was reserved with this alignment, and its owner no longer uses it.
            Role::Addresses { align } => unsafe { system::release(self.base, self.bytes, *align) },
            // SAFETY: the pages were opened here, and their owner no longer uses them.
            Role::Pages(pages) => unsafe { system::close(self.base, self.bytes, pages) },
        }
    }
}

/// Resets whole pages of a mapping to their fresh contents.
///
/// # Safety
///
/// The caller must ensure that the pages lie in a live [`Mapping`] and that nothing uses them.
pub(super) unsafe fn refresh(base: u64, bytes: usize) {
    // SAFETY: the caller ensures that the pages are open and unused.
    unsafe { system::refresh(base as usize, bytes) };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::poison::POISON;
    use std::ptr;

    fn first_bytes(mapping: &Mapping) -> [u8; 4] {
        // SAFETY: the mapping is live, readable and at least a page long.
        unsafe { ptr::read(mapping.base as *const [u8; 4]) }
    }

    /// Pages, and the addresses behind which they lie. Fields are dropped in their order, so the pages go first. Two
    /// bindings would be dropped the other way round: the pages would then close addresses that another thread may have.
    struct Opened {
        pages: Mapping,
        _addresses: Mapping,
    }

    fn opened(bytes: usize, align: usize) -> Opened {
        let addresses = Mapping::closed(bytes, align).expect("the process has free addresses");
        // SAFETY: the addresses have no pages yet, and `Opened` drops the pages first.
        let pages = unsafe { addresses.open(addresses.base(), bytes) }.expect("the addresses have no pages");
        Opened { pages, _addresses: addresses }
    }

    #[test]
    #[cfg_attr(any(miri, not(unix)), ignore = "costs as much memory as the range has bytes")]
    fn a_huge_range_costs_nothing_and_is_aligned() {
        let huge = opened(80 << 30, 2 << 20);
        assert_eq!(huge.pages.base() % (2 << 20), 0);
        assert_eq!(huge.pages.bytes, 80 << 30);
        assert_eq!(first_bytes(&huge.pages), POISON);
    }

    #[test]
    #[cfg_attr(any(miri, not(unix)), ignore = "costs as much memory as the range has bytes")]
    fn a_size_larger_than_any_machine_is_refused() {
        assert!(Mapping::closed(1 << 50, 4096).is_none());
        assert!(Mapping::closed(usize::MAX - 1, 4096).is_none());
    }

    #[test]
    fn refreshed_pages_are_poison_again() {
        let opened = opened(1 << 16, 4096);
        let mapping = &opened.pages;
        // SAFETY: the mapping is live and writable.
        unsafe { ptr::write(mapping.base as *mut [u8; 4], [0; 4]) };
        assert_eq!(first_bytes(mapping), [0; 4]);
        // SAFETY: the pages are the whole live mapping, and nothing else uses them.
        unsafe { refresh(mapping.base(), 1 << 16) };
        assert_eq!(first_bytes(mapping), POISON);
    }
}
