//! The steps for which a shard has too little: from the rest, from other shards, and at one moment from everything.

use super::Headroom;
use super::rest::{Rest, Totals};
use super::shard::{Shard, Step};
use super::shards::{SHARDS, Shards};
use super::sync::{Guard, ThisThread};

/// The number of other shards that are tried before all are locked.
///
/// With sixteen threads and 64 blocks each, one of 50 pairs needs another shard, and one other shard is nearly always
/// enough. With 4, one of 5,000 pairs locked all shards, and the pairs of all threads took a third longer.
const SHARDS_TO_TRY: usize = 16;

type Own<'a, const D: usize, T> = Guard<'a, Shard<D, T>>;

impl<const D: usize, T> Headroom<D, T> {
    /// Does a step for which `own`, the shard of `thread`, has too little. Returns the locked shard.
    #[cold]
    #[inline(never)]
    pub(super) fn refill<'a>(
        &'a self,
        own: Own<'a, D, T>,
        thread: ThisThread,
        step: Step<D>,
    ) -> Result<Own<'a, D, T>, Totals<D>> {
        let (number, next) = (Shards::<D, T>::number(thread), own.next());
        if own.keeps() && step.from.is_some_and(|from| self.exhausted.get(from)) {
            drop(own);
        } else if let Attempt::Done(result) = self.on_rest(own, thread, &step) {
            return result;
        }
        // The own shard is unlocked now, because several shards are locked in the order of their numbers.
        let others = self.shards.used().starting_at(next).filter(|&other| other != number);
        for other in others.take(SHARDS_TO_TRY) {
            let [mut own, mut others] = self.shards.lock_both(number, other);
            own.draw_from_shard(&mut others, other, &step);
            if own.apply(&step) {
                return Ok(own);
            }
        }
        self.on_everything(number, &step)
    }

    fn on_rest<'a>(&'a self, mut own: Own<'a, D, T>, thread: ThisThread, step: &Step<D>) -> Attempt<'a, D, T> {
        let mut rest = self.rest.lock();
        self.shards.mark_used(thread);
        let shards = self.shards.used().len();
        if !rest.is_distributed() {
            let result = rest.apply(step);
            if rest.distribute(shards) {
                self.exhausted.clear();
                own.begin(&mut rest.balance, shards);
            }
            return Attempt::Done(result.map(|()| own));
        }
        if !own.keeps() {
            own.begin(&mut rest.balance, shards);
        }
        own.draw_from_rest(&mut rest.balance, step, shards);
        if own.apply(step) {
            return Attempt::Done(Ok(own));
        }
        if let Some(from) = step.from {
            self.exhausted.set(from);
        }
        Attempt::TooLittle
    }

    /// Collects everything in the rest and does the step there. Only here, or where the shards are empty already, a
    /// shortage is certain.
    fn on_everything(&self, number: usize, step: &Step<D>) -> Result<Own<'_, D, T>, Totals<D>> {
        let mut all = self.lock_all();
        all.collect();
        all.rest.apply(step)?;
        Ok(all.shards[number].take().expect("the shard was marked as used"))
    }

    /// Locks all used shards and the rest.
    pub(super) fn lock_all(&self) -> Everything<'_, D, T> {
        loop {
            let used = self.shards.used();
            // Not in a `Vec`, because an allocator of the program may run code of the program.
            let mut shards = [const { None }; SHARDS];
            used.iter().for_each(|number| shards[number] = Some(self.shards.lock(number)));
            let rest = self.rest.lock();
            if self.shards.used() == used {
                return Everything { shards, rest };
            }
        }
    }
}

/// The result of a step on the rest.
enum Attempt<'a, const D: usize, T> {
    Done(Result<Own<'a, D, T>, Totals<D>>),
    TooLittle,
}

/// All used shards and the rest, locked.
pub(super) struct Everything<'a, const D: usize, T> {
    shards: [Option<Own<'a, D, T>>; SHARDS],
    pub(super) rest: Guard<'a, Rest<D>>,
}

impl<const D: usize, T> Everything<'_, D, T> {
    /// Moves everything into the rest.
    pub(super) fn collect(&mut self) {
        for shard in self.shards.iter_mut().flatten() {
            shard.end(&mut self.rest.balance);
        }
        self.rest.collected();
    }

    /// Iterates over the locked shards.
    pub(super) fn shards(&self) -> impl Iterator<Item = &Shard<D, T>> {
        self.shards.iter().flatten().map(|shard| &**shard)
    }

    pub(super) fn totals(&self) -> Totals<D> {
        let mut sum = self.rest.balance;
        self.shards().for_each(|shard| sum.draw_all(&mut shard.balance()));
        self.rest.totals(&sum)
    }
}
