//! [`CudaAsyncOptions`]: the options of the leaves over stream-ordered pools of the driver.
#![forbid(unsafe_code)]

use cumem_driver::{PoolHandle, PoolReuse};

/// The options of a [`CudaAsyncResource`](crate::CudaAsyncResource), a
/// [`ManagedAsyncResource`](super::ManagedAsyncResource) or a [`PinnedAsyncResource`](super::PinnedAsyncResource): the pool
/// of the driver, and its attributes.
///
/// # Examples
///
/// ```
/// use cumem::resources::{CudaAsyncOptions, PoolSource};
/// use cumem::sim::Profile;
/// use cumem::{CudaAsyncResource, Device};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let device = Device::simulated(Profile::default())?;
/// let options = CudaAsyncOptions::new(PoolSource::Own).release_threshold(1 << 30);
/// assert_eq!((options.get_source(), options.get_release_threshold()), (PoolSource::Own, Some(1 << 30)));
/// let resource = CudaAsyncResource::with_options(&device, options)?;
/// assert_eq!(resource.release_threshold()?, 1 << 30);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CudaAsyncOptions {
    pub(super) source: PoolSource,
    pub(super) release_threshold: Option<u64>,
    pub(super) initial: usize,
    pub(super) maximum: usize,
    pub(super) handle: PoolHandle,
    /// Whether a way of reuse is switched, in the order of [`PoolReuse::ALL`].
    pub(super) reuse: [Option<bool>; 3],
}

/// The pool of the driver that a resource allocates from.
///
/// # Examples
///
/// ```
/// use cumem::resources::{CudaAsyncOptions, PoolSource};
/// use cumem::sim::Profile;
/// use cumem::{CudaAsyncResource, Device};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let device = Device::simulated(Profile::default())?;
/// let own = CudaAsyncResource::new(&device)?;
/// let shared = CudaAsyncResource::with_options(&device, CudaAsyncOptions::new(PoolSource::Default))?;
/// assert_eq!(own.release_threshold()?, u64::MAX); // keeps all its memory
/// assert_eq!(shared.release_threshold()?, 0); // the driver's default, left as it is
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PoolSource {
    /// A new pool, which is destroyed with the resource.
    Own,
    /// The device's default pool, which all libraries of the process share.
    Default,
    /// The device's current pool of device memory: the default pool, unless a program has set another one with
    /// `cuDeviceSetMemPool`. That program must not destroy the pool before the resource is dropped.
    Current,
}

impl CudaAsyncOptions {
    /// Creates options for this pool, without a release threshold.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::resources::{CudaAsyncOptions, PoolSource};
    /// let options = CudaAsyncOptions::new(PoolSource::Default);
    /// assert_eq!(options.get_release_threshold(), None);
    /// ```
    pub fn new(source: PoolSource) -> Self {
        let (release_threshold, initial, maximum, handle, reuse) = Default::default();
        Self { source, release_threshold, initial, maximum, handle, reuse }
    }

    /// Sets the bytes that the pool keeps at a synchronization instead of freeing them to the device.
    ///
    /// Without this option, the threshold of the device's default pool is left as it is, and an own pool keeps all its
    /// memory. The driver's default of 0 bytes would cost a stall at every synchronization (RMM #2379, #2510).
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::resources::{CudaAsyncOptions, PoolSource};
    /// let options = CudaAsyncOptions::new(PoolSource::Own).release_threshold(1 << 30);
    /// assert_eq!(options.get_release_threshold(), Some(1 << 30)); // keeps at most 1 GiB at a synchronization
    /// ```
    #[must_use]
    pub fn release_threshold(mut self, bytes: u64) -> Self {
        self.release_threshold = Some(bytes);
        self
    }

