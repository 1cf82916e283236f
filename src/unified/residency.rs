//! [`Residency`]: a record of the pages of unified (managed) memory that are on each device. With the record, a
//! prefetch of pages that are already there makes no driver call. That call takes 2.3 µs up to 1 MiB and 150 µs for 256
//! MiB (`benches/README.md`, H100, driver 580.159).
//!
//! One [`ResidencyTable`] per device lists the pages that are on it. A prefetch to the device that the driver accepted
//! inserts its pages. The following remove pages: a prefetch to another location, advice, a host guard over the pages
//! or over others of the same 2 MiB, and a free to the driver. A block that is freed to a pool and allocated again
//! keeps its entries, which is the main use of the record.
//!
//! # Why an entry may be wrong, and the cost of an error
//!
//! A page migrates when a processor accesses it, and this library has no record of some accesses: the host may use raw
//! pointers, and other libraries launch kernels. So an entry is an assumption. If it is wrong, a prefetch is skipped,
//! and the first access of the device faults the page in; then the entry is right. **No byte depends on an entry**.
//! Therefore reads and writes of the table are not ordered with each other, and a read during a write may return a
//! wrong result.
//!
//! An entry is inserted when a prefetch is enqueued, not when it is done. Later work on the same stream finds the pages
//! on the device. Work on another stream that gets the memory through a pool is ordered after the block's free, and so
//! after the prefetch. If two blocks share a page, work on one block may run before the prefetch of the other is done,
//! which costs one fault.
//!
//! Where a wrong entry could last or occur often, nothing is assumed:
//!
//! - Pages may be evicted. The table of a device is emptied and stays empty in two cases. First, if all unified memory
//!   and the device memory that this library has allocated together reach 15 sixteenths of the device's memory.
//!   Second, if the driver reports that less than a sixteenth is free; it is queried at intervals, because other
//!   programs use the memory too.
//! - A kernel that is launched on one device may take pages from any other device. A launch empties the tables of the
//!   other devices.
//! - Nothing is recorded about pages on the host, because this library has no record of the pages that a kernel uses.
//! - Nothing is recorded for devices that use the host's page tables, because the driver migrates pages there without
//!   an access.
//!
//! A table has a fixed size: a slot of 72 bytes for each 2 MiB of the device's memory (4.5 MiB for 80 GB). It is
//! allocated at the first prefetch. If two pages of 2 MiB map to the same slot, the later one displaces the other.
//! Ranges of at least 16 MiB that were found on the device are remembered as a whole until something is removed, so
//! that a query takes the same time for any size.

#![forbid(unsafe_code)]

mod advised;
mod span;
mod table;

use self::advised::AdvisedParts;
use self::table::ResidencyTable;
use crate::device::Device;
use crate::device::machine::Allocated;
use crate::device::notice::{Interest, LeafMemory, Listener, Notice};
use cumem_driver::{DeviceId, Location};
use std::cell::Cell;
use std::sync::{Arc, Weak};

/// After this many lookups by a thread, the thread queries how much memory of the device is free (`cuMemGetInfo`).
const QUERY_AFTER: u32 = 1024;

/// The residency tables of one machine. [`Notice`]s of prefetches, advice, host access, launches and memory update
/// them.
#[derive(Debug)]
pub(crate) struct Residency {
    tables: Box<[ResidencyTable]>,
    /// The bytes that this library has allocated from the driver.
    allocated: Arc<Allocated>,
    /// The ends of advised ranges. They are no residency, but are removed by the same notices.
    advised: AdvisedParts,
}

impl Residency {
    /// Returns the residency tables of a device's machine. The first call for a device opens the device's table.
    #[inline]
    pub(crate) fn of(device: &Device) -> &Arc<Self> {
        // The device has a reference too, because the machine has more slots, and a search there takes longer.
        device.slots().get(|| {
            let machine = device.machine();
            let residency = machine.slots().get(|| {
                let tables = (0..machine.devices()).map(|_| ResidencyTable::default()).collect();
                let allocated = Arc::clone(machine.allocated());
                let residency = Arc::new(Self { tables, allocated, advised: AdvisedParts::default() });
                let listener: Weak<Self> = Arc::downgrade(&residency);
                machine.listen(listener);
                residency
            });
            residency.open(device);
            Arc::clone(residency)
        })
    }

