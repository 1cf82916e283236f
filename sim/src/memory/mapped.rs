//! Reserved addresses, and the memory that is mapped behind them.
//!
//! Mapped memory consists of pieces. Adjacent pieces of one reservation can be used as one range.

use super::allocation::{Allocation, AllocationKind, Origin};
use super::table::{Reservation, SimulatedMemory};
use crate::bytes;
use crate::heap::AddressSource;
use crate::uvm::BLOCK;
use smallvec::SmallVec;
use std::ops::Range;

impl SimulatedMemory {
    /// Reserves addresses for memory of device `d`.
    pub(crate) fn reserve(&mut self, d: u32, bytes: u64) -> Option<u64> {
        let (base, _) = self.addresses.take(usize::try_from(bytes).ok()?, BLOCK as usize)?;
        self.reservations.insert(base, Reservation { device: d, bytes });
        self.live.count_reserved(1, bytes);
        Some(base)
    }

    /// Releases a reservation of device `d` if exactly this range was reserved and nothing is mapped there.
    /// Reports whether it did.
    pub(crate) fn unreserve(&mut self, d: u32, base: u64, bytes: u64) -> bool {
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
    pub(crate) fn can_map(&self, d: u32, addr: u64, bytes: u64) -> bool {
        let reserved = self.reservation(addr).is_some_and(|(base, r)| r.device == d && bytes <= base + r.bytes - addr);
        reserved && self.find(addr, 1).is_err() && self.table.range(addr..addr + bytes).next().is_none()
    }

    /// Maps memory behind a range for which [`can_map`](Self::can_map) holds, and returns its serial number.
    pub(crate) fn map(&mut self, addr: u64, bytes: u64) -> Option<u64> {
        let (base, &Reservation { device, .. }) = self.reservation(addr)?;
        // SAFETY: nothing is mapped there. The reservation outlives its pieces: `unreserve` refuses while a piece is
        // mapped, and `addresses` is the last field to be dropped.
        let source = AddressSource::Own(unsafe { self.addresses.open(addr, bytes) }?);
        let kind = AllocationKind::Mapped(base);
        Some(self.insert(
            addr,
            Allocation { serial: 0, device, kind, origin: Origin::Driver, bytes, counted: bytes, source },
        ))
    }

    /// Returns the addresses of the pieces of device `d` that make up a range,
    /// or `None` if it is not made of whole pieces.
    pub(crate) fn pieces(&self, d: u32, addr: u64, bytes: u64) -> Option<Vec<u64>> {
        let (mut at, mut bases) = (addr, Vec::new());
        while at < addr.checked_add(bytes)? {
            let piece = self.table.get(&at).filter(|a| a.device == d && a.kind.is_mapped())?;
            bases.push(at);
            at += piece.bytes;
        }
        (at == addr + bytes).then_some(bases)
    }

    /// Lets device `peer` access the piece at `addr`.
    pub(crate) fn open_to(&mut self, addr: u64, peer: u32) {
        let peers = self.peers.entry(addr).or_default();
        if !peers.contains(&peer) {
            peers.push(peer);
        }
    }

    /// Reports whether device `peer` can access all mapped pieces of a range.
    pub(crate) fn is_open_to(&self, range: &Range<u64>, peer: u32) -> bool {
        let first = self.table.range(..=range.start).next_back().map_or(range.start, |(&base, _)| base);
        self.table.range(first..range.end).all(|(base, _)| self.peers.get(base).is_some_and(|p| p.contains(&peer)))
    }

    /// Reports whether a whole piece of device `d` that is no alias begins at `addr` and has `bytes` bytes.
    pub(crate) fn is_piece(&self, d: u32, addr: u64, bytes: u64) -> bool {
        let found = self.table.get(&addr);
        found.is_some_and(|a| a.device == d && a.bytes == bytes && matches!(a.kind, AllocationKind::Mapped(_)))
    }

    /// Maps pieces for which [`is_piece`](Self::is_piece) holds, given by address and bytes, a second time.
    /// The aliases lie end to end from `addr` on, in a range for which [`can_map`](Self::can_map) holds.
    /// Returns false, and maps nothing, if the operating system refuses one of them.
    pub(crate) fn map_again(&mut self, addr: u64, pieces: &[(u64, u64)]) -> bool {
        let mut at = addr;
        for &(first, bytes) in pieces {
            if !self.alias(at, bytes, first) {
                while at > addr {
                    let (&last, _) = self.table.range(..at).next_back().expect("pieces were mapped up to here");
                    // SAFETY: the piece was mapped by this call, and nothing uses it yet.
                    unsafe { self.free(last) };
                    at = last;
                }
                return false;
            }
            at += bytes;
        }
        true
    }

    fn alias(&mut self, at: u64, bytes: u64, first: u64) -> bool {
        let Some((reservation, &Reservation { device, .. })) = self.reservation(at) else { return false };
        // SAFETY: nothing is mapped there, and the reservation outlives its pieces, as in `map`.
        let Some(pages) = (unsafe { self.addresses.open(at, bytes) }) else { return false };
        let (kind, source) = (AllocationKind::Alias(reservation), AddressSource::Own(pages));
        self.insert(at, Allocation { serial: 0, device, kind, origin: Origin::Driver, bytes, counted: 0, source });
        self.aliases.add(at, bytes, first);
        true
    }

    /// Returns an alias of the piece that was first mapped at `first`, if there is one.
    pub(crate) fn alias_of(&self, first: u64) -> Option<u64> {
        self.aliases.of(first)
    }

    /// Returns the first addresses of the parts of a range that lie in aliases.
    pub(crate) fn first_addresses(&self, range: &Range<u64>) -> SmallVec<[Range<u64>; 2]> {
        self.aliases.parts(range.clone()).map(|(_, first)| first).collect()
    }

    /// Copies bytes from their first addresses to the aliases in the range of an operation that is about to begin.
    ///
    /// # Safety
    ///
    /// The caller must ensure that nothing else uses the range, or the same bytes at other addresses.
    pub(crate) unsafe fn copy_to_aliases(&self, addr: u64, bytes: u64) {
        for (at, first) in self.aliases.parts(addr..addr.saturating_add(bytes)) {
            // SAFETY: both ranges are allocated; the caller ensures that nothing else uses them.
            unsafe { bytes::copy(at.start, first.start, (at.end - at.start) as usize) };
        }
    }

    /// Copies bytes from the aliases in the range of an operation that has ended to their first addresses.
    ///
    /// # Safety
    ///
    /// As for [`copy_to_aliases`](Self::copy_to_aliases).
    pub(crate) unsafe fn copy_from_aliases(&self, addr: u64, bytes: u64) {
        for (at, first) in self.aliases.parts(addr..addr.saturating_add(bytes)) {
            // SAFETY: both ranges are allocated; the caller ensures that nothing else uses them.
            unsafe { bytes::copy(first.start, at.start, (at.end - at.start) as usize) };
        }
    }
}
