//! [`Aliases`]: second mappings of memory, and where its bytes are.
//!
//! The bytes lie at the home addresses, where the memory was mapped first. Before an operation, the bytes that it uses
//! at an alias are copied there. After the operation, the bytes at the alias are copied back to the home addresses.
//! Operations run one at a time, so work in stream order sees the same bytes at both addresses.

use super::{Allocation, Home, Kind, Memory};
use crate::bytes;
use smallvec::SmallVec;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// The aliases of mapped pieces.
#[derive(Debug, Default)]
pub(super) struct Aliases {
    /// Bytes and home address of each alias, by the alias's first address.
    pieces: BTreeMap<u64, (u64, u64)>,
    /// Home address and alias address of each alias.
    homes: BTreeSet<(u64, u64)>,
}

impl Aliases {
    fn add(&mut self, at: u64, bytes: u64, home: u64) {
        self.pieces.insert(at, (bytes, home));
        self.homes.insert((home, at));
    }

    pub(super) fn remove(&mut self, at: u64) {
        if let Some((_, home)) = self.pieces.remove(&at) {
            self.homes.remove(&(home, at));
        }
    }

    /// Returns one of the aliases of the piece at `home`.
    fn of(&self, home: u64) -> Option<u64> {
        self.homes.range((home, 0)..=(home, u64::MAX)).next().map(|(_, at)| *at)
    }

    /// Returns the parts of a range that lie in aliases, each with its home addresses.
    fn parts(&self, range: Range<u64>) -> impl Iterator<Item = (Range<u64>, Range<u64>)> {
        let before = self.pieces.range(..range.start).next_back();
        before.into_iter().chain(self.pieces.range(range.clone())).filter_map(move |(&at, &(bytes, home))| {
            let part = at.max(range.start)..(at + bytes).min(range.end);
            let offset = part.start - at;
            (!part.is_empty()).then(|| (part.clone(), home + offset..home + offset + (part.end - part.start)))
        })
    }
}

impl Memory {
    /// Reports whether a whole piece of device `d` that is no alias begins at `addr` and has `bytes` bytes.
    pub(crate) fn is_piece(&self, d: u32, addr: u64, bytes: u64) -> bool {
        let found = self.table.get(&addr);
        found.is_some_and(|a| a.device == d && a.bytes == bytes && matches!(a.kind, Kind::Mapped(_)))
    }

    /// Maps pieces for which [`is_piece`](Self::is_piece) holds, given by address and bytes, a second time.
    /// The aliases lie end to end from `addr` on, in a range for which [`can_map`](Self::can_map) holds.
    /// Returns false, and maps nothing, if the operating system refuses one of them.
    pub(crate) fn map_again(&mut self, addr: u64, pieces: &[(u64, u64)]) -> bool {
        let mut at = addr;
        for &(home, bytes) in pieces {
            if !self.alias(at, bytes, home) {
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

    fn alias(&mut self, at: u64, bytes: u64, home: u64) -> bool {
        let Some((reservation, &super::Reservation { device, .. })) = self.reservation(at) else { return false };
        // SAFETY: nothing is mapped there, and the reservation outlives its pieces, as in `map`.
        let Some(pages) = (unsafe { self.addresses.open(at, bytes) }) else { return false };
        let (kind, pages) = (Kind::Alias(reservation), Home::Own(pages));
        self.enter(at, Allocation { serial: 0, device, kind, bytes, counted: 0, home: pages });
        self.aliases.add(at, bytes, home);
        true
    }

    /// Returns an alias of the piece at `home`, if there is one.
    pub(crate) fn alias_of(&self, home: u64) -> Option<u64> {
        self.aliases.of(home)
    }

    /// Returns the home addresses of the parts of a range that lie in aliases.
    pub(crate) fn homes(&self, range: &Range<u64>) -> SmallVec<[Range<u64>; 2]> {
        self.aliases.parts(range.clone()).map(|(_, home)| home).collect()
    }

    /// Copies bytes from their home addresses to the aliases in the range of an operation that is about to begin.
    ///
    /// # Safety
    ///
    /// The caller must ensure that nothing else uses the range, or the same bytes at other addresses.
    pub(crate) unsafe fn fetch(&self, addr: u64, bytes: u64) {
        for (at, home) in self.aliases.parts(addr..addr.saturating_add(bytes)) {
            // SAFETY: both ranges are allocated; the caller ensures that nothing else uses them.
            unsafe { bytes::copy(at.start, home.start, (at.end - at.start) as usize) };
        }
    }

    /// Copies bytes from the aliases in the range of an operation that has ended to their home addresses.
    ///
    /// # Safety
    ///
    /// As for [`fetch`](Self::fetch).
    pub(crate) unsafe fn bring_home(&self, addr: u64, bytes: u64) {
        for (at, home) in self.aliases.parts(addr..addr.saturating_add(bytes)) {
            // SAFETY: both ranges are allocated; the caller ensures that nothing else uses them.
            unsafe { bytes::copy(home.start, at.start, (at.end - at.start) as usize) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_cut_at_the_pieces() {
        let mut aliases = Aliases::default();
        aliases.add(1000, 100, 50);
        aliases.add(1100, 200, 10_000);
        let parts = |range| Vec::from_iter(aliases.parts(range));
        assert_eq!(parts(1090..1150), [(1090..1100, 140..150), (1100..1150, 10_000..10_050)]);
        assert_eq!(parts(900..2000), [(1000..1100, 50..150), (1100..1300, 10_000..10_200)]);
        assert_eq!(parts(1200..1201), [(1200..1201, 10_100..10_101)]);
        assert_eq!([0..1000, 1300..2000, 1050..1050].map(parts), [const { Vec::new() }; 3]);
    }

    #[test]
    fn a_piece_has_an_alias_until_the_last_is_gone() {
        let mut aliases = Aliases::default();
        for at in [1000, 2000] {
            aliases.add(at, 100, 50);
        }
        aliases.remove(1000);
        assert_eq!((aliases.of(50), aliases.of(49)), (Some(2000), None));
        aliases.remove(2000);
        assert_eq!(aliases.of(50), None);
    }
}
