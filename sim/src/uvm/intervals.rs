//! [`Intervals`]: a value for every page of a range, stored as segments.

use std::ops::Range;

/// A total map from `0..end` to values. Adjacent pages with equal values share a segment.
#[derive(Debug)]
pub(super) struct Intervals<T> {
    /// First page and value of each segment, ascending. The first segment starts at page 0.
    segments: Vec<(u64, T)>,
    end: u64,
}

impl<T: Copy + Eq> Intervals<T> {
    pub(super) fn new(end: u64, value: T) -> Self {
        Self { segments: vec![(0, value)], end }
    }

    /// Returns the segment that holds page `at`, and its value.
    pub(super) fn at(&self, at: u64) -> (Range<u64>, T) {
        let i = self.segments.partition_point(|(start, _)| *start <= at) - 1;
        let end = self.segments.get(i + 1).map_or(self.end, |(start, _)| *start);
        (self.segments[i].0..end, self.segments[i].1)
    }

    /// Returns the value that all pages share, or `None` if there are several segments.
    pub(super) fn uniform(&self) -> Option<T> {
        match self.segments[..] {
            [(_, value)] => Some(value),
            _ => None,
        }
    }

    /// Returns the segments that overlap `pages`, clipped to `pages`.
    pub(super) fn over(&self, pages: Range<u64>) -> impl Iterator<Item = (Range<u64>, T)> {
        let mut at = pages.start;
        std::iter::from_fn(move || {
            if at >= pages.end {
                return None;
            }
            let (segment, value) = self.at(at);
            let clipped = at..segment.end.min(pages.end);
            at = clipped.end;
            Some((clipped, value))
        })
    }

    /// Changes the values of `pages`. Segments are split at the bounds of `pages`.
    pub(super) fn update(&mut self, pages: Range<u64>, mut change: impl FnMut(T) -> T) {
        if pages.is_empty() {
            return;
        }
        self.split(pages.start);
        self.split(pages.end);
        for (start, value) in &mut self.segments {
            if pages.contains(start) {
                *value = change(*value);
            }
        }
        self.segments.dedup_by(|later, earlier| later.1 == earlier.1);
    }

    fn split(&mut self, at: u64) {
        if at >= self.end {
            return;
        }
        let i = self.segments.partition_point(|(start, _)| *start < at);
        if self.segments.get(i).is_none_or(|(start, _)| *start != at) {
            let value = self.segments[i - 1].1;
            self.segments.insert(i, (at, value));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_update_splits_ranges_and_equal_neighbours_merge() {
        let mut map = Intervals::new(100, 0);
        map.update(10..20, |_| 1);
        map.update(15..30, |v| v + 1);
        let all: Vec<_> = map.over(0..100).collect();
        assert_eq!(all, [(0..10, 0), (10..15, 1), (15..20, 2), (20..30, 1), (30..100, 0)]);
        map.update(0..100, |_| 7);
        assert_eq!(map.over(3..8).collect::<Vec<_>>(), [(3..8, 7)]);
        assert_eq!(map.segments.len(), 1);
    }
}
