//! [`Statistics`] counts the calls that pass through it.

#[doc(hidden)] // for `assert_counts!`
pub mod assertion;
mod counters;
mod counts;
mod named;
mod scope;

pub use counters::StatisticsState;
pub use counts::Counts;
pub use named::NamedScope;
pub use scope::Scope;

use cumem::error::DeallocReason;
use cumem::layer::Beneath;
use cumem::{AllocError, Block, DeallocError, Layer, LayerExt, MemoryResource, Stream, Upstream};
use std::alloc::Layout;

/// Returns the statistics that stand directly over a leaf of `stack`, for each leaf that has them: first those of the
/// first upstream of a spill, then those of the second. Their sum is what the stack has allocated from the driver.
///
/// # Examples
///
/// ```
/// use cumem::sim::Profile;
/// use cumem::{CudaResource, Device, ManagedResource};
/// use cumem_adaptors::statistics::leaf_statistics;
/// use cumem_adaptors::{PoolOptions, ResourceExt};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let device = Device::simulated(Profile::default())?;
/// let first = CudaResource::new(&device).statistics().pool(PoolOptions::new().initial(1 << 20))?;
/// let stack = first.spill_to(ManagedResource::new(&device)?.statistics())?.statistics();
/// let reserved: Vec<_> = leaf_statistics(&stack).iter().map(|leaf| leaf.counts().current_bytes).collect();
/// assert_eq!(reserved, [1 << 20, 0]);
/// # Ok(())
/// # }
/// ```
pub fn leaf_statistics(stack: &dyn Layer) -> Vec<&StatisticsState> {
    let mut found = Vec::new();
    let mut layers = vec![stack];
    while let Some(layer) = layers.pop() {
        match layer.beneath() {
            Beneath::Layer(beneath) => {
                if let Beneath::Device(_) = beneath.beneath() {
                    found.extend(layer.state().downcast_ref::<StatisticsState>());
                }
                layers.push(beneath);
            }
            Beneath::Two(first, second) => layers.extend([second, first]),
            Beneath::Device(_) => {}
        }
    }
    found
}

/// An adaptor that counts bytes, blocks and failures. Over a pool it counts the users' requests;
/// under a pool, the chunks that the pool allocates.
///
/// The counts are exact with any number of threads, peaks included. Each thread has a share of the distance from the
/// present count to the peak. Threads wait for each other only when a thread has used up its share. While a peak rises,
/// this happens at every call. While a [`scope`](StatisticsState::scope) is open, all threads wait for each other at
/// every call. A [`thread_scope`](StatisticsState::thread_scope) delays only its own thread.
///
/// `find::<StatisticsState>()` returns its [`StatisticsState`] from any stack.
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
/// drop(Buffer::<u8, _>::zeroed(1000, &stream, &memory)?);
/// let counts = memory.state().counts();
/// assert_eq!((counts.current_bytes, counts.peak_bytes, counts.total_blocks), (0, 1000, 1));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Statistics<U> {
    state: StatisticsState,
    upstream: U,
}

impl<U> Statistics<U> {
    /// Creates the adaptor with all counters at 0.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{CudaResource, Device};
    /// # use cumem_adaptors::{Statistics};
    /// # let device = Device::simulated(Profile::default())?;
    /// let stack = Statistics::new(CudaResource::new(&device)); // or `CudaResource::new(&device).statistics()`
    /// assert_eq!(stack.state().counts().total_blocks, 0);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn new(upstream: U) -> Self
    where
        U: Upstream,
    {
        Self { state: StatisticsState::new(upstream.device().id()), upstream }
    }

    /// Returns the upstream.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{CudaResource, Device};
    /// # use cumem_adaptors::{ResourceExt};
    /// # let device = Device::simulated(Profile::default())?;
    /// let stack = CudaResource::new(&device).limit(1 << 30).statistics();
    /// assert_eq!(stack.upstream().state().bytes(), 1 << 30); // the limit
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn upstream(&self) -> &U {
        &self.upstream
    }

    /// Removes this adaptor and returns the upstream. Live blocks stay valid, because the upstream made them:
    /// deallocate them through the upstream. The counts are lost.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{CudaResource, Device};
    /// # use cumem_adaptors::{ResourceExt};
    /// # let device = Device::simulated(Profile::default())?;
    /// let leaf = CudaResource::new(&device).statistics().into_upstream();
    /// assert!(leaf.to_string().starts_with("device"));
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn into_upstream(mut self) -> U {
        self.state.removed();
        self.upstream
    }

    /// Returns the counters.
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
    /// let _zeros = Buffer::<u8, _>::zeroed(4096, &stream, &stack)?;
    /// assert_eq!(stack.state().counts().current_bytes, 4096);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn state(&self) -> &StatisticsState {
        &self.state
    }
}

cumem::adaptor_layer! {
    impl[U] Layer, Upstream for Statistics<U> {
        upstream: U = upstream;
        describe = "statistics";
        state = state;
    }
}

// SAFETY: every block is the upstream's and is passed on unchanged.
unsafe impl<U: Upstream> MemoryResource for Statistics<U> {
    type Kind = U::Kind;

    #[inline]
    fn allocate(&self, stream: &Stream, layout: Layout) -> Result<Block, AllocError> {
        let result = self.upstream.allocate(stream, layout);
        match &result {
            Ok(_) => self.state.allocated(layout.size()),
            Err(_) => self.state.failed(),
        }
        result
    }

    #[inline]
    unsafe fn deallocate(&self, stream: &Stream, block: Block) -> Result<(), DeallocError> {
        let bytes = block.size();
        // Counted before the upstream is called, because the upstream may give the same memory to another thread at
        // once.
        if let Err(outstanding) = self.state.freed(bytes) {
            let reason = DeallocReason::NotOutstanding { layer: "statistics", outstanding, returned: bytes };
            return Err(DeallocError::new(block, reason));
        }
        // SAFETY: the caller upholds the contract of this method, which is the upstream's.
        if let Err(error) = unsafe { self.upstream.deallocate(stream, block) } {
            self.state.not_freed(bytes);
            return Err(error);
        }
        Ok(())
    }
}
