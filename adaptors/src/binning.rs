//! [`Binning`] keeps freed blocks of a few sizes.

mod state;

pub use state::BinningState;

use crate::bins::{BinError, Bins, powers_of_two};
use cumem::error::TrimError;
use cumem::{AllocError, Block, DeallocError, MemoryResource, Stream, Upstream};
use std::alloc::Layout;
use std::mem::ManuallyDrop;
use std::ptr;

/// An adaptor with bins: blocks of a few sizes. A request gets a block of the smallest size that holds it. A request that
/// is larger than all bins goes to the upstream. RMM's counterpart is `binning_memory_resource`.
///
/// Each bin is a [`FixedSize`](crate::FixedSize), with the same lists of free blocks for each stream. The pages there say
/// where this beats a [`Pool`](crate::Pool): programs whose sizes alternate, and that have memory to spare. Each block takes
/// the memory of its bin, up to twice the request with powers of two.
///
/// The bins are fixed when the adaptor is created, so a free always finds the bin of its block. In RMM, a bin that is
/// added later takes the frees of live blocks.
///
/// `find::<BinningState>()` returns its [`BinningState`] from any stack.
///
/// # Examples
///
/// ```
/// use cumem::sim::Profile;
/// use cumem::{Buffer, CudaResource, Device, Stream};
/// use cumem_adaptors::{PoolOptions, ResourceExt};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let device = Device::simulated(Profile::default())?;
/// let stream = Stream::new(&device)?;
/// let memory = CudaResource::new(&device).pool(PoolOptions::new())?.binning([256 << 10, 1 << 20])?;
/// let _small = Buffer::<u8, _>::zeroed(300 << 10, &stream, &memory)?; // in the bin of 1 MiB
/// let _large = Buffer::<u8, _>::zeroed(9 << 20, &stream, &memory)?; // of the pool
/// assert_eq!(memory.state().live_blocks(), 1);
/// assert_eq!(memory.upstream().stats().requested, 10 << 20);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Binning<U> {
    state: BinningState,
    // Function pointers, because `Drop` and `Layer` have no bound `U: Upstream`.
    close: fn(&Self),
    trim: fn(&Self, usize) -> Result<usize, TrimError>,
    upstream: U,
}

impl<U> Binning<U> {
    /// Creates the adaptor with a bin for each of `sizes`, which are rounded up to multiples of 256.
    ///
    /// # Errors
    ///
    /// Returns
    /// - [`BinError::Count`] without sizes, or with more than 64,
    /// - [`BinError::Size`] for a size of zero or of more than `isize::MAX` bytes,
    /// - [`BinError::OverScrub`] if a [`Scrub`](crate::Scrub) is beneath.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{CudaResource, Device};
    /// # use cumem_adaptors::Binning;
    /// # let device = Device::simulated(Profile::default())?;
    /// let stack = Binning::new(CudaResource::new(&device), [1 << 20, 4096])?;
    /// assert!(stack.to_string().starts_with("binning(4KiB, 1MiB) over device"));
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn new(upstream: U, sizes: impl IntoIterator<Item = usize>) -> Result<Self, BinError>
    where
        U: Upstream,
    {
        let state = BinningState(Bins::new("binning", &upstream, sizes)?);
        Ok(Self { state, close: Self::close, trim: Self::trim_to, upstream })
    }

    /// Creates the adaptor with a bin for each power of two from `smallest` to `largest`.
    ///
    /// # Errors
    ///
    /// Returns [`BinError::Order`] if `smallest` is above `largest`, and the errors of [`new`](Self::new).
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{CudaResource, Device};
    /// # use cumem_adaptors::Binning;
    /// # let device = Device::simulated(Profile::default())?;
    /// let stack = Binning::powers_of_two(CudaResource::new(&device), 256 << 10, 4 << 20)?;
    /// assert_eq!(stack.state().sizes(), [256 << 10, 512 << 10, 1 << 20, 2 << 20, 4 << 20]);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn powers_of_two(upstream: U, smallest: usize, largest: usize) -> Result<Self, BinError>
    where
        U: Upstream,
    {
        Self::new(upstream, powers_of_two(smallest, largest)?)
    }

