//! [`Untouched`]: memory that no stream has been given since its chunk was allocated. Unified (managed) memory occupies
//! no pages there.

use super::fence::Fences;
use std::collections::BTreeMap;
use std::ops::Range;

/// The untouched upper parts of chunks, by the address where they begin. A part shrinks only from below.
#[derive(Debug, Default)]
pub(super) struct Untouched {
    parts: BTreeMap<u64, Part>,
    units: u64,
}

#[derive(Debug)]
struct Part {
    end: u64,
    fences: Fences,
}

impl Untouched {
    pub(super) fn units(&self) -> u64 {
        self.units
    }

    /// Iterates over the parts and their fences.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Range<u64>, &Fences)> {
        self.parts.iter().map(|(&start, part)| (start..part.end, &part.fences))
    }

    /// Adds a new chunk.
    pub(super) fn insert(&mut self, units: Range<u64>, fences: Fences) {
        self.units += units.end - units.start;
        self.parts.insert(units.start, Part { end: units.end, fences });
    }

    /// Removes the first `units` of the part at `start`, and returns its fences.
    pub(super) fn take(&mut self, start: u64, units: u64) -> Option<Fences> {
        let part = self.parts.remove(&start)?;
        self.units -= units;
        let from = start + units;
        if from < part.end {
            self.parts.insert(from, Part { end: part.end, fences: part.fences.clone() });
        }
        Some(part.fences)
    }

    pub(super) fn starts_at(&self, addr: u64) -> bool {
        self.parts.contains_key(&addr)
    }

    /// Returns the part of the chunk that lies at `start..end`, and its fences.
    pub(super) fn part_within(&self, start: u64, end: u64) -> Option<(Range<u64>, Fences)> {
        let (&from, part) = self.parts.range(start..end).next_back()?;
        Some((from..part.end, part.fences.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn untouched_parts_shrink_from_their_start_until_they_are_empty() {
        let mut untouched = Untouched::default();
        untouched.insert(100..200, Fences::default());
        untouched.insert(200..230, Fences::default());
        assert!(untouched.take(110, 1).is_none() && untouched.take(100, 60).is_some());
        let parts = |untouched: &Untouched| {
            let parts = untouched.iter().map(|(part, _)| (part.start, part.end));
            (parts.collect::<Vec<_>>(), untouched.units())
        };
        assert_eq!(parts(&untouched), (vec![(160, 200), (200, 230)], 70));
        let of = |untouched: &Untouched, start, end| untouched.part_within(start, end).map(|(part, _)| part);
        assert_eq!(of(&untouched, 100, 200), Some(160..200));
        assert_eq!((of(&untouched, 200, 230), of(&untouched, 0, 100)), (Some(200..230), None));
        assert!(untouched.take(160, 40).is_some());
        assert_eq!((parts(&untouched), of(&untouched, 100, 200)), ((vec![(200, 230)], 30), None));
    }
}
