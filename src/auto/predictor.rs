//! [`Predictor`]: which range comes next.
#![forbid(unsafe_code)]

use smallvec::SmallVec;
use std::collections::VecDeque;
use std::ops::Range;

/// Uses that are remembered: the longest phase whose repetition is seen.
const REMEMBERED: usize = 256;

/// The last uses of a buffer. `None` is the host's.
#[derive(Debug, Default)]
pub(super) struct Predictor {
    uses: VecDeque<Option<Range<usize>>>,
}

impl Predictor {
    pub(super) fn observe(&mut self, bytes: Range<usize>) {
        self.push(Some(bytes));
    }

    /// The host has had the buffer, however often in a row.
    pub(super) fn observe_host(&mut self) {
        if !matches!(self.uses.back(), Some(None)) {
            self.push(None);
        }
    }

    fn push(&mut self, bytes: Option<Range<usize>>) {
        if self.uses.len() == REMEMBERED {
            self.uses.pop_front();
        }
        self.uses.push_back(bytes);
    }

    /// The next `count` ranges, of a buffer of `size` bytes: what followed the last two uses when they came in this order
    /// before; else the next in line, where the last uses were equally far from each other. Nothing beyond the host's next turn.
    pub(super) fn next(&self, count: usize, size: usize) -> SmallVec<[Range<usize>; 4]> {
        match self.period() {
            Some(period) => {
                let start = self.uses.len() - period;
                (0..count).map_while(|i| self.uses[start + i % period].clone()).collect()
            }
            None => self.in_line(count, size),
        }
    }

    /// How many uses ago the last two came in this order before.
    fn period(&self) -> Option<usize> {
        let n = self.uses.len();
        let (last, before) = (self.uses.back()?, self.uses.get(n.checked_sub(2)?)?);
        (1..n - 1).find(|ago| self.uses[n - 1 - ago] == *last && self.uses[n - 2 - ago] == *before)
    }

    fn in_line(&self, count: usize, size: usize) -> SmallVec<[Range<usize>; 4]> {
        let mut back = self.uses.iter().rev();
        let (Some(Some(last)), Some(Some(before))) = (back.next(), back.next()) else { return SmallVec::new() };
        let stride = last.start as isize - before.start as isize;
        let alike = last.len() == before.len() && stride != 0;
        // Ranges that touch are in line at the second; others at the third.
        let touching = stride.unsigned_abs() == last.len();
        let third = back
            .next()
            .and_then(Option::as_ref)
            .is_some_and(|third| third.len() == before.len() && before.start as isize - third.start as isize == stride);
        if !alike || !(touching || third) {
            return SmallVec::new();
        }
        let starts = (1..=count as isize).map_while(|i| last.start.checked_add_signed(stride * i));
        starts.take_while(|start| *start < size).map(|start| start..size.min(start + last.len())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(uses: &[(usize, usize)], count: usize) -> Vec<(usize, usize)> {
        let mut predictor = Predictor::default();
        uses.iter().for_each(|&(start, len)| predictor.observe(start..start + len));
        predictor.next(count, 1000).into_iter().map(|range| (range.start, range.len())).collect()
    }

    #[test]
    fn lines_go_on_to_the_end() {
        assert_eq!(after(&[(0, 100)], 2), []);
        assert_eq!(after(&[(0, 100), (100, 100)], 2), [(200, 100), (300, 100)]);
        assert_eq!(after(&[(700, 100), (800, 100)], 4), [(900, 100)]);
        assert_eq!(after(&[(0, 300), (300, 300), (600, 300)], 4), [(900, 100)], "the last is shorter");
        assert_eq!(after(&[(300, 100), (200, 100)], 4), [(100, 100), (0, 100)], "downwards");
    }

    #[test]
    fn strides_are_seen_at_the_third() {
        assert_eq!(after(&[(0, 10), (250, 10)], 2), []);
        assert_eq!(after(&[(0, 10), (250, 10), (500, 10)], 2), [(750, 10)]);
        assert_eq!(after(&[(0, 30), (10, 30), (20, 30)], 2), [(30, 30), (40, 30)], "ranges that overlap");
    }

    #[test]
    fn phases_repeat() {
        let phase = [(500, 10), (0, 20), (300, 5), (70, 70)];
        let uses: Vec<_> = phase.iter().chain(&phase[..2]).copied().collect();
        assert_eq!(after(&uses, 3), [(300, 5), (70, 70), (500, 10)]);
        let sweep: Vec<_> = (0..10).map(|i| (i * 100, 100)).collect();
        let uses: Vec<_> = sweep.iter().chain(&sweep).copied().collect();
        assert_eq!(after(&uses, 2), [(0, 100), (100, 100)], "and start over");
    }

    #[test]
    fn the_hosts_turn_ends_a_phase() {
        let mut predictor = Predictor::default();
        for _ in 0..2 {
            predictor.observe_host();
            predictor.observe_host();
            [0..10, 50..60, 20..30].into_iter().for_each(|bytes| predictor.observe(bytes));
        }
        predictor.observe_host();
        predictor.observe(0..10);
        assert_eq!(predictor.next(4, 1000)[..], [50..60, 20..30]);
    }

    #[test]
    fn no_order_no_guess() {
        assert_eq!(after(&[(500, 10), (0, 10), (320, 10), (70, 10), (410, 10)], 4), []);
        assert_eq!(after(&[(5, 10), (5, 10)], 4), [], "nothing new can come of it");
        assert_eq!(after(&[], 4), []);
    }
}
