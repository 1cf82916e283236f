//! [`FailNth`]: an adaptor whose calls fail when told to.

use crate::rng::Rng;
use cumem::layer::fmt_stack;
use cumem::{
    AllocError, Beneath, Block, CudaErrorCode, DeallocError, DeallocReason, DriverError, Layer, LayerExt,
    MemoryResource, Stream, TrimError, Upstream,
};
use std::alloc::Layout;
use std::any::Any;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Passes everything on until its [faults](Self::faults) say otherwise.
///
/// An allocation that fails does not reach the upstream; a deallocation that fails returns the block.
#[derive(Debug)]
pub struct FailNth<U> {
    faults: Faults,
    upstream: U,
}

/// Which calls of a [`FailNth`] fail. Clones are the same faults.
#[derive(Debug, Clone, Default)]
pub struct Faults(Arc<Mutex<Plan>>);

#[derive(Debug, Default)]
struct Plan {
    allocations: Trigger,
    deallocations: Trigger,
}

/// Counts calls down to the next that fails.
#[derive(Debug, Default)]
struct Trigger {
    /// Calls until the next that fails, that one included; 0 when disarmed.
    remaining: u64,
    then: Then,
    calls: u64,
    fired: u64,
}

/// What fails after a first call did.
#[derive(Debug, Default)]
enum Then {
    #[default]
    Nothing,
    All,
    /// One in so many, at random.
    OneIn(u64, Rng),
}

impl Then {
    /// Calls until the next that fails.
    fn next(&mut self) -> u64 {
        match self {
            Self::Nothing => 0,
            Self::All => 1,
            // Uniform in 1..=2n - 1, so n on average.
            Self::OneIn(n, rng) => 1 + rng.below(2 * *n as usize - 1) as u64,
        }
    }
}

impl Trigger {
    fn arm(&mut self, first: u64, then: Then) {
        *self = Self { remaining: first, then, ..Self::default() };
    }

    /// Counts a call, and says whether it fails.
    fn fires(&mut self) -> bool {
        self.calls += 1;
        let fires = self.remaining == 1;
        self.remaining = if fires { self.then.next() } else { self.remaining.saturating_sub(1) };
        self.fired += u64::from(fires);
        fires
    }
}

impl<U: Upstream> FailNth<U> {
    /// Nothing fails yet.
    pub fn new(upstream: U) -> Self {
        Self { faults: Faults::default(), upstream }
    }

    /// Its faults. `find::<Faults>()` reaches them through a stack.
    pub fn faults(&self) -> Faults {
        self.faults.clone()
    }

    /// What it draws from.
    pub fn upstream(&self) -> &U {
        &self.upstream
    }
}

impl Faults {
    /// The `n`-th allocation from now on fails, counted from 1; 0 disarms. Counters start anew.
    pub fn fail_allocation(&self, n: u64) {
        self.plan().allocations.arm(n, Then::Nothing);
    }

    /// The `n`-th allocation from now on and all after it fail.
    pub fn fail_allocations_from(&self, n: u64) {
        self.plan().allocations.arm(n, Then::All);
    }

    /// One allocation in `n` fails from now on, at random but always at the same calls for the same `seed`.
    ///
    /// # Panics
    ///
    /// If `n` is 0.
    pub fn fail_one_allocation_in(&self, n: u64, seed: u64) {
        assert!(n > 0, "one in none");
        let mut then = Then::OneIn(n, Rng::new(seed));
        self.plan().allocations.arm(then.next(), then);
    }

    /// The `n`-th deallocation from now on fails and returns the block, counted from 1; 0 disarms.
    pub fn fail_deallocation(&self, n: u64) {
        self.plan().deallocations.arm(n, Then::Nothing);
    }

    /// Nothing fails any more.
    pub fn disarm(&self) {
        *self.plan() = Plan::default();
    }

    /// Allocations, and deallocations, since they were armed.
    pub fn calls(&self) -> (u64, u64) {
        let plan = self.plan();
        (plan.allocations.calls, plan.deallocations.calls)
    }

    /// How many of both were made to fail since they were armed.
    pub fn fired(&self) -> u64 {
        let plan = self.plan();
        plan.allocations.fired + plan.deallocations.fired
    }

    fn plan(&self) -> MutexGuard<'_, Plan> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<U: Upstream> Layer for FailNth<U> {
    fn describe(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("fail_nth")
    }

    fn beneath(&self) -> Beneath<'_> {
        Beneath::Layer(&self.upstream)
    }

    fn state(&self) -> &dyn Any {
        &self.faults
    }
    fn trim_layer(&self, _keep: usize) -> Result<usize, TrimError> {
        Ok(0)
    }
}

// SAFETY: every block is the upstream's, handed on unchanged.
unsafe impl<U: Upstream> MemoryResource for FailNth<U> {
    type Kind = U::Kind;

    fn allocate(&self, stream: &Stream, layout: Layout) -> Result<Block, AllocError> {
        if self.faults.plan().allocations.fires() {
            let (layer, requested, device) = ("fail_nth", layout.size(), self.device().id());
            return Err(AllocError::OutOfMemory { layer, requested, free: 0, total: 0, device });
        }
        self.upstream.allocate(stream, layout)
    }

    unsafe fn deallocate(&self, stream: &Stream, block: Block) -> Result<(), DeallocError> {
        if self.faults.plan().deallocations.fires() {
            let device = self.device().id();
            let error = DriverError::Call { call: "fail_nth", device, code: CudaErrorCode::UNKNOWN };
            return Err(DeallocError::new(block, DeallocReason::Driver(error)));
        }
        // SAFETY: the block is the upstream's, so this method's contract is the upstream's.
        unsafe { self.upstream.deallocate(stream, block) }
    }
}

impl<U: Upstream> Upstream for FailNth<U> {}

impl<U: Upstream> fmt::Display for FailNth<U> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt_stack(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(trigger: &mut Trigger, calls: usize) -> String {
        (0..calls).map(|_| if trigger.fires() { 'x' } else { '.' }).collect()
    }

    #[test]
    fn triggers() {
        let mut trigger = Trigger::default();
        assert_eq!(pattern(&mut trigger, 3), "...");
        trigger.arm(2, Then::Nothing);
        assert_eq!(pattern(&mut trigger, 4), ".x..");
        assert_eq!((trigger.calls, trigger.fired), (4, 1));
        trigger.arm(2, Then::All);
        assert_eq!(pattern(&mut trigger, 4), ".xxx");
        trigger.arm(1, Then::OneIn(5, Rng::new(1)));
        let random = pattern(&mut trigger, 1000);
        assert!((150..250).contains(&trigger.fired), "{random}");
        trigger.arm(1, Then::OneIn(5, Rng::new(1)));
        assert_eq!(pattern(&mut trigger, 1000), random);
    }
}
