//! [`Predictor`]: predicts the next ranges of a buffer that the device uses.
#![forbid(unsafe_code)]

use smallvec::SmallVec;
use std::collections::VecDeque;
use std::ops::Range;

/// The number of uses that are remembered. A longer sequence of uses is not recognized when it repeats.
const REMEMBERED: usize = 256;

/// The latest uses of a buffer. `None` stands for a use by the host.
#[derive(Debug, Default)]
pub(super) struct Predictor {
    uses: VecDeque<Option<Range<usize>>>,
}

impl Predictor {
    pub(super) fn observe(&mut self, bytes: Range<usize>) {
        self.push(Some(bytes));
    }

    /// Records a use by the host. Several in a row count as one.
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

    /// Predicts up to `count` next ranges (and at most [`REMEMBERED`]) of a buffer of `size` bytes.
    ///
    /// If the last two uses occurred in this order before, the prediction is the uses that followed them then.
    /// Otherwise, if the last uses were equally far apart, the prediction continues with that distance. The prediction
    /// ends before the next use by the host.
    pub(super) fn next(&self, count: usize, size: usize) -> SmallVec<[Range<usize>; 4]> {
        let count = count.min(REMEMBERED);
        match self.period() {
            Some(period) => {
                let start = self.uses.len() - period;
                (0..count).map_while(|i| self.uses[start + i % period].clone()).collect()
            }
            None => self.in_line(count, size),
        }
    }

    /// Returns how many uses ago the last two uses occurred in the same order.
    fn period(&self) -> Option<usize> {
        let n = self.uses.len();
        let (last, before) = (self.uses.back()?, self.uses.get(n.checked_sub(2)?)?);
        (1..n - 1).find(|ago| self.uses[n - 1 - ago] == *last && self.uses[n - 2 - ago] == *before)
    }

    fn in_line(&self, count: usize, size: usize) -> SmallVec<[Range<usize>; 4]> {
        let (Some(Some(last)), Some(line)) = (self.uses.back(), self.line()) else { return SmallVec::new() };
        let within = |start: &usize| *start < size;
        let mut at = last.start;
        let next = || {
            let jump = |by: isize| at.checked_add_signed(by).filter(within);
            // At the end of the buffer, jump as the earlier line jumped.
            at = jump(line.stride).or_else(|| line.jump.and_then(jump))?;
            Some(at..size.min(at + last.len()))
        };
        std::iter::from_fn(next).take(count).collect()
    }

    /// Returns the line of uses at equal distances that the last use belongs to. Two uses are a line if their ranges
    /// touch; otherwise it takes three. After a jump, a line of at least three uses is assumed to continue with its
    /// stride.
    fn line(&self) -> Option<Line> {
        let length = self.uses.back()?.as_ref()?.len();
        let steps: SmallVec<[isize; 4]> = self.steps().take(4).collect();
        let jumped = |jump: isize| (jump != 0).then_some(jump);
        match steps[..] {
            [step, ..] if step.unsigned_abs() == length => Some(Line { stride: step, jump: self.jump(step) }),
            [step, before, ..] if step == before && step != 0 => Some(Line { stride: step, jump: self.jump(step) }),
            [stride, jump, a, b] if stride == a && a == b => Some(Line { stride, jump: jumped(jump) }),
            [jump, a, b, ..] if a == b && a != 0 => Some(Line { stride: a, jump: jumped(jump) }),
            _ => None,
        }
    }

    /// Returns the jump from the line before, if that line had the same stride.
    fn jump(&self, stride: isize) -> Option<isize> {
        let mut before = self.steps().skip_while(|step| *step == stride);
        let jump = before.next().filter(|jump| *jump != 0)?;
        (before.next() == Some(stride) && before.next() == Some(stride)).then_some(jump)
    }

    /// Returns the distance of each use from the use before it, the latest first, as far as the uses are by the device
    /// and of equal length.
    fn steps(&self) -> impl Iterator<Item = isize> {
        let uses = || self.uses.iter().rev().map_while(Option::as_ref);
        let pairs = uses().zip(uses().skip(1)).take_while(|(later, earlier)| later.len() == earlier.len());
        pairs.map(|(later, earlier)| later.start as isize - earlier.start as isize)
    }
}

/// Uses at equal distances, and the jump from the end of one line to the start of the next.
struct Line {
    stride: isize,
    jump: Option<isize>,
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
    fn a_linear_access_is_predicted_up_to_the_end() {
        assert_eq!(after(&[(0, 100)], 2), []);
        assert_eq!(after(&[(0, 100), (100, 100)], 2), [(200, 100), (300, 100)]);
        assert_eq!(after(&[(700, 100), (800, 100)], 4), [(900, 100)]);
        assert_eq!(after(&[(0, 300), (300, 300), (600, 300)], 4), [(900, 100)], "the last is shorter");
        assert_eq!(after(&[(300, 100), (200, 100)], 4), [(100, 100), (0, 100)], "downwards");
    }

    #[test]
    fn phases_are_predicted_as_far_as_they_are_recorded() {
        let uses = [(0, 1), (7, 1), (0, 1), (7, 1)];
        assert_eq!(after(&uses, usize::MAX).len(), REMEMBERED);
    }

    #[test]
    fn strides_are_predicted_after_the_third_use() {
        assert_eq!(after(&[(0, 10), (250, 10)], 2), []);
        assert_eq!(after(&[(0, 10), (250, 10), (500, 10)], 2), [(750, 10)]);
        assert_eq!(after(&[(0, 30), (10, 30), (20, 30)], 2), [(30, 30), (40, 30)], "ranges that overlap");
    }

    #[test]
    fn a_linear_access_that_jumps_is_predicted_from_its_new_start() {
        let line = |first: usize| (first * 10..1000).step_by(250).map(|start| (start, 10)).collect::<Vec<_>>();
        let mut uses = line(0);
        assert_eq!(after(&uses, 2), [], "the range after the end is not known yet");
        uses.extend(&line(1)[..1]);
        assert_eq!(after(&uses, 2), [(260, 10), (510, 10)]);
        uses.extend(&line(1)[1..2]);
        assert_eq!(after(&uses, 4), [(510, 10), (760, 10), (20, 10), (270, 10)]);
        uses.extend(&line(1)[2..]);
        assert_eq!(after(&uses, 3), [(20, 10), (270, 10), (520, 10)]);
        uses.push((500, 20));
        assert_eq!(after(&uses, 3), [], "of another length");
        assert_eq!(after(&[(0, 10), (100, 10), (500, 10)], 1), [], "two are no line that could jump");
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
    fn a_host_access_ends_a_phase() {
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
    fn uses_without_a_pattern_are_not_predicted() {
        assert_eq!(after(&[(500, 10), (0, 10), (320, 10), (70, 10), (410, 10)], 4), []);
        assert_eq!(after(&[(5, 10), (5, 10)], 4), [], "nothing new can come of it");
        assert_eq!(after(&[], 4), []);
    }
}
