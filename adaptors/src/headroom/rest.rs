//! [`Rest`]: what no shard has, and the decision when all of it is too little.

use super::balance::{Amounts, Balance, Side};
use super::shard::Step;

/// What happens if all headroom together is less than a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shortage {
    /// The request is refused: the ceiling is a limit.
    Refuses,
    /// The ceiling rises by what is missing: the ceiling is a peak.
    Raises,
}

/// All amounts at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Totals<const D: usize> {
    /// The limit, or the peak.
    pub(crate) ceiling: Amounts<D>,
    /// What counts against the ceiling.
    pub(crate) allocated: Amounts<D>,
    /// What may be freed: `allocated` without the blocks that are being freed at the moment.
    pub(crate) outstanding: Amounts<D>,
}

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Rest<const D: usize> {
    pub(super) balance: Balance<D>,
    shortage: Shortage,
    ceiling: Amounts<D>,
    /// How much more is allocated than the ceiling. While it is not 0 there is no headroom, and frees reduce it first.
    debt: Amounts<D>,
    /// Whether shards may have amounts. While they have none, this balance is all there is.
    distributed: bool,
    /// Steps that were done on this balance since the last shortage.
    steps: u64,
}

impl<const D: usize> Rest<D> {
    pub(super) fn new(ceiling: Amounts<D>, shortage: Shortage) -> Self {
        let balance = Balance::of_room(ceiling);
        Self { balance, shortage, ceiling, debt: [0; D], distributed: false, steps: 0 }
    }

    pub(super) fn ceiling(&self) -> Amounts<D> {
        self.ceiling
    }

    pub(super) fn is_distributed(&self) -> bool {
        self.distributed
    }

    /// Does a step on this balance. The shards must be empty, so that this is the moment at which a shortage is certain.
    pub(super) fn apply(&mut self, step: &Step<D>) -> Result<(), Totals<D>> {
        if let Some(from) = step.from {
            if !self.balance.covers(from, &step.amounts) {
                self.steps = 0;
                match (from, self.shortage) {
                    (Side::Room, Shortage::Raises) => self.raise(&step.amounts),
                    _ => return Err(self.totals(&self.balance)),
                }
            }
            self.balance.subtract(from, &step.amounts);
        }
        match step.to {
            Some(Side::Room) => self.add_room(&step.amounts),
            Some(Side::Out) => self.balance.add(Side::Out, &step.amounts),
            None => {}
        }
        self.steps += 1;
        Ok(())
    }

    /// Lets `shards` shards keep amounts, if there was no shortage for as many steps. A debt has to be reduced first.
    pub(super) fn distribute(&mut self, shards: u64) -> bool {
        self.distributed |= self.debt == [0; D] && self.steps >= shards;
        self.distributed
    }

    /// Records that no shard has any amount.
    pub(super) fn collected(&mut self) {
        self.distributed = false;
        self.steps = 0;
    }

    /// Changes the ceiling. The shards must be empty.
    pub(super) fn set_ceiling(&mut self, ceiling: Amounts<D>) {
        let allocated = self.totals(&self.balance).allocated;
        self.ceiling = ceiling;
        for d in 0..D {
            self.balance.get_mut(Side::Room)[d] = ceiling[d].saturating_sub(allocated[d]);
            self.debt[d] = allocated[d].saturating_sub(ceiling[d]);
        }
    }

    /// Makes all of the ceiling headroom. The shards must be empty.
    pub(super) fn reset(&mut self) {
        self.balance = Balance::of_room(self.ceiling);
        self.debt = [0; D];
    }

    /// Returns all amounts, where `balance` is the sum of the rest's and the shards' balances.
    pub(super) fn totals(&self, balance: &Balance<D>) -> Totals<D> {
        let room = balance.get(Side::Room);
        let allocated = std::array::from_fn(|d| self.ceiling[d] - room[d] + self.debt[d]);
        Totals { ceiling: self.ceiling, allocated, outstanding: *balance.get(Side::Out) }
    }

    /// Raises the ceiling by what is missing to `amounts`.
    fn raise(&mut self, amounts: &Amounts<D>) {
        for ((room, ceiling), amount) in self.balance.get_mut(Side::Room).iter_mut().zip(&mut self.ceiling).zip(amounts)
        {
            let missing = amount.saturating_sub(*room);
            *ceiling += missing;
            *room += missing;
        }
    }

    /// Adds headroom. A debt is reduced first.
    fn add_room(&mut self, amounts: &Amounts<D>) {
        for ((room, debt), amount) in self.balance.get_mut(Side::Room).iter_mut().zip(&mut self.debt).zip(amounts) {
            let reduced = (*debt).min(*amount);
            *debt -= reduced;
            *room += amount - reduced;
        }
    }
}
