//! [`Residency`]: what this library knows of where the pages of unified memory are, so that a prefetch of pages that are
//! already there need not ask the driver, which takes 2.3 µs up to 1 MiB and 150 µs for 256 MiB (`benches/README.md`,
//! H100, driver 580.159).
//!
//! One [`Book`] per device lists pages that are on it. A prefetch to a device that the driver accepted writes them
//! in; each of these strikes them out: a prefetch elsewhere, advice, a host guard over them or others of their 2 MiB,
//! their return to the driver. A block that goes back to a pool and comes out again keeps what is known: that is what
//! it is for.
//!
//! # Why it may be wrong, and what that costs
//!
//! Pages are migrated by whoever touches them, and not all of that can be seen from here: raw pointers on the host,
//! kernels of other libraries. So an entry is an assumption. If it is wrong, a prefetch is left out and the first use
//! of the page on the device faults it in, after which the entry is true. **No byte depends on it**, so its reads and
//! writes are not ordered with each other, and an entry that is read while it is written may be read wrongly.
//!
//! An entry is made when a prefetch is enqueued, not when it is done. Work behind it on its stream finds the pages
//! there. Work of another stream that gets the memory through a pool is ordered behind the block's free, and so
//! behind the prefetch; two blocks that share a page may meet it on its way, which is one fault.
//!
//! Where being wrong could last or happen often, nothing is assumed:
//!
//! - Pages may be evicted. If all unified memory and all device memory that this library has out could together come
//!   within a sixteenth of the device's memory, or the driver says that less than that is free, the device's book is
//!   emptied and stays empty. The driver is asked now and then: others use the memory too.
//! - A kernel that is launched on one device may take pages from any other: that empties the books of the others.
//! - Nothing is kept about pages on the host, since a kernel that takes them from there is not seen.
//! - Where devices use the host's page tables, pages migrate for reasons of their own.
//!
//! A book is a table of fixed size, a slot of 72 bytes for each 2 MiB of the device's memory (4.5 MiB for 80 GB),
//! made at the first prefetch. Pages of 2 MiB that fall into the same slot displace each other. Ranges of 16 MiB and
//! more that were found to be there are remembered as a whole while nothing is struck out, so that asking costs the
//! same for any size.

#![forbid(unsafe_code)]

mod advised;
mod book;
mod span;

use self::advised::AdvisedParts;
use self::book::Book;
use crate::device::Device;
use crate::device::machine::Allocated;
use crate::device::notice::{Interest, LeafMemory, Listener, Notice};
use cumem_driver::{DeviceId, Location};
use std::cell::Cell;
use std::sync::{Arc, Weak};

/// After this many questions of a thread the driver is asked how much memory is free (`cuMemGetInfo`).
const ASK_AFTER: u32 = 1024;

/// The books of one machine. They hear of prefetches, advice, host access, launches and memory through [`Notice`]s.
#[derive(Debug)]
pub(crate) struct Residency {
    books: Box<[Book]>,
    /// Bytes that this library has from the driver.
    allocated: Arc<Allocated>,
    /// Not about where pages are, but forgotten with them.
    advised: AdvisedParts,
}

impl Residency {
    /// Returns the books of a device's machine. The first call for a device opens the device's book.
    #[inline]
    pub(crate) fn of(device: &Device) -> &Arc<Self> {
        // Kept at the device, because the machine keeps more and would take longer to ask.
        device.slots().get(|| {
            let machine = device.machine();
            let residency = machine.slots().get(|| {
                let books = (0..machine.devices()).map(|_| Book::default()).collect();
                let allocated = Arc::clone(machine.allocated());
                let residency = Arc::new(Self { books, allocated, advised: AdvisedParts::default() });
                let listener: Weak<Self> = Arc::downgrade(&residency);
                machine.listen(listener);
                residency
            });
            residency.open(device);
            Arc::clone(residency)
        })
    }

    /// Gives the device's book the size of the device's memory. Until then the book assumes nothing.
    fn open(&self, device: &Device) {
        let attributes = device.attributes();
        if attributes.concurrent_managed_access && !attributes.pageable_memory_access_uses_host_page_tables {
            self.books[device.ordinal() as usize].open(attributes.total_memory);
        }
    }

