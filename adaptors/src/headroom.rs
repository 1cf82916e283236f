//! [`Headroom`]: an exact count under a ceiling, where threads rarely wait for each other.
//!
//! The ceiling is a limit, or a peak. The headroom is the ceiling minus what is allocated. An allocation takes headroom,
//! and a free returns it. Both are exact if the sum over all threads is right, so the headroom is divided into *shards*.
//! Each thread has a shard on its own cache lines, behind a lock that is nearly free for its thread. The outstanding
//! amount, which frees take from, is divided in the same way. A free of more than all that is outstanding is therefore
//! found, too.
//!
//! If a thread's shard has too little, the thread does these steps:
//!
//! 1. The thread moves a share of the common *rest* into its shard, unless the rest was exhausted before.
//! 2. If that is not enough, it moves half of what some other shards have. Memory that one thread allocates and another
//!    one frees therefore costs such a visit only occasionally.
//! 3. If that is not enough, it locks all shards and the rest, and collects all amounts in the rest. Only now is it
//!    certain that all headroom together is too little: a limit refuses the request, and a peak rises by exactly what is
//!    missing. To visit the shards one after the other would not be enough, because headroom can return to a shard that
//!    was visited already.
//!
//! After step 3 the shards keep nothing, and each step is done on the rest, under one more lock. There a shortage is
//! detected at once. A program that grows, or that is refused again and again, stays in this state. After as many
//! steps without a shortage as there are shards in use, the shards keep amounts again.
//!
//! The locks are ordered: the shards by number, then the rest. No code of a user runs under them.

mod balance;
mod exhausted;
mod refill;
mod rest;
mod shard;
mod shards;
mod sync;

#[cfg(all(loom, test))]
mod interleavings;
#[cfg(all(test, not(loom)))]
mod tests;

pub(crate) use balance::{Amounts, Side};
pub(crate) use rest::{Shortage, Totals};

use exhausted::Exhausted;
use rest::Rest;
use shard::{Place, Step};
use shards::Shards;
use std::fmt;
use sync::{Lock, ThisThread};

/// See the [module](self). `D` is the number of dimensions, for example 2 for bytes and blocks. A request must fit in
/// all of them. `T` is summed per shard.
pub(crate) struct Headroom<const D: usize, T = ()> {
    shards: Shards<D, T>,
    exhausted: Exhausted,
    rest: Lock<Rest<D>>,
}

impl<const D: usize, T: Default> Headroom<D, T> {
    pub(crate) fn new(ceiling: Amounts<D>, shortage: Shortage) -> Self {
        Self { shards: Shards::new(), exhausted: Exhausted::new(), rest: Lock::new(Rest::new(ceiling, shortage)) }
    }
}

impl<const D: usize, T> Headroom<D, T> {
    /// Returns the calling thread's way to its shard.
    #[inline]
    pub(crate) fn mine(&self) -> Mine<'_, D, T> {
        let thread = ThisThread::get();
        Mine { headroom: self, thread, place: self.shards.of(thread) }
    }

    /// Changes the tally of the calling thread's shard.
    pub(crate) fn tally(&self, change: impl FnOnce(&mut T)) {
        let Mine { thread, place, .. } = self.mine();
        let mut own = place.lock_as(thread);
        if !own.keeps() {
            let _rest = self.rest.lock();
            self.shards.mark_used(thread);
        }
        change(&mut own.tally);
    }

    /// Returns all amounts at one moment, and calls `each` with the tally of each shard at the same moment.
    pub(crate) fn read(&self, mut each: impl FnMut(&T)) -> Totals<D> {
        let all = self.lock_all();
        all.shards().for_each(|shard| each(&shard.tally));
        all.totals()
    }

    /// Returns the ceiling.
    pub(crate) fn ceiling(&self) -> Amounts<D> {
        self.rest.lock().ceiling()
    }

    /// Changes the ceiling. If more is allocated already, allocations fail until enough is freed.
    pub(crate) fn set_ceiling(&self, ceiling: Amounts<D>) {
        let mut all = self.lock_all();
        all.collect();
        all.rest.set_ceiling(ceiling);
    }

    /// Makes all of the ceiling headroom again. Only for a headroom that no amount is returned to.
    pub(crate) fn reset(&self) {
        let mut all = self.lock_all();
        all.collect();
        all.rest.reset();
    }
}

/// The calling thread's way to its shard, which is worth keeping between two steps.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mine<'a, const D: usize, T> {
    headroom: &'a Headroom<D, T>,
    thread: ThisThread,
    place: &'a Place<D, T>,
}

impl<const D: usize, T> Mine<'_, D, T> {
    /// Counts an allocation of `amounts`, and changes the tally of the calling thread's shard with it.
    ///
    /// # Errors
    ///
    /// Returns all amounts as of the moment of the refusal, if the ceiling is a limit and `amounts` do not fit.
    #[inline]
    pub(crate) fn allocate(self, amounts: Amounts<D>, tally: impl FnOnce(&mut T)) -> Result<(), Totals<D>> {
        self.apply(Step { amounts, from: Some(Side::Room), to: Some(Side::Out) }, tally)
    }

    /// Counts a free of `amounts`.
    ///
    /// # Errors
    ///
    /// Returns all amounts as of the moment of the refusal, if less than `amounts` is outstanding.
    #[inline]
    pub(crate) fn free(self, amounts: Amounts<D>) -> Result<(), Totals<D>> {
        self.apply(Step { amounts, from: Some(Side::Out), to: Some(Side::Room) }, |_| ())
    }

    /// Subtracts `amounts` from one side. What leaves the outstanding amount is still allocated until
    /// [`put`](Self::put) returns it to the headroom.
    ///
    /// # Errors
    ///
    /// As [`allocate`](Self::allocate) and [`free`](Self::free).
    #[inline]
    pub(crate) fn take(self, from: Side, amounts: Amounts<D>) -> Result<(), Totals<D>> {
        self.apply(Step { amounts, from: Some(from), to: None }, |_| ())
    }

    /// Adds `amounts` that [`take`](Self::take) subtracted to one side.
    #[inline]
    pub(crate) fn put(self, to: Side, amounts: Amounts<D>) {
        let put = self.apply(Step { amounts, from: None, to: Some(to) }, |_| ());
        debug_assert!(put.is_ok(), "a step that takes nothing has no shortage");
    }

    // Always, so that `step` is known to the compiler and nothing is passed through memory.
    #[inline(always)]
    fn apply(self, step: Step<D>, tally: impl FnOnce(&mut T)) -> Result<(), Totals<D>> {
        let mut own = self.place.lock_as(self.thread);
        if own.apply(&step) {
            tally(&mut own.tally);
            return Ok(());
        }
        self.headroom.refill(own, self.thread, step).map(|mut own| tally(&mut own.tally))
    }
}

impl<const D: usize, T> fmt::Debug for Headroom<D, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Headroom").field("totals", &self.read(|_| ())).finish()
    }
}
