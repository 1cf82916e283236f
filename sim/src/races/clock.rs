//! [`Clock`]: the steps that are known to have happened, as the last known step of each actor.
#![forbid(unsafe_code)]

/// The host, or a stream. All host threads are one actor: their calls count as ordered by arrival, because the
/// simulator cannot see how threads synchronize with each other.
pub(super) type Actor = u32;

pub(super) const HOST: Actor = 0;

/// A vector clock.
#[derive(Debug, Clone, Default)]
pub(super) struct Clock(Vec<u64>);

impl Clock {
    /// Returns the last step of `actor` that is known.
    pub(super) fn of(&self, actor: Actor) -> u64 {
        self.0.get(actor as usize).copied().unwrap_or(0)
    }

    /// Makes the next step of `actor`, and returns its number.
    pub(super) fn step(&mut self, actor: Actor) -> u64 {
        let index = actor as usize;
        if self.0.len() <= index {
            self.0.resize(index + 1, 0);
        }
        self.0[index] += 1;
        self.0[index]
    }

    /// Adds all steps that `other` knows.
    pub(super) fn join(&mut self, other: &Self) {
        if self.0.len() < other.0.len() {
            self.0.resize(other.0.len(), 0);
        }
        self.0.iter_mut().zip(&other.0).for_each(|(mine, theirs)| *mine = (*mine).max(*theirs));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_joined_clock_has_the_maximum_of_both() {
        let (mut a, mut b) = (Clock::default(), Clock::default());
        assert_eq!((a.step(1), a.step(1), b.step(3)), (1, 2, 1));
        b.join(&a);
        assert_eq!([0, 1, 2, 3].map(|actor| b.of(actor)), [0, 2, 0, 1]);
        a.join(&b);
        assert_eq!(a.of(3), 1);
        assert_eq!(a.of(99), 0);
    }
}
