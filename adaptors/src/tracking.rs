//! [`Tracking`] keeps a record of each live block.

mod options;
mod report;
mod state;
mod tag_counts;

pub use options::TrackingOptions;
pub use report::{TrackedBlock, TrackingDiff, TrackingReport};
pub use state::TrackingState;

use cumem::{AllocError, Block, DeallocError, LayerExt, MemoryResource, Stream, Upstream};
use std::alloc::Layout;

/// An adaptor that records each live block: its size, age, stream, thread, [tag](crate::tags) and, on request, the stack
/// trace of its allocation. If blocks are live when the stack is dropped or when the process ends, it reports them.
///
/// The records are in parts by address, so two threads seldom wait for each other.
///
/// `find::<TrackingState>()` returns its [`TrackingState`] from any stack.
///
/// # Examples
///
/// ```
/// use cumem::error::take_drop_errors;
/// use cumem::sim::Profile;
/// use cumem::{CudaResource, Device, MemoryResource, Stream, layout};
/// use cumem_adaptors::{ResourceExt, TrackingOptions};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let device = Device::simulated(Profile::default())?;
/// let stack = CudaResource::new(&device).tracking(TrackingOptions::new());
/// let leaked = stack.allocate(&Stream::new(&device)?, layout::bytes(1000)?)?;
/// println!("{}", stack.state().report());
/// drop(stack);
/// let report = &take_drop_errors()[0];
/// assert!(report.starts_with("tracking could not be released: 1000 bytes in 1 block is live\n  1000 bytes at 0x"), "{report}");
/// # let _ = leaked;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Tracking<U> {
    state: TrackingState,
    upstream: U,
}

impl<U> Tracking<U> {
    /// Creates the adaptor, without records.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{CudaResource, Device};
    /// # use cumem_adaptors::{Tracking, TrackingOptions};
    /// # let device = Device::simulated(Profile::default())?;
    /// let stack = Tracking::new(CudaResource::new(&device), TrackingOptions::new().traces_from(0));
    /// assert!(stack.to_string().starts_with("tracking(traces) over device"));
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn new(upstream: U, options: TrackingOptions) -> Self
    where
        U: Upstream,
    {
        Self { state: TrackingState::new(upstream.device().id(), options), upstream }
    }

    /// Returns the upstream.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{CudaResource, Device};
    /// # use cumem_adaptors::{ResourceExt, TrackingOptions};
    /// # let device = Device::simulated(Profile::default())?;
    /// let stack = CudaResource::new(&device).limit(1 << 30).tracking(TrackingOptions::new());
    /// assert_eq!(stack.upstream().state().bytes(), 1 << 30); // the limit
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn upstream(&self) -> &U {
        &self.upstream
    }

    /// Removes this adaptor and returns the upstream. Live blocks stay valid, because the upstream made them:
    /// deallocate them through the upstream. The records are lost and not reported.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{CudaResource, Device};
    /// # use cumem_adaptors::{ResourceExt, TrackingOptions};
    /// # let device = Device::simulated(Profile::default())?;
    /// let stack = CudaResource::new(&device).tracking(TrackingOptions::new());
    /// assert!(stack.into_upstream().to_string().starts_with("device"));
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn into_upstream(mut self) -> U {
        self.state.removed();
        self.upstream
    }

    /// Returns the records.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{CudaResource, Device};
    /// # use cumem_adaptors::{ResourceExt, TrackingOptions};
    /// # let device = Device::simulated(Profile::default())?;
    /// let stack = CudaResource::new(&device).tracking(TrackingOptions::new());
    /// assert!(stack.state().live().is_empty());
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn state(&self) -> &TrackingState {
        &self.state
    }
}

cumem::adaptor_layer! {
    impl[U] Layer, Upstream for Tracking<U> {
        upstream: U = upstream;
        describe = |tracking, f| f.write_str(if tracking.state.takes_traces() { "tracking(traces)" } else { "tracking" });
        state = state;
    }
}

// SAFETY: every block is the upstream's and is passed on unchanged.
unsafe impl<U: Upstream> MemoryResource for Tracking<U> {
    type Kind = U::Kind;

    #[inline]
    fn allocate(&self, stream: &Stream, layout: Layout) -> Result<Block, AllocError> {
        self.upstream.allocate(stream, layout).inspect(|block| self.state.allocated(block, stream))
    }

    #[inline]
    unsafe fn deallocate(&self, stream: &Stream, block: Block) -> Result<(), DeallocError> {
        let key = (block.addr(), block.maker());
        // Removed before the upstream is called, because the upstream may give the same memory to another thread at
        // once.
        let record = self.state.take(key, block.size());
        // SAFETY: the caller upholds the contract of this method, which is the upstream's.
        unsafe { self.upstream.deallocate(stream, block) }.inspect_err(|_| {
            if let Some(record) = record {
                self.state.not_freed(key, record);
            }
        })
    }
}
