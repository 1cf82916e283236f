//! [`Memory`]: which addresses are allocated, and as which kind of memory.
//!
//! Memory that is mapped behind reserved addresses consists of pieces.
//! Adjacent pieces of one reservation can be used as one range.

mod aliases;

use super::addresses::Addresses;
use super::handles::Key;
use super::heap::{Heap, Home};
use super::live::LiveCount;
use super::uvm::{BLOCK, PAGE, RangeId};
use aliases::Aliases;
use std::collections::{BTreeMap, VecDeque};

/// Freed ranges that are remembered, so that a later use of them is reported as a use after free.
const REMEMBERED: usize = 1024;
/// Smallest slot of managed memory: the 64 KiB to which a fault grows, so that small allocations do not share them.
const MANAGED_SLOT: usize = 64 << 10;

/// The kind of an allocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Device,
    Managed(RangeId),
    Pinned,
    /// A segment of a stream-ordered pool.
    Segment(Key),
    /// Memory mapped behind reserved addresses. The value is the first address of the reservation.
    Mapped(u64),
    /// A second mapping, behind reserved addresses, of memory that is mapped elsewhere. The value is the
    /// first address of the reservation that holds the second mapping.
    Alias(u64),
}

impl Kind {
    /// Reports whether it is device memory that never migrates.
    pub(super) fn is_plain(self) -> bool {
        matches!(self, Self::Device | Self::Segment(_)) || self.is_mapped()
    }

    /// Reports whether it is mapped behind reserved addresses.
    pub(super) fn is_mapped(self) -> bool {
        matches!(self, Self::Mapped(_) | Self::Alias(_))
    }
}

/// One allocation of the simulated driver.
#[derive(Debug)]
pub(super) struct Allocation {
    pub(super) serial: u64,
    pub(super) device: u32,
    pub(super) kind: Kind,
    /// Requested bytes; only these may be used.
    pub(super) bytes: u64,
    /// Bytes of device or host memory that the allocation occupies.
    pub(super) counted: u64,
    home: Home,
}

/// An address within an allocation, or within adjacent pieces of one reservation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    /// Serial number of the allocation, or of the newest of several pieces.
    pub(super) serial: u64,
    pub(super) device: u32,
    pub(super) kind: Kind,
    pub(super) base: u64,
    pub(super) bytes: u64,
    pub(super) offset: u64,
}

/// Why an address range cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bad {
    /// The simulator never allocated the address, or no longer remembers that it did.
    Unknown,
    /// The range runs past the end of the allocation at `base`, which has `bytes` bytes.
    Crosses { base: u64, bytes: u64 },
    /// The address lies in an allocation that was freed.
    Freed { base: u64, bytes: u64 },
    /// The address is reserved, but nothing is mapped there.
    Unmapped,
}

/// A range of reserved addresses.
#[derive(Debug)]
pub(super) struct Reservation {
    device: u32,
    bytes: u64,
}

/// The heaps, one for each kind of memory.
#[derive(Debug)]
pub(super) struct Heaps {
    devices: Vec<Heap>,
    managed: Heap,
    pinned: Heap,
}

impl Heaps {
    pub(super) fn device(&mut self, d: u32) -> &mut Heap {
        &mut self.devices[d as usize]
    }

    pub(super) fn managed(&mut self) -> &mut Heap {
        &mut self.managed
    }

    pub(super) fn pinned(&mut self) -> &mut Heap {
        &mut self.pinned
    }
}

/// All allocations of a machine.
#[derive(Debug)]
pub(super) struct Memory {
    table: BTreeMap<u64, Allocation>,
    heaps: Heaps,
    reservations: BTreeMap<u64, Reservation>,
    aliases: Aliases,
    freed: VecDeque<(u64, u64)>,
    serials: u64,
    /// Serial number and first address of the allocation that has this range.
    ranges: BTreeMap<RangeId, (u64, u64)>,
    pub(super) live: LiveCount,
    /// Declared after the table and the heaps,
    /// because pages must be dropped before the addresses behind which they lie.
    addresses: Addresses,
}

