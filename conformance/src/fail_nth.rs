//! [`FailNth`]: an adaptor whose calls fail on demand.

use crate::rng::Rng;
use cumem::error::{CudaErrorCode, TrimError};
use cumem::layer::Beneath;
use cumem::layer::fmt_stack;
use cumem::{AllocError, Block, DeallocError, DriverError, Layer, LayerExt, MemoryResource, Stream, Upstream};
use std::alloc::Layout;
use std::any::Any;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// An adaptor that passes every call on, except for the calls that its [faults](Self::faults) make fail.
///
/// An allocation that fails does not reach the upstream. A deallocation that fails returns the block.
///
/// ```
/// use cumem::sim::Profile;
/// use cumem::{layout, Device, ManagedResource, MemoryResource, Stream};
/// use cumem_conformance::FailNth;
///
/// let device = Device::simulated(Profile::default())?;
/// let stream = Stream::new(&device)?;
/// let resource = FailNth::new(ManagedResource::new(&device)?);
/// resource.faults().fail_allocation(1);
/// assert!(resource.allocate(&stream, layout::bytes(64)?).unwrap_err().is_out_of_memory());
/// let block = resource.allocate(&stream, layout::bytes(64)?)?; // only the first one fails
/// # // SAFETY: no work uses the block, and nothing refers to its memory.
/// # unsafe { resource.deallocate(&stream, block) }?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct FailNth<U> {
    faults: Faults,
    upstream: U,
}

/// The calls of a [`FailNth`] that fail. Clones share their state.
///
/// ```
/// use cumem::sim::Profile;
/// use cumem::{layout, Device, ManagedResource, MemoryResource, Stream};
/// use cumem_conformance::FailNth;
///
/// let device = Device::simulated(Profile::default())?;
/// let stream = Stream::new(&device)?;
/// let resource = FailNth::new(ManagedResource::new(&device)?);
/// let faults = resource.faults();
/// faults.fail_allocations_from(1);
/// for _ in 0..3 {
///     resource.allocate(&stream, layout::bytes(64)?).unwrap_err();
/// }
/// assert_eq!((faults.calls(), faults.fired()), ((3, 0), 3));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct Faults(Arc<Mutex<Plan>>);

#[derive(Debug, Default)]
struct Plan {
    allocations: Trigger,
    deallocations: Trigger,
}

/// Counts the calls down to the next one that fails.
#[derive(Debug, Default)]
struct Trigger {
    /// Calls up to and including the next one that fails; 0 if no call fails.
    remaining: u64,
    then: Then,
    calls: u64,
    fired: u64,
}

/// The calls that fail after the first failed call.
#[derive(Debug, Default)]
enum Then {
    #[default]
    Nothing,
    All,
    /// One call in this many, at random.
    OneIn(u64, Rng),
}

impl Then {
    /// Returns the number of calls up to the next one that fails.
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

    /// Counts a call, and reports whether it fails.
    fn fires(&mut self) -> bool {
        self.calls += 1;
        let fires = self.remaining == 1;
        self.remaining = if fires { self.then.next() } else { self.remaining.saturating_sub(1) };
        self.fired += u64::from(fires);
        fires
    }
}

impl<U: Upstream> FailNth<U> {
    /// Creates the adaptor. No call fails yet.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{CudaResource, Device, MemoryResource, Stream, layout};
    /// # use cumem_conformance::FailNth;
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// let resource = FailNth::new(CudaResource::new(&device));
    /// let block = resource.allocate(&stream, layout::bytes(64)?)?; // no call fails yet
    /// # // SAFETY: no work uses the block.
    /// # unsafe { resource.deallocate(&stream, block) }?;
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn new(upstream: U) -> Self {
        Self { faults: Faults::default(), upstream }
    }

    /// Returns the faults. `find::<Faults>()` returns them from any stack.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{CudaResource, Device, LayerExt};
    /// # use cumem_conformance::{FailNth, Faults};
    /// # let device = Device::simulated(Profile::default())?;
    /// let resource = FailNth::new(CudaResource::new(&device));
    /// resource.faults().fail_allocation(1);
    /// let found = resource.find::<Faults>().expect("the stack has this layer"); // the same faults
    /// assert_eq!(found.calls(), (0, 0));
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn faults(&self) -> Faults {
        self.faults.clone()
    }

    /// Returns the upstream.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{CudaResource, Device, LayerExt};
    /// # use cumem_conformance::FailNth;
    /// # let device = Device::simulated(Profile::default())?;
    /// let resource = FailNth::new(CudaResource::new(&device));
    /// assert_eq!(resource.upstream().device(), &device);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn upstream(&self) -> &U {
        &self.upstream
    }
}

impl Faults {
    /// Makes the `n`-th allocation from now on fail, counted from 1; 0 disarms. Resets the counters of allocations.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{CudaResource, Device, MemoryResource, Stream, layout};
    /// # use cumem_conformance::FailNth;
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// let resource = FailNth::new(CudaResource::new(&device));
    /// resource.faults().fail_allocation(2);
    /// let block = resource.allocate(&stream, layout::bytes(64)?)?;
    /// assert!(resource.allocate(&stream, layout::bytes(64)?).unwrap_err().is_out_of_memory());
    /// # // SAFETY: no work uses the block.
    /// # unsafe { resource.deallocate(&stream, block) }?;
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn fail_allocation(&self, n: u64) {
        self.plan().allocations.arm(n, Then::Nothing);
    }

