//! [`Memory`]: which addresses are allocated, as what.

use super::handles::Key;
use super::heap::{Heap, Home};
use super::journal::SerialOfRange;
use super::simulator::LiveAllocations;
use super::uvm::{BLOCK, PAGE, RangeId};
use std::collections::{BTreeMap, VecDeque};

/// How many freed ranges are remembered, to say so when they are used.
const REMEMBERED: usize = 1024;
/// Granules of unified memory: 64 KiB, what a fault grows to, so that small allocations do not share one.
const MANAGED_SLOT: usize = 64 << 10;

/// What memory is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Device,
    Managed(RangeId),
    Pinned,
    /// A segment of a stream-ordered pool.
    Segment(Key),
}

/// One allocation of the driver's.
#[derive(Debug)]
pub(super) struct Allocation {
    pub(super) serial: u64,
    pub(super) device: u32,
    pub(super) kind: Kind,
    /// Bytes asked for; only these may be used.
    pub(super) bytes: u64,
    /// Bytes of device or host memory that it takes.
    pub(super) counted: u64,
    home: Home,
}

/// An address within an allocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) serial: u64,
    pub(super) device: u32,
    pub(super) kind: Kind,
    pub(super) base: u64,
    pub(super) bytes: u64,
    pub(super) offset: u64,
}

/// Why an address range is not one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bad {
    /// Nothing of the simulator's.
    Unknown,
    /// It runs over the end of the allocation at `base`.
    Crosses { base: u64, bytes: u64 },
    /// It was freed.
    Freed { base: u64, bytes: u64 },
}

/// All allocations of a machine.
#[derive(Debug)]
pub(super) struct Memory {
    table: BTreeMap<u64, Allocation>,
    devices: Vec<Heap>,
    managed: Heap,
    pinned: Heap,
    freed: VecDeque<(u64, u64)>,
    serials: u64,
    ranges: SerialOfRange,
    pub(super) live: LiveAllocations,
}

impl Memory {
    pub(super) fn new(devices: usize) -> Self {
        Self {
            table: BTreeMap::new(),
            devices: std::iter::repeat_with(|| Heap::new(512, BLOCK as usize)).take(devices).collect(),
            managed: Heap::new(MANAGED_SLOT, BLOCK as usize),
            pinned: Heap::new(PAGE as usize, PAGE as usize),
            freed: VecDeque::new(),
            serials: 0,
            ranges: BTreeMap::new(),
            live: LiveAllocations::default(),
        }
    }

    /// Finds addresses for memory of device `d`; `kind` is called only if there are any.
    pub(super) fn allocate(
        &mut self,
        d: u32,
        bytes: u64,
        counted: u64,
        heap: impl FnOnce(&mut Self) -> &mut Heap,
        kind: impl FnOnce() -> Kind,
    ) -> Option<(u64, u64)> {
        let (base, home) = heap(self).allocate(usize::try_from(counted.max(bytes)).ok()?)?;
        let kind = kind();
        self.serials += 1;
        let serial = self.serials;
        if let Kind::Managed(range) = kind {
            self.ranges.insert(range, serial);
        }
        self.live.count(kind, 1, bytes as i64);
        self.table.insert(base, Allocation { serial, device: d, kind, bytes, counted, home });
        Some((base, serial))
    }

    pub(super) fn device_heap(&mut self, d: u32) -> &mut Heap {
        &mut self.devices[d as usize]
    }

    pub(super) fn managed_heap(&mut self) -> &mut Heap {
        &mut self.managed
    }

    pub(super) fn pinned_heap(&mut self) -> &mut Heap {
        &mut self.pinned
    }

    /// Ends the allocation that starts at `base`.
    ///
    /// # Safety
    ///
    /// Nobody uses the memory any more.
    pub(super) unsafe fn free(&mut self, base: u64) -> Option<Allocation> {
        let mut allocation = self.table.remove(&base)?;
        let heap = match allocation.kind {
            Kind::Device | Kind::Segment(_) => &mut self.devices[allocation.device as usize],
            Kind::Managed(_) => &mut self.managed,
            Kind::Pinned => &mut self.pinned,
        };
        let home = std::mem::replace(&mut allocation.home, Home::Slot(0));
        // SAFETY: address and home were kept together, and the caller vouches for the rest.
        unsafe { heap.free(base, home) };
        if let Kind::Managed(range) = allocation.kind {
            self.ranges.remove(&range);
        }
        self.live.count(allocation.kind, -1, -(allocation.bytes as i64));
        self.remember_freed(base, allocation.bytes);
        Some(allocation)
    }

    fn remember_freed(&mut self, base: u64, bytes: u64) {
        self.freed.push_back((base, bytes));
        if self.freed.len() > REMEMBERED {
            self.freed.pop_front();
        }
    }

    /// The allocation that starts at `base`.
    pub(super) fn at(&self, base: u64) -> Option<&Allocation> {
        self.table.get(&base)
    }

    /// The allocation that holds `bytes` bytes at `addr`; segments of pools count whole.
    pub(super) fn find(&self, addr: u64, bytes: u64) -> Result<Place, Bad> {
        if let Some((&base, found)) = self.table.range(..=addr).next_back() {
            let offset = addr - base;
            // The address just past the end belongs to nobody, unless nothing is asked of it.
            if offset < found.bytes || (offset == found.bytes && bytes == 0) {
                if bytes > found.bytes - offset {
                    return Err(Bad::Crosses { base, bytes: found.bytes });
                }
                let Allocation { serial, device, kind, bytes, .. } = *found;
                return Ok(Place { serial, device, kind, base, bytes, offset });
            }
        }
        let was = self.freed.iter().rev().find(|(base, bytes)| (*base..base + bytes).contains(&addr));
        Err(was.map_or(Bad::Unknown, |&(base, bytes)| Bad::Freed { base, bytes }))
    }

    /// Whether an address found earlier still belongs to the same allocation.
    pub(super) fn still(&self, addr: u64, serial: u64) -> bool {
        self.table.range(..=addr).next_back().is_some_and(|(_, found)| found.serial == serial)
    }

    pub(super) fn serial_of(&self, range: RangeId) -> u64 {
        self.ranges.get(&range).copied().unwrap_or(0)
    }
}