    /// Whether these bytes are assumed to be on the device that is `to`. `device` is one of the machine.
    #[inline]
    pub(crate) fn has(&self, device: &Device, addr: u64, bytes: usize, to: Location) -> bool {
        thread_local! {
            static QUESTIONS: Cell<u32> = const { Cell::new(0) };
        }
        let Some((d, book)) = self.book(device.id(), to) else { return false };
        let questions = QUESTIONS.get().wrapping_add(1);
        QUESTIONS.set(questions);
        if questions.is_multiple_of(ASK_AFTER) {
            self.ask(device, d, book);
        }
        book.has(addr, bytes)
    }

    fn prefetched(&self, device: DeviceId, addr: u64, bytes: usize, to: Location) {
        let target = self.book(device, to).map(|(d, _)| d as usize);
        for (d, book) in self.books.iter().enumerate() {
            match target == Some(d) && self.has_room(d, book) {
                true => book.write(addr, bytes),
                false => book.strike(addr, bytes),
            }
        }
    }

    /// Where advice began and ended.
    pub(crate) fn advised(&self) -> &AdvisedParts {
        &self.advised
    }

    /// These bytes may be anywhere from now on.
    fn forget(&self, addr: u64, bytes: usize) {
        self.books.iter().for_each(|book| book.strike(addr, bytes));
    }

    /// A kernel was launched on device `d`.
    fn launched_on(&self, d: u32) {
        let others = self.books.iter().enumerate().filter(|(other, _)| *other != d as usize);
        others.for_each(|(_, book)| book.empty());
    }

    fn has_room(&self, d: usize, book: &Book) -> bool {
        book.has_room(self.allocated.managed().saturating_add(self.allocated.plain(d)))
    }

    /// Empties the book if the device's memory has become scarce, whatever has taken it.
    #[cold]
    fn ask(&self, device: &Device, d: u32, book: &Book) {
        // A driver that does not answer gives no reason to assume anything.
        let free = device.driver().memory_info(d).map_or(0, |info| info.free);
        book.measured(free);
    }

    fn book(&self, device: DeviceId, to: Location) -> Option<(u32, &Book)> {
        match to {
            Location::Device(id) if id.same_machine(device) => {
                self.books.get(id.ordinal() as usize).map(|book| (id.ordinal(), book))
            }
            _ => None,
        }
    }
}

impl Listener for Residency {
    fn interest(&self) -> Interest {
        let own = Interest::MEMORY | Interest::PREFETCHED | Interest::ADVISED | Interest::HOST_ACCESS;
        // A launch takes pages from other devices only.
        if self.books.len() > 1 { own | Interest::LAUNCHED } else { own }
    }

    fn hear(&self, device: DeviceId, notice: &Notice<'_>) {
        match *notice {
            Notice::Allocated => {
                let full = |(d, book): &(usize, &Book)| !self.has_room(*d, book);
                self.books.iter().enumerate().filter(full).for_each(|(_, book)| book.empty());
            }
            Notice::Freed { memory: LeafMemory::Managed, addr, bytes } => {
                self.forget(addr, bytes);
                self.advised.forget(addr, bytes);
            }
            Notice::Prefetched { addr, bytes, to } => self.prefetched(device, addr, bytes, to),
            Notice::Advised { addr, bytes } => {
                // The end of read-mostly collapses copies, wherever the driver likes.
                self.forget(addr, bytes);
                self.advised.advised(addr, bytes);
            }
            Notice::HostAccess { addr, bytes, .. } => {
                // Pages around them may come along, within their blocks of 2 MiB: the driver answers faults with more
                // than was asked for.
                let (addr, bytes) = span::blocks(addr, bytes);
                self.forget(addr, bytes);
            }
            Notice::Launched { .. } => self.launched_on(device.ordinal()),
            Notice::Freed { .. } | Notice::DeviceUse { .. } | Notice::Copied { .. } => {}
        }
    }
}
