//! The counters, all behind one lock: exact at any moment, for one atomic exchange per call.

use super::counts::Counts;
use super::scope::{Scope, Scopes};
use crate::lock::BiasedLock;

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
    counts: BiasedLock<Counts>,
    scopes: Scopes,
}

impl StatisticsState {
    pub(super) fn new() -> Self {
        Self { counts: BiasedLock::new(Counts::default()), scopes: Scopes::new() }
    }

    /// Returns all counts, read at one moment.
    pub fn counts(&self) -> Counts {
        *self.counts.lock()
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

    #[inline]
    pub(super) fn allocated(&self, bytes: usize) {
        let bytes = bytes as i64;
        self.counts.lock().allocated(bytes);
        self.scopes.each(|counts| counts.allocated(bytes));
    }

    /// Counts a free. If the block cannot be one of those counted, returns the bytes that are allocated instead.
    #[inline]
    pub(super) fn freed(&self, bytes: usize) -> Result<(), usize> {
        let bytes = bytes as i64;
        {
            let mut counts = self.counts.lock();
            if bytes > counts.current_bytes || counts.current_blocks < 1 {
                return Err(counts.current_bytes as usize);
            }
            counts.freed(bytes, 1);
        }
        self.scopes.each(|counts| counts.freed(bytes, 1));
        Ok(())
    }

    /// Undoes a counted free.
    #[cold]
    pub(super) fn not_freed(&self, bytes: usize) {
        let bytes = bytes as i64;
        self.counts.lock().freed(-bytes, -1);
        self.scopes.each(|counts| counts.freed(-bytes, -1));
    }

    #[cold]
    pub(super) fn failed(&self) {
        self.counts.lock().failures += 1;
        self.scopes.each(|counts| counts.failures += 1);
    }
}