impl Memory {
    pub(super) fn new(devices: usize) -> Self {
        Self {
            table: BTreeMap::new(),
            heaps: Heaps {
                devices: std::iter::repeat_with(|| Heap::new(512, BLOCK as usize)).take(devices).collect(),
                managed: Heap::new(MANAGED_SLOT, BLOCK as usize),
                pinned: Heap::new(PAGE as usize, PAGE as usize),
            },
            reservations: BTreeMap::new(),
            aliases: Aliases::default(),
            freed: VecDeque::new(),
            serials: 0,
            ranges: BTreeMap::new(),
            live: LiveCount::default(),
            addresses: Addresses::default(),
        }
    }

    /// Allocates addresses for memory of device `d`. Returns the first address and the serial number, or `None` if the
    /// operating system refuses. `kind` is called only after addresses were found.
    pub(super) fn allocate(
        &mut self,
        d: u32,
        bytes: u64,
        counted: u64,
        heap: impl FnOnce(&mut Heaps) -> &mut Heap,
        kind: impl FnOnce() -> Kind,
    ) -> Option<(u64, u64)> {
        let bytes_used = usize::try_from(counted.max(bytes)).ok()?;
        let (base, home) = heap(&mut self.heaps).allocate(&mut self.addresses, bytes_used)?;
        let kind = kind();
        let serial = self.enter(base, Allocation { serial: 0, device: d, kind, bytes, counted, home });
        Some((base, serial))
    }

    /// Enters an allocation into the table under a new serial number, and returns this number.
    fn enter(&mut self, base: u64, mut allocation: Allocation) -> u64 {
        self.serials += 1;
        let serial = self.serials;
        allocation.serial = serial;
        if let Kind::Managed(range) = allocation.kind {
            self.ranges.insert(range, (serial, base));
        }
        self.live.count(allocation.kind, 1, allocation.bytes);
        self.table.insert(base, allocation);
        serial
    }

    /// Reserves addresses for memory of device `d`.
    pub(super) fn reserve(&mut self, d: u32, bytes: u64) -> Option<u64> {
        let (base, _) = self.addresses.take(usize::try_from(bytes).ok()?, BLOCK as usize)?;
        self.reservations.insert(base, Reservation { device: d, bytes });
        self.live.count_reserved(1, bytes);
        Some(base)
    }

    /// Releases a reservation of device `d` if exactly this range was reserved and nothing is mapped there.
    /// Reports whether it did.
    pub(super) fn unreserve(&mut self, d: u32, base: u64, bytes: u64) -> bool {
        let found = self.reservations.get(&base).is_some_and(|r| r.device == d && r.bytes == bytes);
        if !found || self.table.range(base..base + bytes).next().is_some() {
            return false;
        }
        self.reservations.remove(&base);
        self.addresses.give(base, bytes);
        self.live.count_reserved(-1, bytes);
        true
    }

    /// Reports whether a range lies within one reservation of device `d`, and nothing is mapped there.
    pub(super) fn can_map(&self, d: u32, addr: u64, bytes: u64) -> bool {
        let reserved = self.reservation(addr).is_some_and(|(base, r)| r.device == d && bytes <= base + r.bytes - addr);
        reserved && self.find(addr, 1).is_err() && self.table.range(addr..addr + bytes).next().is_none()
    }

    /// Maps memory behind a range for which [`can_map`](Self::can_map) holds, and returns its serial number.
    pub(super) fn map(&mut self, addr: u64, bytes: u64) -> Option<u64> {
        let (base, &Reservation { device, .. }) = self.reservation(addr)?;
        // SAFETY: nothing is mapped there. The reservation outlives its pieces: `unreserve` refuses while a piece is
        // mapped, and `addresses` is the last field to be dropped.
        let home = Home::Own(unsafe { self.addresses.open(addr, bytes) }?);
        let kind = Kind::Mapped(base);
        Some(self.enter(addr, Allocation { serial: 0, device, kind, bytes, counted: bytes, home }))
    }

    /// Returns the addresses of the pieces of device `d` that make up a range,
    /// or `None` if it is not made of whole pieces.
    pub(super) fn pieces(&self, d: u32, addr: u64, bytes: u64) -> Option<Vec<u64>> {
        let (mut at, mut bases) = (addr, Vec::new());
        while at < addr.checked_add(bytes)? {
            let piece = self.table.get(&at).filter(|a| a.device == d && a.kind.is_mapped())?;
            bases.push(at);
            at += piece.bytes;
        }
        (at == addr + bytes).then_some(bases)
    }

