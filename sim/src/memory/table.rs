//! [`SimulatedMemory`]: the table of all allocations, and the heaps that their addresses come from.

use super::aliases::Aliases;
use super::allocation::{Allocation, AllocationKind, MemoryRef, Origin, RangeError};
use crate::addresses::Addresses;
use crate::heap::{AddressSource, Heap};
use crate::live::{LiveBlock, LiveCount};
use crate::uvm::{BLOCK, PAGE, RangeId};
use std::collections::{BTreeMap, VecDeque};

/// Freed ranges that are remembered, so that a later use of them is reported as a use after free.
const REMEMBERED: usize = 1024;
/// Smallest slot of managed memory: the 64 KiB to which a fault grows, so that small allocations do not share them.
const MANAGED_SLOT: usize = 64 << 10;

/// A range of reserved addresses.
#[derive(Debug)]
pub(super) struct Reservation {
    pub(super) device: u32,
    pub(super) bytes: u64,
}

/// The heaps, one for each kind of memory.
#[derive(Debug)]
pub(crate) struct Heaps {
    devices: Vec<Heap>,
    managed: Heap,
    pinned: Heap,
}

impl Heaps {
    pub(crate) fn device(&mut self, d: u32) -> &mut Heap {
        &mut self.devices[d as usize]
    }

    pub(crate) fn managed(&mut self) -> &mut Heap {
        &mut self.managed
    }

    pub(crate) fn pinned(&mut self) -> &mut Heap {
        &mut self.pinned
    }
}

/// All allocations of a machine.
#[derive(Debug)]
pub(crate) struct SimulatedMemory {
    pub(super) table: BTreeMap<u64, Allocation>,
    heaps: Heaps,
    pub(super) reservations: BTreeMap<u64, Reservation>,
    pub(super) aliases: Aliases,
    /// The other devices that can access each mapped piece, by its address.
    pub(super) peers: BTreeMap<u64, Vec<u32>>,
    freed: VecDeque<(u64, u64)>,
    serials: u64,
    /// Serial number and first address of the allocation that has this range.
    ranges: BTreeMap<RangeId, (u64, u64)>,
    pub(crate) live: LiveCount,
    /// Declared after the table and the heaps,
    /// because pages must be dropped before the addresses behind which they lie.
    pub(super) addresses: Addresses,
}

impl SimulatedMemory {
    pub(crate) fn new(devices: usize) -> Self {
        Self {
            table: BTreeMap::new(),
            heaps: Heaps {
                devices: std::iter::repeat_with(|| Heap::new(512, BLOCK as usize)).take(devices).collect(),
                managed: Heap::new(MANAGED_SLOT, BLOCK as usize),
                pinned: Heap::new(PAGE as usize, PAGE as usize),
            },
            reservations: BTreeMap::new(),
            aliases: Aliases::default(),
            peers: BTreeMap::new(),
            freed: VecDeque::new(),
            serials: 0,
            ranges: BTreeMap::new(),
            live: LiveCount::default(),
            addresses: Addresses::default(),
        }
    }

    /// Allocates addresses for memory of device `d`. Returns the first address and the serial number, or `None` if the
    /// operating system refuses. `kind` is called only after addresses were found.
    pub(crate) fn allocate(
        &mut self,
        d: u32,
        bytes: u64,
        counted: u64,
        heap: impl FnOnce(&mut Heaps) -> &mut Heap,
        origin: Origin,
        kind: impl FnOnce() -> AllocationKind,
    ) -> Option<(u64, u64)> {
        let bytes_used = usize::try_from(counted.max(bytes)).ok()?;
        let (base, source) = heap(&mut self.heaps).allocate(&mut self.addresses, bytes_used)?;
        let kind = kind();
        let serial = self.insert(base, Allocation { serial: 0, device: d, kind, origin, bytes, counted, source });
        Some((base, serial))
    }

    /// Enters an allocation into the table under a new serial number, and returns this number.
    pub(super) fn insert(&mut self, base: u64, mut allocation: Allocation) -> u64 {
        self.serials += 1;
        let serial = self.serials;
        allocation.serial = serial;
        if let AllocationKind::Managed(range) = allocation.kind {
            self.ranges.insert(range, (serial, base));
        }
        self.live.count(&allocation, 1);
        self.table.insert(base, allocation);
        serial
    }

    /// Enters memory of the program that device `d` has registered, and returns its serial number. Returns `None` if a
    /// part of the range is in the table.
    pub(crate) fn register(&mut self, d: u32, addr: u64, bytes: u64, counted: u64) -> Option<u64> {
        let before = self.table.range(..addr.checked_add(bytes)?).next_back();
        if before.is_some_and(|(base, found)| base + found.bytes > addr) {
            return None;
        }
        let (kind, origin, source) = (AllocationKind::Pinned, Origin::Registered, AddressSource::Program);
        Some(self.insert(addr, Allocation { serial: 0, device: d, kind, origin, bytes, counted, source }))
    }

