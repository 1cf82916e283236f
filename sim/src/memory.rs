//! [`Memory`]: which addresses are allocated, as what.
//!
//! Memory that is mapped behind reserved addresses lies in pieces; those of one reservation that touch can be
//! used as one range.

mod aliases;

use super::addresses::Addresses;
use super::handles::Key;
use super::heap::{Heap, Home};
use super::live::LiveCount;
use super::uvm::{BLOCK, PAGE, RangeId};
use aliases::Aliases;
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
    /// Mapped behind reserved addresses, which begin here.
    Mapped(u64),
    /// The same for memory that is mapped elsewhere.
    Alias(u64),
}

impl Kind {
    /// Whether it is memory of a device that never moves.
    pub(super) fn is_plain(self) -> bool {
        matches!(self, Self::Device | Self::Segment(_)) || self.is_mapped()
    }

    /// Whether it lies behind reserved addresses.
    pub(super) fn is_mapped(self) -> bool {
        matches!(self, Self::Mapped(_) | Self::Alias(_))
    }
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

/// An address within an allocation, or within neighbouring pieces of one reservation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    /// Of the allocation; of the newest of several pieces.
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
    /// Reserved addresses that nothing is mapped behind.
    Unmapped,
}

/// Reserved addresses.
#[derive(Debug)]
pub(super) struct Reservation {
    device: u32,
    bytes: u64,
}

/// Addresses by what they are for.
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
    /// Serial number and first byte of the allocation that a range belongs to.
    ranges: BTreeMap<RangeId, (u64, u64)>,
    pub(super) live: LiveCount,
    /// After the table and the heaps, so that pages are dropped before the addresses that they lie at.
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

    /// Finds addresses for memory of device `d`; `kind` is called only if there are any.
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

    /// Writes an allocation down, under a new serial number.
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

    /// Gives back exactly the addresses of one reservation of device `d`, if nothing is mapped there.
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

    /// Whether all of a range is reserved, for device `d` in one piece, and nothing is mapped there.
    pub(super) fn can_map(&self, d: u32, addr: u64, bytes: u64) -> bool {
        let reserved = self.reservation(addr).is_some_and(|(base, r)| r.device == d && bytes <= base + r.bytes - addr);
        reserved && self.find(addr, 1).is_err() && self.table.range(addr..addr + bytes).next().is_none()
    }

    /// Puts memory behind a range for which that holds; its serial number.
    pub(super) fn map(&mut self, addr: u64, bytes: u64) -> Option<u64> {
        let (base, &Reservation { device, .. }) = self.reservation(addr)?;
        // SAFETY: nothing is mapped there, and a reservation outlives its pieces: see `unreserve` and the fields.
        let home = Home::Own(unsafe { self.addresses.open(addr, bytes) }?);
        let kind = Kind::Mapped(base);
        Some(self.enter(addr, Allocation { serial: 0, device, kind, bytes, counted: bytes, home }))
    }

    /// The pieces of device `d` that make up a range, if it is made of whole ones.
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

    /// Ends the allocation that starts at `base`.
    ///
    /// # Safety
    ///
    /// Nobody uses the memory any more.
    pub(super) unsafe fn free(&mut self, base: u64) -> Option<Allocation> {
        let mut allocation = self.table.remove(&base)?;
        let heap = match allocation.kind {
            Kind::Device | Kind::Segment(_) => Some(self.heaps.device(allocation.device)),
            Kind::Managed(_) => Some(self.heaps.managed()),
            Kind::Pinned => Some(self.heaps.pinned()),
            // Its pages go with its home.
            Kind::Mapped(_) | Kind::Alias(_) => None,
        };
        let home = std::mem::replace(&mut allocation.home, Home::Slot(0));
        if let Some(heap) = heap {
            // SAFETY: address and home were kept together, and the caller vouches for the rest.
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

    /// All allocations, by address.
    pub(super) fn allocations(&self) -> impl Iterator<Item = &Allocation> {
        self.table.values()
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

    /// Bytes of the pieces of one reservation that touch, from the one at `base` to where `end` is reached, and
    /// the newest of their serial numbers.
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

    /// Whether `bytes` bytes at an address found earlier still belong to the same allocation, or the same pieces.
    pub(super) fn still(&self, addr: u64, bytes: u64, place: &Place) -> bool {
        match (self.find(addr, bytes), place.kind) {
            // The range may begin in another piece than the place does; later pieces have higher numbers.
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