    fn reservation(&self, addr: u64) -> Option<(u64, &Reservation)> {
        let (&base, found) = self.reservations.range(..=addr).next_back()?;
        (addr - base < found.bytes).then_some((base, found))
    }

    /// Frees the allocation that starts at `base`.
    ///
    /// # Safety
    ///
    /// The caller must ensure that nothing uses the memory any more.
    pub(super) unsafe fn free(&mut self, base: u64) -> Option<Allocation> {
        let mut allocation = self.table.remove(&base)?;
        let heap = match allocation.kind {
            Kind::Device | Kind::Segment(_) => Some(self.heaps.device(allocation.device)),
            Kind::Managed(_) => Some(self.heaps.managed()),
            Kind::Pinned => Some(self.heaps.pinned()),
            // The pages are dropped with `home`.
            Kind::Mapped(_) | Kind::Alias(_) => None,
        };
        let home = std::mem::replace(&mut allocation.home, Home::Slot(0));
        if let Some(heap) = heap {
            // SAFETY: `base` and `home` came from one `allocate` call; the caller ensures that nothing uses the memory.
            unsafe { heap.free(&mut self.addresses, base, home) };
        }
        if let Kind::Managed(range) = allocation.kind {
            self.ranges.remove(&range);
        }
        self.aliases.remove(base);
        self.live.count(allocation.kind, -1, allocation.bytes);
        self.remember_freed(base, allocation.bytes);
        Some(allocation)
    }

    fn remember_freed(&mut self, base: u64, bytes: u64) {
        self.freed.push_back((base, bytes));
        if self.freed.len() > REMEMBERED {
            self.freed.pop_front();
        }
    }

    /// Returns all allocations, in the order of their addresses.
    pub(super) fn allocations(&self) -> impl Iterator<Item = &Allocation> {
        self.table.values()
    }

    /// Returns the allocation that starts at `base`.
    pub(super) fn at(&self, base: u64) -> Option<&Allocation> {
        self.table.get(&base)
    }

    /// Finds the allocation that holds `bytes` bytes at `addr`. A segment of a pool counts as one allocation.
    pub(super) fn find(&self, addr: u64, bytes: u64) -> Result<Place, Bad> {
        if let Some((&base, found)) = self.table.range(..=addr).next_back() {
            let offset = addr - base;
            // The one-past-the-end address is outside the allocation, except for an empty range.
            if offset < found.bytes || (offset == found.bytes && bytes == 0) {
                let (have, serial) = match found.kind {
                    kind if kind.is_mapped() => self.run(base, addr.saturating_add(bytes)),
                    _ => (found.bytes, found.serial),
                };
                if bytes > have - offset {
                    return Err(Bad::Crosses { base, bytes: have });
                }
                let Allocation { device, kind, .. } = *found;
                return Ok(Place { serial, device, kind, base, bytes: have, offset });
            }
        }
        let was = self.freed.iter().rev().find(|(base, bytes)| (*base..base + bytes).contains(&addr));
        Err(match (was, self.reservation(addr)) {
            (Some(&(base, bytes)), _) => Bad::Freed { base, bytes },
            (None, Some(_)) => Bad::Unmapped,
            (None, None) => Bad::Unknown,
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

    /// Reports whether `bytes` bytes at `addr` still belong to the allocation, or to the pieces, of `place`.
    pub(super) fn still(&self, addr: u64, bytes: u64, place: &Place) -> bool {
        match (self.find(addr, bytes), place.kind) {
            // The range may begin in another piece than `place`.
            // A piece that was mapped later has a higher serial number.
            (Ok(now), kind) if kind.is_mapped() => now.kind == place.kind && now.serial <= place.serial,
            (Ok(now), _) => now.serial == place.serial,
            (Err(_), _) => false,
        }
    }

    pub(super) fn serial_of(&self, range: RangeId) -> u64 {
        self.ranges.get(&range).map_or(0, |(serial, _)| *serial)
    }

    pub(super) fn base_of(&self, range: RangeId) -> u64 {
        self.ranges.get(&range).map_or(0, |(_, base)| *base)
    }
}