    /// Returns the live blocks, without those of pools.
    pub(crate) fn live_blocks(&self) -> impl Iterator<Item = LiveBlock> + '_ {
        let block = |(&addr, of): (&u64, &Allocation)| LiveBlock::of(addr, of);
        self.table.iter().filter_map(block)
    }

    pub(super) fn reservation(&self, addr: u64) -> Option<(u64, &Reservation)> {
        let (&base, found) = self.reservations.range(..=addr).next_back()?;
        (addr - base < found.bytes).then_some((base, found))
    }

    /// Frees the allocation that starts at `base`.
    ///
    /// # Safety
    ///
    /// The caller must ensure that nothing uses the memory any more.
    pub(crate) unsafe fn free(&mut self, base: u64) -> Option<Allocation> {
        let mut allocation = self.table.remove(&base)?;
        let heap = match allocation.kind {
            AllocationKind::Device | AllocationKind::Segment(_) => Some(self.heaps.device(allocation.device)),
            AllocationKind::Managed(_) => Some(self.heaps.managed()),
            AllocationKind::Pinned => Some(self.heaps.pinned()),
            // The pages are dropped with `source`.
            AllocationKind::Mapped(_) | AllocationKind::Alias(_) => None,
        };
        let source = std::mem::replace(&mut allocation.source, AddressSource::Slot(0));
        if let Some(heap) = heap {
            // SAFETY: `base` and `source` came from one `allocate` call; the caller ensures that nothing uses the
            // memory.
            unsafe { heap.free(&mut self.addresses, base, source) };
        }
        if let AllocationKind::Managed(range) = allocation.kind {
            self.ranges.remove(&range);
        }
        self.aliases.remove(base);
        self.peers.remove(&base);
        self.live.count(&allocation, -1);
        // The program may go on using memory whose registration has ended.
        if allocation.origin != Origin::Registered {
            self.remember_freed(base, allocation.bytes);
        }
        Some(allocation)
    }

    fn remember_freed(&mut self, base: u64, bytes: u64) {
        self.freed.push_back((base, bytes));
        if self.freed.len() > REMEMBERED {
            self.freed.pop_front();
        }
    }

    /// Returns all allocations, in the order of their addresses.
    pub(crate) fn allocations(&self) -> impl Iterator<Item = &Allocation> {
        self.table.values()
    }

    /// Returns the allocation that starts at `base`.
    pub(crate) fn at(&self, base: u64) -> Option<&Allocation> {
        self.table.get(&base)
    }

    /// Finds the allocation that holds `bytes` bytes at `addr`. A segment of a pool counts as one allocation.
    pub(crate) fn find(&self, addr: u64, bytes: u64) -> Result<MemoryRef, RangeError> {
        if let Some((&base, found)) = self.table.range(..=addr).next_back() {
            let offset = addr - base;
            // The one-past-the-end address is outside the allocation, except for an empty range.
            if offset < found.bytes || (offset == found.bytes && bytes == 0) {
                let (have, serial) = match found.kind {
                    kind if kind.is_mapped() => self.run(base, addr.saturating_add(bytes)),
                    _ => (found.bytes, found.serial),
                };
                if bytes > have - offset {
                    return Err(RangeError::Crosses { base, bytes: have });
                }
                let Allocation { device, kind, origin, .. } = *found;
                return Ok(MemoryRef { serial, device, kind, origin, base, bytes: have, offset });
            }
        }
        let was = self.freed.iter().rev().find(|(base, bytes)| (*base..base + bytes).contains(&addr));
        Err(match (was, self.reservation(addr)) {
            (Some(&(base, bytes)), _) => RangeError::Freed { base, bytes },
            (None, Some(_)) => RangeError::Unmapped,
            (None, None) => RangeError::Unknown,
        })
    }

    /// Returns the bytes of adjacent pieces of one reservation, from the piece at `base` to the one that reaches `end`,
    /// and the newest of their serial numbers.
    fn run(&self, base: u64, end: u64) -> (u64, u64) {
        let (mut at, mut newest, mut of) = (base, 0, None);
        for (&start, piece) in self.table.range(base..) {
            if start != at || *of.get_or_insert(piece.kind) != piece.kind {
                break;
            }
            (at, newest) = (start + piece.bytes, newest.max(piece.serial));
            if at >= end {
                break;
            }
        }
        (at - base, newest)
    }

    /// Reports whether `bytes` bytes at `addr` still belong to the allocation, or to the pieces, of `memory`.
    pub(crate) fn is_current(&self, addr: u64, bytes: u64, memory: &MemoryRef) -> bool {
        match (self.find(addr, bytes), memory.kind) {
            // The range may begin in another piece than `memory`.
            // A piece that was mapped later has a higher serial number.
            (Ok(now), kind) if kind.is_mapped() => now.kind == memory.kind && now.serial <= memory.serial,
            (Ok(now), _) => now.serial == memory.serial,
            (Err(_), _) => false,
        }
    }

    pub(crate) fn serial_of(&self, range: RangeId) -> u64 {
        self.ranges.get(&range).map_or(0, |(serial, _)| *serial)
    }

    pub(crate) fn base_of(&self, range: RangeId) -> u64 {
        self.ranges.get(&range).map_or(0, |(_, base)| *base)
    }
}