    /// Makes the `n`-th allocation from now on and all later ones fail. Resets the counters of allocations.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{CudaResource, Device, MemoryResource, Stream, layout};
    /// # use cumem_conformance::FailNth;
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// let resource = FailNth::new(CudaResource::new(&device));
    /// resource.faults().fail_allocations_from(1);
    /// for _ in 0..5 {
    ///     assert!(resource.allocate(&stream, layout::bytes(64)?).is_err());
    /// }
    /// resource.faults().disarm();
    /// let block = resource.allocate(&stream, layout::bytes(64)?)?;
    /// # // SAFETY: no work uses the block.
    /// # unsafe { resource.deallocate(&stream, block) }?;
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn fail_allocations_from(&self, n: u64) {
        self.plan().allocations.arm(n, Then::All);
    }

    /// Makes one allocation in `n` fail from now on, at random. The same `seed` makes the same calls fail.
    /// Resets the counters of allocations.
    ///
    /// # Panics
    ///
    /// Panics if `n` is 0.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{CudaResource, Device, MemoryResource, Stream, layout};
    /// # use cumem_conformance::FailNth;
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// let resource = FailNth::new(CudaResource::new(&device));
    /// resource.faults().fail_one_allocation_in(4, 1);
    /// for _ in 0..100 {
    ///     if let Ok(block) = resource.allocate(&stream, layout::bytes(64)?) {
    ///         // SAFETY: no work uses the block.
    ///         unsafe { resource.deallocate(&stream, block) }?;
    ///     }
    /// }
    /// assert!((10..50).contains(&resource.faults().fired()));
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn fail_one_allocation_in(&self, n: u64, seed: u64) {
        assert!(n > 0, "one in none");
        let mut then = Then::OneIn(n, Rng::new(seed));
        self.plan().allocations.arm(then.next(), then);
    }

    /// Makes the `n`-th deallocation from now on fail and return its block, counted from 1; 0 disarms.
    /// Resets the counters of deallocations.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{CudaResource, Device, MemoryResource, Stream, layout};
    /// # use cumem_conformance::FailNth;
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// let resource = FailNth::new(CudaResource::new(&device));
    /// let block = resource.allocate(&stream, layout::bytes(64)?)?;
    /// resource.faults().fail_deallocation(1);
    /// // SAFETY: no work uses the block.
    /// let error = unsafe { resource.deallocate(&stream, block) }.unwrap_err();
    /// let block = error.block; // the failed call returns the block, so that no memory is lost
    /// # // SAFETY: no work uses the block.
    /// # unsafe { resource.deallocate(&stream, block) }?;
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn fail_deallocation(&self, n: u64) {
        self.plan().deallocations.arm(n, Then::Nothing);
    }

    /// Makes no call fail any more. Resets all counters.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{CudaResource, Device, MemoryResource, Stream, layout};
    /// # use cumem_conformance::FailNth;
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// let resource = FailNth::new(CudaResource::new(&device));
    /// resource.faults().fail_allocation(1);
    /// resource.faults().disarm();
    /// let block = resource.allocate(&stream, layout::bytes(64)?)?;
    /// # // SAFETY: no work uses the block.
    /// # unsafe { resource.deallocate(&stream, block) }?;
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn disarm(&self) {
        *self.plan() = Plan::default();
    }

    /// Returns the numbers of allocations and deallocations since each was armed.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{CudaResource, Device, MemoryResource, Stream, layout};
    /// # use cumem_conformance::FailNth;
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// let resource = FailNth::new(CudaResource::new(&device));
    /// let block = resource.allocate(&stream, layout::bytes(64)?)?;
    /// assert_eq!(resource.faults().calls(), (1, 0));
    /// # // SAFETY: no work uses the block.
    /// # unsafe { resource.deallocate(&stream, block) }?;
    /// assert_eq!(resource.faults().calls(), (1, 1)); // the block was freed
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn calls(&self) -> (u64, u64) {
        let plan = self.plan();
        (plan.allocations.calls, plan.deallocations.calls)
    }

    /// Returns how many calls of both kinds were made to fail since each was armed.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{CudaResource, Device, MemoryResource, Stream, layout};
    /// # use cumem_conformance::FailNth;
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// let resource = FailNth::new(CudaResource::new(&device));
    /// resource.faults().fail_allocation(1);
    /// assert!(resource.allocate(&stream, layout::bytes(64)?).is_err());
    /// assert_eq!(resource.faults().fired(), 1);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
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

// SAFETY: every block is the upstream's and is passed on unchanged.
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
            return Err(DeallocError::new(block, error));
        }
        // SAFETY: the block is the upstream's, and the caller upholds the contract of this method, which is the
        // upstream's.
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