    /// Sets the size of the device's memory in the device's table. Until then the table contains nothing.
    fn open(&self, device: &Device) {
        let attributes = device.attributes();
        if attributes.concurrent_managed_access && !attributes.pageable_memory_access_uses_host_page_tables {
            self.tables[device.ordinal() as usize].open(attributes.total_memory);
        }
    }

    /// Reports whether these bytes are assumed to be on the device `to`. `device` is a device of the same machine,
    /// which makes the driver calls.
    #[inline]
    pub(crate) fn has(&self, device: &Device, addr: u64, bytes: usize, to: Location) -> bool {
        thread_local! {
            static LOOKUPS: Cell<u32> = const { Cell::new(0) };
        }
        let Some((d, table)) = self.table(device.id(), to) else { return false };
        let lookups = LOOKUPS.get().wrapping_add(1);
        LOOKUPS.set(lookups);
        if lookups.is_multiple_of(QUERY_AFTER) {
            self.query_free_memory(device, d, table);
        }
        table.contains(addr, bytes)
    }

    fn prefetched(&self, device: DeviceId, addr: u64, bytes: usize, to: Location) {
        let target = self.table(device, to).map(|(d, _)| d as usize);
        for (d, table) in self.tables.iter().enumerate() {
            match target == Some(d) && self.has_room(d, table) {
                true => table.insert(addr, bytes),
                false => table.remove(addr, bytes),
            }
        }
    }

    /// Returns the ends of advised ranges.
    pub(crate) fn advised(&self) -> &AdvisedParts {
        &self.advised
    }

    /// Removes these bytes from all tables.
    fn remove(&self, addr: u64, bytes: usize) {
        self.tables.iter().for_each(|table| table.remove(addr, bytes));
    }

    /// Empties the tables of the other devices, because a kernel was launched on device `d`.
    fn launched_on(&self, d: u32) {
        let others = self.tables.iter().enumerate().filter(|(other, _)| *other != d as usize);
        others.for_each(|(_, table)| table.empty());
    }

    fn has_room(&self, d: usize, table: &ResidencyTable) -> bool {
        table.has_room(self.allocated.managed().saturating_add(self.allocated.plain(d)))
    }

    /// Queries the free memory of a device, and empties the table if little is free, whichever program uses the rest.
    #[cold]
    fn query_free_memory(&self, device: &Device, d: u32, table: &ResidencyTable) {
        // If the query fails, nothing is assumed.
        table.update_free_memory(|| device.driver().memory_info(d).map_or(0, |info| info.free));
    }

    /// Returns the ordinal and the table of the device `to`, if it belongs to the machine of `device`.
    fn table(&self, device: DeviceId, to: Location) -> Option<(u32, &ResidencyTable)> {
        match to {
            Location::Device(id) if id.same_machine(device) => {
                self.tables.get(id.ordinal() as usize).map(|table| (id.ordinal(), table))
            }
            _ => None,
        }
    }
}

impl Listener for Residency {
    fn interest(&self) -> Interest {
        let own = Interest::MEMORY | Interest::PREFETCHED | Interest::ADVISED | Interest::HOST_ACCESS;
        // A launch takes pages from other devices only, so a machine with one device needs no notice.
        if self.tables.len() > 1 { own | Interest::LAUNCHED } else { own }
    }

    fn hear(&self, device: DeviceId, notice: &Notice<'_>) {
        match *notice {
            Notice::Allocated => {
                let full = |(d, table): &(usize, &ResidencyTable)| !self.has_room(*d, table);
                self.tables.iter().enumerate().filter(full).for_each(|(_, table)| table.empty());
            }
            Notice::Freed { memory: LeafMemory::Managed, addr, bytes } => {
                self.remove(addr, bytes);
                self.advised.remove(addr, bytes);
            }
            Notice::Prefetched { addr, bytes, to } => self.prefetched(device, addr, bytes, to),
            Notice::Advised { addr, bytes } => {
                // When read-mostly ends, the driver keeps one of several copies, at a location of its choice.
                self.remove(addr, bytes);
                self.advised.advised(addr, bytes);
            }
            Notice::HostAccess { addr, bytes, .. } => {
                // A page fault may migrate other pages of the same 2 MiB too.
                let (addr, bytes) = span::blocks(addr, bytes);
                self.remove(addr, bytes);
            }
            Notice::Launched { .. } => self.launched_on(device.ordinal()),
            Notice::Freed { .. } | Notice::DeviceUse { .. } | Notice::Copied { .. } => {}
        }
    }
}
