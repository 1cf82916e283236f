//! [`Tags`]: the names of ranges of memory.
#![forbid(unsafe_code)]

use smallvec::SmallVec;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

/// The tags of each byte. If several tags overlap, the latest counts. For example, a block within a chunk has its own
/// name. Memory that was allocated again has its new name, even if the old tag has not been dropped yet.
#[derive(Debug, Default)]
pub(super) struct Tags {
    next: u64,
    tags: BTreeMap<u64, Tagged>,
    /// Pieces of memory whose bytes have the same tags, by the address of the first byte. No piece is empty, and no two
    /// overlap.
    pieces: BTreeMap<u64, Piece>,
}

#[derive(Debug)]
pub(super) struct Tagged {
    pub(super) bytes: Range<u64>,
    pub(super) name: Arc<str>,
    /// The index of the memory in the pattern that is being recorded.
    pub(super) memory: Option<usize>,
}

#[derive(Debug)]
struct Piece {
    end: u64,
    /// The tags of the piece, the latest last.
    ids: SmallVec<[u64; 2]>,
}

impl Tags {
    /// Adds a tag, and returns its id for [`remove`](Self::remove).
    pub(super) fn add(&mut self, tagged: Tagged) -> u64 {
        let (id, Range { start, end }) = (self.next, tagged.bytes.clone());
        self.next += 1;
        self.split(start);
        self.split(end);
        let (mut at, mut bare) = (start, Vec::new());
        for (&first, piece) in self.pieces.range_mut(start..end) {
            bare.push(at..first);
            piece.ids.push(id);
            at = piece.end;
        }
        bare.push(at..end);
        let bare = bare.into_iter().filter(|bytes| !bytes.is_empty());
        self.pieces.extend(bare.map(|bytes| (bytes.start, Piece { end: bytes.end, ids: [id].into_iter().collect() })));
        self.tags.insert(id, tagged);
        id
    }

    pub(super) fn remove(&mut self, id: u64) {
        let Some(Tagged { bytes: Range { start, end }, .. }) = self.tags.remove(&id) else { return };
        self.pieces.range_mut(start..end).for_each(|(_, piece)| piece.ids.retain(|other| *other != id));
        // Merge neighbouring pieces that now have the same tags, also with the pieces before and after the range.
        let firsts: Vec<u64> = self.pieces.range(start..=end).map(|(first, _)| *first).collect();
        for first in firsts {
            let Some(piece) = self.pieces.remove(&first).filter(|piece| !piece.ids.is_empty()) else { continue };
            match self.pieces.range_mut(..first).next_back() {
                Some((_, before)) if before.end == first && before.ids == piece.ids => before.end = piece.end,
                _ => _ = self.pieces.insert(first, piece),
            }
        }
    }

    /// Returns the tag that counts for a byte.
    pub(super) fn at(&self, addr: u64) -> Option<&Tagged> {
        self.run(addr..addr.saturating_add(1)).0
    }

    /// Returns the tag that counts for the first of these bytes that has one.
    pub(super) fn within(&self, bytes: Range<u64>) -> Option<&Tagged> {
        let after = || self.pieces.range(bytes.clone()).next().and_then(|(_, piece)| self.latest(piece));
        self.at(bytes.start).or_else(after)
    }

    /// Returns the tag that counts for the first of these bytes, and the end of the bytes for which it counts.
    pub(super) fn run(&self, bytes: Range<u64>) -> (Option<&Tagged>, u64) {
        match self.pieces.range(..=bytes.start).next_back().filter(|(_, piece)| bytes.start < piece.end) {
            Some((_, piece)) => (self.latest(piece), piece.end.min(bytes.end)),
            None => (None, self.pieces.range(bytes.clone()).next().map_or(bytes.end, |(first, _)| *first)),
        }
    }

    /// Clears the indices, because another pattern is recorded from now on.
    pub(super) fn clear_indices(&mut self) {
        self.tags.values_mut().for_each(|tagged| tagged.memory = None);
    }

    fn latest(&self, piece: &Piece) -> Option<&Tagged> {
        piece.ids.last().and_then(|id| self.tags.get(id))
    }

    /// Splits the piece that contains `at`, so that a piece starts there.
    fn split(&mut self, at: u64) {
        if let Some((_, piece)) = self.pieces.range_mut(..at).next_back()
            && at < piece.end
        {
            let rest = Piece { end: std::mem::replace(&mut piece.end, at), ids: piece.ids.clone() };
            self.pieces.insert(at, rest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn tagged(bytes: Range<u64>) -> Tagged {
        Tagged { bytes, name: "".into(), memory: None }
    }

    fn at(tags: &Tags, addr: u64) -> Option<Range<u64>> {
        tags.at(addr).map(|tagged| tagged.bytes.clone())
    }

    #[test]
    fn a_tag_counts_again_after_the_tag_above_it_ends() {
        let mut tags = Tags::default();
        let chunk = tags.add(tagged(100..200));
        let blocks = [tags.add(tagged(100..120)), tags.add(tagged(150..160))];
        assert_eq!([at(&tags, 100), at(&tags, 120), at(&tags, 159)], [Some(100..120), Some(100..200), Some(150..160)]);
        blocks.into_iter().for_each(|block| tags.remove(block));
        assert_eq!((at(&tags, 100), at(&tags, 199), tags.pieces.len()), (Some(100..200), Some(100..200), 1));
        let again = tags.add(tagged(100..200));
        tags.remove(chunk);
        assert_eq!((at(&tags, 100), at(&tags, 200)), (Some(100..200), None));
        tags.remove(again);
        assert!(tags.pieces.is_empty() && tags.tags.is_empty());
    }

    proptest! {
        #[test]
        fn as_a_list_of_all_tags(steps in prop::collection::vec((0..40_u64, 0..15_u64, any::<bool>()), 1..60)) {
            let (mut tags, mut list) = (Tags::default(), Vec::new());
            for (start, bytes, add) in steps {
                match add {
                    true => list.push((tags.add(tagged(start..start + bytes)), start..start + bytes)),
                    false if list.is_empty() => {}
                    false => tags.remove(list.remove(start as usize % list.len()).0),
                }
                let expected = |addr| list.iter().rev().find(|(_, bytes)| bytes.contains(&addr)).map(|(_, b)| b.clone());
                for addr in 0..60 {
                    prop_assert_eq!(at(&tags, addr), expected(addr));
                    let (first, until) = tags.run(addr..60);
                    prop_assert!(addr < until && until <= 60);
                    prop_assert!((addr..until).all(|other| expected(other) == first.map(|tagged| tagged.bytes.clone())));
                    let within = tags.within(addr..60).map(|tagged| tagged.bytes.clone());
                    prop_assert_eq!(within, (addr..60).find_map(expected));
                }
            }
        }
    }
}