    /// Sets the bytes that the pool reserves when the resource is created. The first allocations then take memory that
    /// is there. The pool keeps the bytes if its release threshold is as large. Default 0.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem::resources::CudaAsyncOptions;
    /// use cumem::sim::Profile;
    /// use cumem::{CudaAsyncResource, Device};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let device = Device::simulated(Profile::default())?;
    /// let resource = CudaAsyncResource::with_options(&device, CudaAsyncOptions::default().initial_size(1 << 30))?;
    /// assert!(resource.usage()?.reserved >= 1 << 30);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn initial_size(mut self, bytes: usize) -> Self {
        self.initial = bytes;
        self
    }

    /// Sets the most bytes that a new pool reserves (CUDA 12.2). A request that needs more is out of memory. Default: the
    /// driver's. Pools of managed memory have no such limit; use a `Limiter`.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem::resources::CudaAsyncOptions;
    /// use cumem::sim::Profile;
    /// use cumem::{Buffer, CudaAsyncResource, Device, Stream};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let device = Device::simulated(Profile::default())?;
    /// let stream = Stream::new(&device)?;
    /// let resource = CudaAsyncResource::with_options(&device, CudaAsyncOptions::default().maximum_size(64 << 20))?;
    /// let error = Buffer::<u8, _>::zeroed(65 << 20, &stream, &resource).unwrap_err();
    /// assert!(error.is_out_of_memory());
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn maximum_size(mut self, bytes: usize) -> Self {
        self.maximum = bytes;
        self
    }

    /// Sets the form in which a new pool can be exported to other processes. The export itself is a call of the driver
    /// with the [pool's handle](crate::CudaAsyncResource::pool_handle). Default [`PoolHandle::None`].
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem::resources::{CudaAsyncOptions, PoolHandle};
    /// use cumem::sim::Profile;
    /// use cumem::{CudaAsyncResource, Device};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let device = Device::simulated(Profile::default())?;
    /// let exported = |handle| CudaAsyncResource::with_options(&device, CudaAsyncOptions::default().export(handle));
    /// assert!(exported(PoolHandle::PosixFd).is_ok());
    /// let error = exported(PoolHandle::Fabric).unwrap_err().to_string();
    /// assert!(error.ends_with("does not support the export of a pool in this form"));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn export(mut self, handle: PoolHandle) -> Self {
        self.handle = handle;
        self
    }

    /// Switches a way in which the pool reuses memory that was freed on another stream. Without this option an own pool
    /// has the driver's default, which is that all are on, and another pool is left as it is.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem::resources::{CudaAsyncOptions, PoolReuse};
    /// use cumem::sim::Profile;
    /// use cumem::{CudaAsyncResource, Device};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let device = Device::simulated(Profile::default())?;
    /// // No stream waits for another one only because both allocate.
    /// let options = CudaAsyncOptions::default().reuse(PoolReuse::InternalDependencies, false);
    /// let resource = CudaAsyncResource::with_options(&device, options)?;
    /// assert!(!resource.reuses(PoolReuse::InternalDependencies)?);
    /// assert!(resource.reuses(PoolReuse::Opportunistic)?);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn reuse(mut self, way: PoolReuse, on: bool) -> Self {
        let ways = PoolReuse::ALL.iter().zip(&mut self.reuse);
        ways.filter(|(one, _)| **one == way).for_each(|(_, switched)| *switched = Some(on));
        self
    }

    /// Returns the pool to allocate from.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::resources::{CudaAsyncOptions, PoolSource};
    /// assert_eq!(CudaAsyncOptions::default().get_source(), PoolSource::Own);
    /// ```
    pub fn get_source(&self) -> PoolSource {
        self.source
    }

    /// Returns the bytes that the pool keeps at a synchronization, or `None` if they are not set.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::resources::{CudaAsyncOptions, PoolSource};
    /// assert_eq!(CudaAsyncOptions::default().get_release_threshold(), None);
    /// ```
    pub fn get_release_threshold(&self) -> Option<u64> {
        self.release_threshold
    }
}

impl Default for CudaAsyncOptions {
    fn default() -> Self {
        Self::new(PoolSource::Own)
    }
}