    /// Sets how many free blocks of each size each stream keeps. The default is 128.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Buffer, CudaResource, Device, Stream};
    /// # use cumem_adaptors::ResourceExt;
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// let memory = CudaResource::new(&device).binning([4096, 64 << 10])?.keep(0);
    /// drop(Buffer::<u8, _>::zeroed(1000, &stream, &memory)?);
    /// assert_eq!(memory.state().free_blocks(), [0, 0]);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn keep(mut self, blocks: usize) -> Self {
        self.state.0.keep = blocks;
        self
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
    /// let stack = CudaResource::new(&device).limit(1 << 30).binning([4096])?;
    /// assert_eq!(stack.upstream().state().bytes(), 1 << 30); // the limit
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn upstream(&self) -> &U {
        &self.upstream
    }

    /// Frees all free blocks, removes the adaptor, and returns the upstream.
    ///
    /// # Errors
    ///
    /// Returns the adaptor itself while a block is live, or if the upstream refuses a free block.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{CudaResource, Device};
    /// # use cumem_adaptors::ResourceExt;
    /// # let device = Device::simulated(Profile::default())?;
    /// let leaf = CudaResource::new(&device).binning([4096])?.into_upstream().map_err(|_| "a block is live")?;
    /// assert!(leaf.to_string().starts_with("device"));
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn into_upstream(self) -> Result<U, Self>
    where
        U: Upstream,
    {
        self.state.0.flush(&self.upstream);
        if self.state.live_blocks() + self.state.free_bytes() > 0 {
            return Err(self);
        }
        // `Drop` would only free blocks, of which there are none.
        let mut adaptor = ManuallyDrop::new(self);
        // SAFETY: `adaptor` is never dropped, and its upstream is not used again, so the value has one owner.
        let upstream = unsafe { ptr::read(&adaptor.upstream) };
        // SAFETY: `adaptor` is never dropped, and its state is not used again. The other field needs no drop.
        unsafe { ptr::drop_in_place(&mut adaptor.state) };
        Ok(upstream)
    }

    /// Returns the sizes and the counts.
    pub fn state(&self) -> &BinningState {
        &self.state
    }

    fn close(&self)
    where
        U: Upstream,
    {
        self.state.0.close("a binning adaptor", &self.upstream);
    }

    fn trim_to(&self, keep: usize) -> Result<usize, TrimError>
    where
        U: Upstream,
    {
        self.state.0.trim(&self.upstream, keep)
    }
}

impl<U> Drop for Binning<U> {
    fn drop(&mut self) {
        (self.close)(self);
    }
}

cumem::adaptor_layer! {
    impl[U] Layer, Upstream for Binning<U> {
        upstream: U = upstream;
        describe = |binning, f| binning.state.describe(f);
        state = state;
        trim_layer = |binning, keep| (binning.trim)(binning, keep);
    }
}

// SAFETY: a block is the beginning of a block of the upstream that holds no other live block. A block is handed out again
// only on the stream that freed it, so all earlier uses were enqueued before. Blocks that are larger or more aligned, or
// have no bytes, are the upstream's, passed on unchanged.
unsafe impl<U: Upstream> MemoryResource for Binning<U> {
    type Kind = U::Kind;

    #[inline]
    fn allocate(&self, stream: &Stream, layout: Layout) -> Result<Block, AllocError> {
        match self.state.0.bin(layout) {
            Some(bin) => self.state.0.allocate(&self.upstream, stream, layout, bin),
            None => self.upstream.allocate(stream, layout),
        }
    }

    #[inline]
    unsafe fn deallocate(&self, stream: &Stream, block: Block) -> Result<(), DeallocError> {
        // SAFETY: the caller upholds the same contract.
        unsafe { self.state.0.deallocate(&self.upstream, stream, block) }
    }
}
