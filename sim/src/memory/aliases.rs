//! [`Aliases`]: second mappings of memory, and where its bytes are.
//!
//! The bytes lie at the first addresses: those at which the memory was mapped first. Before an operation, the bytes
//! that it uses at an alias are copied there. After the operation, the bytes at the alias are copied back to the first
//! addresses. Operations run one at a time, so work in stream order sees the same bytes at both addresses.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// The aliases of mapped pieces.
#[derive(Debug, Default)]
pub(super) struct Aliases {
    /// Bytes and first address of each alias, by the alias's first address.
    pieces: BTreeMap<u64, (u64, u64)>,
    /// First address and alias address of each alias.
    by_first: BTreeSet<(u64, u64)>,
}

impl Aliases {
    pub(super) fn add(&mut self, at: u64, bytes: u64, first: u64) {
        self.pieces.insert(at, (bytes, first));
        self.by_first.insert((first, at));
    }

    pub(super) fn remove(&mut self, at: u64) {
        if let Some((_, first)) = self.pieces.remove(&at) {
            self.by_first.remove(&(first, at));
        }
    }

    /// Returns one of the aliases of the piece that was first mapped at `first`.
    pub(super) fn of(&self, first: u64) -> Option<u64> {
        self.by_first.range((first, 0)..=(first, u64::MAX)).next().map(|(_, at)| *at)
    }

    /// Returns the parts of a range that lie in aliases, each with its first addresses.
    pub(super) fn parts(&self, range: Range<u64>) -> impl Iterator<Item = (Range<u64>, Range<u64>)> {
        let before = self.pieces.range(..range.start).next_back();
        before.into_iter().chain(self.pieces.range(range.clone())).filter_map(move |(&at, &(bytes, first))| {
            let part = at.max(range.start)..(at + bytes).min(range.end);
            let offset = part.start - at;
            (!part.is_empty()).then(|| (part.clone(), first + offset..first + offset + (part.end - part.start)))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_split_at_the_borders_of_pieces() {
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
    fn a_piece_is_aliased_until_its_last_alias_is_removed() {
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
