//! [`Shard`]: the part of one thread.

use super::balance::{Amounts, Balance, Side};
use super::sync::{Guard, Lock, ThisThread};

/// One operation on a [`Balance`]: `amounts` leave one side and enter another.
#[derive(Debug, Clone, Copy)]
pub(super) struct Step<const D: usize> {
    pub(super) amounts: Amounts<D>,
    pub(super) from: Option<Side>,
    pub(super) to: Option<Side>,
}

/// The state of one shard.
#[derive(Debug)]
pub(crate) struct Shard<const D: usize, T> {
    balance: Balance<D>,
    /// Whether the shard keeps amounts. While it does not, its balance is empty, and each step is done on the rest.
    keeps: bool,
    /// The shard that is tried first for a missing amount.
    next: usize,
    /// Sums of the owner of the headroom. They are not moved between shards.
    pub(crate) tally: T,
}

impl<const D: usize, T> Shard<D, T> {
    /// Does a step with the shard's own balance. Returns false, and changes nothing, if it is not enough.
    #[inline]
    pub(super) fn apply(&mut self, step: &Step<D>) -> bool {
        match step.from {
            // A shard that keeps nothing covers only a step of nothing.
            Some(from) if !self.balance.covers(from, &step.amounts) => return false,
            Some(from) => self.balance.subtract(from, &step.amounts),
            None if !self.keeps => return false,
            None => {}
        }
        if let Some(to) = step.to {
            self.balance.add(to, &step.amounts);
        }
        true
    }

    #[inline]
    pub(super) fn keeps(&self) -> bool {
        self.keeps
    }

    /// Returns a copy of the shard's balance.
    pub(super) fn balance(&self) -> Balance<D> {
        self.balance
    }

    pub(super) fn next(&self) -> usize {
        self.next
    }

    /// Begins to keep amounts, with one `divisor`-th of `rest`.
    pub(super) fn begin(&mut self, rest: &mut Balance<D>, divisor: u64) {
        self.keeps = true;
        self.balance.draw_share(rest, divisor);
    }

    /// Moves from `rest` what the step lacks, and at least one `divisor`-th.
    pub(super) fn draw_from_rest(&mut self, rest: &mut Balance<D>, step: &Step<D>, divisor: u64) {
        if let Some(from) = step.from {
            self.balance.draw(rest, from, &step.amounts, divisor);
        }
    }

    /// Moves from the shard `other` with the number `number` what the step lacks, and at least half.
    pub(super) fn draw_from_shard(&mut self, other: &mut Self, number: usize, step: &Step<D>) {
        if let (Some(from), true) = (step.from, other.keeps) {
            self.keeps = true;
            // Not the same shard again: threads that come back to the richest shard all meet there.
            self.next = number + 1;
            self.balance.draw(&mut other.balance, from, &step.amounts, 2);
        }
    }

    /// Moves everything to `rest`. From now on the shard keeps nothing.
    pub(super) fn end(&mut self, rest: &mut Balance<D>) {
        self.keeps = false;
        rest.draw_all(&mut self.balance);
    }
}

/// A shard behind its lock. Aligned to two cache lines, because some processors fetch lines in pairs.
#[derive(Debug)]
#[repr(align(128))]
pub(super) struct Place<const D: usize, T>(Lock<Shard<D, T>>);

impl<const D: usize, T: Default> Place<D, T> {
    /// Creates the shard with the number `number`.
    pub(super) fn new(number: usize) -> Self {
        Self(Lock::new(Shard { balance: Balance::EMPTY, keeps: false, next: number + 1, tally: T::default() }))
    }
}

impl<const D: usize, T> Place<D, T> {
    #[inline]
    pub(super) fn lock_as(&self, thread: ThisThread) -> Guard<'_, Shard<D, T>> {
        self.0.lock_as(thread)
    }
}
