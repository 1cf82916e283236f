//! The counters, exact at any moment. Each thread counts in its own shard ([`headroom`](crate::headroom)).

use super::counts::Counts;
use super::named::NamedScope;
use super::scope::{Scope, Scopes};
use crate::headroom::{Headroom, Shortage};
use crate::profile::{ProfileReport, ProfileRows};
use crate::unfreed::Unfreed;
use cumem::DeviceId;
use std::sync::Arc;

/// The counters of a [`Statistics`](super::Statistics). A block of zero bytes counts as a block.
///
/// # Examples
///
/// ```
/// use cumem::sim::Profile;
/// use cumem::{AnyResource, CudaResource, Device, LayerExt};
/// use cumem_adaptors::{ResourceExt, StatisticsState};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let device = Device::simulated(Profile::default())?;
/// let stack = AnyResource::new(CudaResource::new(&device).statistics());
/// assert_eq!(stack.find::<StatisticsState>().unwrap().counts().total_blocks, 0);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct StatisticsState {
    /// Bytes and blocks. The ceiling is the peak.
    counted: Headroom<2, Sums>,
    scopes: Scopes,
    profile: ProfileRows,
    device: DeviceId,
    /// False once the adaptor was removed. Its blocks are then the upstream's.
    reports: bool,
}

/// Totals, which never decrease.
#[derive(Debug, Default)]
struct Sums {
    bytes: u64,
    blocks: u64,
    failures: u64,
}

impl Drop for StatisticsState {
    fn drop(&mut self) {
        if self.reports {
            let [bytes, blocks] = self.counted.read(|_| ()).outstanding;
            Unfreed { device: self.device, blocks: Some(blocks), bytes }.report("statistics");
        }
    }
}

impl StatisticsState {
    pub(super) fn new(device: DeviceId) -> Self {
        let counted = Headroom::new([0, 0], Shortage::Raises);
        Self { counted, scopes: Scopes::new(), profile: ProfileRows::default(), device, reports: true }
    }

    /// Makes the drop report nothing, because the blocks are the upstream's from now on.
    pub(super) fn removed(&mut self) {
        self.reports = false;
    }

