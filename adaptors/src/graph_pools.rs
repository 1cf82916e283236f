//! [`GraphPools`] gives each graph memory of its own, which no other work gets.

mod capture;
mod chunks;
mod error;
mod id;
mod private;
mod state;

pub use capture::{PooledCapture, PooledGraph};
pub use error::GraphPoolError;
pub use id::GraphPoolId;
pub use state::GraphPoolsState;

use crate::pool::{Pool, PoolError, PoolOptions};
use chunks::Chunks;
use cumem::{AllocError, Block, DeallocError, LayerExt, MemoryResource, Stream, Upstream};
use private::PrivatePool;
use std::alloc::Layout;
use std::sync::Arc;

/// An adaptor for stacks whose streams are captured into graphs ([`cumem::kernel::Graph`]).
///
/// A graph uses the same addresses at each launch. Memory that was allocated during the capture must therefore not go to
/// other work as long as the graph exists, even after it was freed. So allocations during a capture come from a *private
/// pool*, whose chunks this adaptor allocates from its upstream. Freed memory goes back to the private pool. A later
/// capture with the same [`GraphPoolId`] uses it again. When the last graph of a private pool is gone and its blocks are
/// freed, its chunks go back to the upstream.
///
/// Two graphs that share a private pool may use the same memory, so the program must launch them one after the other, in
/// the order of their captures, and must not expect the results of one after the launch of the other. PyTorch has the
/// same rule.
///
/// Nothing in a private pool makes a call that the driver refuses during a capture. The pool of the stack itself stays
/// usable on other streams. Without a capture, the adaptor only passes calls on.
///
/// `find::<GraphPoolsState>()` returns its [`GraphPoolsState`] from any stack. Captures begin there.
///
/// # Examples
///
/// ```
/// use cumem::kernel::{CaptureMode, HostKernel};
/// use cumem::sim::Profile;
/// use cumem::{Buffer, CudaResource, Device, Stream};
/// use cumem_adaptors::graph_pools::GraphPoolId;
/// use cumem_adaptors::{PoolOptions, ResourceExt};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let device = Device::simulated(Profile::default())?;
/// let stream = Stream::new(&device)?;
/// let stack = CudaResource::new(&device).pool(PoolOptions::new())?.graph_pools();
/// let sum = Buffer::<u32, _>::zeroed(1, &stream, &stack)?;
///
/// // SAFETY: the program uses the results of captured work only after it has launched the graph.
/// let capture = unsafe { stack.state().capture(&stream, CaptureMode::Global, GraphPoolId::unique()) }?;
/// // SAFETY: the first kernel writes the whole buffer.
/// let ones = unsafe { Buffer::<u32, _>::uninit(1000, &stream, &stack) }?; // memory of the private pool
/// let fill = HostKernel::repeatable("fill", |memory| memory.write::<u32>(0).fill(1))
///     .writes(ones.device_address(), ones.size_bytes());
/// let add = HostKernel::repeatable("add", |memory| memory.write::<u32>(1)[0] += memory.read::<u32>(0).iter().sum::<u32>())
///     .reads(ones.device_address(), ones.size_bytes())
///     .writes(sum.device_address(), sum.size_bytes());
/// // SAFETY: the kernels use the two buffers. The private pool keeps the memory of `ones`, and `sum` lives long enough.
/// unsafe { stream.launch_host(fill).and_then(|()| stream.launch_host(add)) }?;
/// drop(ones);
/// let graph = capture.end()?;
///
/// for _ in 0..3 {
///     // SAFETY: as above.
///     unsafe { graph.launch(&stream) }?;
/// }
/// assert_eq!(sum.to_vec()?, [3000]);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct GraphPools<U> {
    state: GraphPoolsState,
    upstream: Arc<U>,
}

impl<U> GraphPools<U> {
    /// Creates the adaptor. It has no private pool before the first capture.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{CudaResource, Device};
    /// # use cumem_adaptors::graph_pools::GraphPools;
    /// # let device = Device::simulated(Profile::default())?;
    /// let stack = GraphPools::new(CudaResource::new(&device)); // or `CudaResource::new(&device).graph_pools()`
    /// assert!(stack.to_string().starts_with("graph_pools over device"));
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn new(upstream: U) -> Self
    where
        U: Upstream + Send + Sync + 'static,
    {
        let upstream = Arc::new(upstream);
        let shared = Arc::clone(&upstream);
        let make = move || -> Result<Arc<dyn PrivatePool>, PoolError> {
            Ok(Arc::new(Pool::new(Chunks::new(Arc::clone(&shared))?, PoolOptions::new().undeclared())?))
        };
        Self { state: GraphPoolsState::new(upstream.device(), make), upstream }
    }

    /// Returns the upstream.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{CudaResource, Device};
    /// # use cumem_adaptors::ResourceExt;
    /// # let device = Device::simulated(Profile::default())?;
    /// let stack = CudaResource::new(&device).graph_pools();
    /// assert!(stack.upstream().to_string().starts_with("device"));
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn upstream(&self) -> &U {
        &self.upstream
    }

    /// Returns the state, which begins captures.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{CudaResource, Device};
    /// # use cumem_adaptors::ResourceExt;
    /// # let device = Device::simulated(Profile::default())?;
    /// let stack = CudaResource::new(&device).graph_pools();
    /// assert_eq!(stack.state().reserved(), 0);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn state(&self) -> &GraphPoolsState {
        &self.state
    }
}

cumem::adaptor_layer! {
    impl[U] Layer, Upstream for GraphPools<U> {
        upstream: U = upstream;
        describe = "graph_pools";
        state = state;
        trim_layer = |graph_pools, _keep| Ok(graph_pools.state.close_unused());
    }
}

// SAFETY: every block is the upstream's or a private pool's, and is passed on unchanged.
unsafe impl<U: Upstream> MemoryResource for GraphPools<U> {
    type Kind = U::Kind;

    #[inline]
    fn allocate(&self, stream: &Stream, layout: Layout) -> Result<Block, AllocError> {
        if self.state.is_capturing()
            && layout.size() > 0
            && let Some(pool) = self.state.pool_for(stream)
        {
            return pool.allocate(stream, layout);
        }
        self.upstream.allocate(stream, layout)
    }

    #[inline]
    unsafe fn deallocate(&self, stream: &Stream, block: Block) -> Result<(), DeallocError> {
        if self.state.has_pools()
            && let Some(pool) = self.state.pool_of(&block)
        {
            // SAFETY: the caller upholds the contract of this method, which is the pool's.
            unsafe { pool.deallocate(stream, block) }?;
            drop(pool);
            self.state.close_released();
            return Ok(());
        }
        // SAFETY: the caller upholds the contract of this method, which is the upstream's.
        unsafe { self.upstream.deallocate(stream, block) }
    }
}