    /// Returns all counts, read at one moment. All threads that use these statistics wait for that moment.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Buffer, CudaResource, Device, Stream};
    /// # use cumem_adaptors::{ResourceExt};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// let stack = CudaResource::new(&device).statistics();
    /// drop(Buffer::<u8, _>::zeroed(4096, &stream, &stack)?);
    /// let counts = stack.state().counts();
    /// assert_eq!((counts.current_bytes, counts.peak_bytes, counts.total_blocks), (0, 4096, 1));
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        let totals = self.counted.read(|sums| {
            counts.total_bytes += sums.bytes;
            counts.total_blocks += sums.blocks;
            counts.failures += sums.failures;
        });
        [counts.current_bytes, counts.current_blocks] = totals.outstanding.map(|amount| amount as i64);
        [counts.peak_bytes, counts.peak_blocks] = totals.ceiling.map(|amount| amount as i64);
        counts
    }

    /// Begins a scope that counts the calls of all threads from now on, until it is dropped.
    /// Scopes may nest and overlap in any order.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem::sim::Profile;
    /// use cumem::{Buffer, CudaResource, Device, Stream};
    /// use cumem_adaptors::ResourceExt;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let device = Device::simulated(Profile::default())?;
    /// let stream = Stream::new(&device)?;
    /// let memory = CudaResource::new(&device).statistics();
    /// let _before = Buffer::<u8, _>::zeroed(1000, &stream, &memory)?;
    /// let scope = memory.state().scope();
    /// let _within = Buffer::<u8, _>::zeroed(24, &stream, &memory)?;
    /// assert_eq!(scope.end().total_bytes, 24);
    /// # Ok(())
    /// # }
    /// ```
    pub fn scope(&self) -> Scope<'_> {
        self.scopes.begin(None)
    }

    /// Begins a scope that counts the calls of the calling thread from now on, until it is dropped.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem::sim::Profile;
    /// use cumem::{Buffer, CudaResource, Device, Stream};
    /// use cumem_adaptors::ResourceExt;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let device = Device::simulated(Profile::default())?;
    /// let stream = Stream::new(&device)?;
    /// let memory = CudaResource::new(&device).statistics();
    /// let scope = memory.state().thread_scope();
    /// std::thread::scope(|threads| {
    ///     threads.spawn(|| Buffer::<u8, _>::zeroed(1000, &stream, &memory).map(drop));
    /// });
    /// assert_eq!(scope.end().total_blocks, 0); // the allocation was another thread's
    /// # Ok(())
    /// # }
    /// ```
    pub fn thread_scope(&self) -> Scope<'_> {
        self.scopes.begin(Some(std::thread::current().id()))
    }

    /// Begins a scope that counts the calls of the calling thread until it is dropped. The counts are then added to the
    /// [profile](Self::profile) under `name`. Scopes may nest: an outer scope counts the calls of an inner one, too.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem::sim::Profile;
    /// use cumem::{Buffer, CudaResource, Device, Stream};
    /// use cumem_adaptors::ResourceExt;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let device = Device::simulated(Profile::default())?;
    /// let stream = Stream::new(&device)?;
    /// let memory = CudaResource::new(&device).statistics();
    /// let weights = {
    ///     let _scope = memory.state().named_scope("load");
    ///     Buffer::<u8, _>::zeroed(4096, &stream, &memory)?
    /// };
    /// assert_eq!(memory.state().profile().rows[0].peak_bytes, 4096);
    /// # drop(weights);
    /// # Ok(())
    /// # }
    /// ```
    pub fn named_scope(&self, name: impl Into<Arc<str>>) -> NamedScope<'_> {
        NamedScope { scope: self.thread_scope(), name: name.into(), rows: &self.profile }
    }

    /// Returns the figures of all [named scopes](Self::named_scope) that have ended, by name. The peak of a name is that
    /// of the scope with the largest one.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{CudaResource, Device};
    /// # use cumem_adaptors::ResourceExt;
    /// # let device = Device::simulated(Profile::default())?;
    /// let memory = CudaResource::new(&device).statistics();
    /// drop(memory.state().named_scope("load"));
    /// println!("{}", memory.state().profile());
    /// assert_eq!(memory.state().profile().rows.len(), 1);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn profile(&self) -> ProfileReport {
        self.profile.report()
    }

    /// Removes all figures from the [profile](Self::profile).
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{CudaResource, Device};
    /// # use cumem_adaptors::ResourceExt;
    /// # let device = Device::simulated(Profile::default())?;
    /// let memory = CudaResource::new(&device).statistics();
    /// drop(memory.state().named_scope("load"));
    /// memory.state().clear_profile();
    /// assert!(memory.state().profile().rows.is_empty());
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn clear_profile(&self) {
        self.profile.clear();
    }

    #[inline]
    pub(super) fn allocated(&self, bytes: usize) {
        // A peak rises and refuses nothing.
        let _ = self.counted.mine().allocate([bytes as u64, 1], |sums| {
            sums.bytes += bytes as u64;
            sums.blocks += 1;
        });
        self.scopes.each(|counts| counts.allocated(bytes as i64));
    }

    /// Counts a free. If the block cannot be one of those counted, returns the bytes that are allocated instead.
    #[inline]
    pub(super) fn freed(&self, bytes: usize) -> Result<(), usize> {
        self.counted.mine().free([bytes as u64, 1]).map_err(|totals| totals.outstanding[0] as usize)?;
        self.scopes.each(|counts| counts.freed(bytes as i64, 1));
        Ok(())
    }

    /// Undoes a counted free.
    #[cold]
    pub(super) fn not_freed(&self, bytes: usize) {
        // A peak rises and refuses nothing.
        let _ = self.counted.mine().allocate([bytes as u64, 1], |_| ());
        self.scopes.each(|counts| counts.freed(-(bytes as i64), -1));
    }

    #[cold]
    pub(super) fn failed(&self) {
        self.counted.tally(|sums| sums.failures += 1);
        self.scopes.each(|counts| counts.failures += 1);
    }
}
