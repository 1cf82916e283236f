//! [`FixedSize`] keeps freed blocks of one size.

mod state;

pub use state::FixedSizeState;

use crate::bins::{BinError, Bins};
use cumem::error::TrimError;
use cumem::{AllocError, Block, DeallocError, MemoryResource, Stream, Upstream};
use std::alloc::Layout;
use std::mem::ManuallyDrop;
use std::ptr;

/// An adaptor whose blocks all take the same memory: a request for at most the block size gets a whole block, and a larger
/// one is refused. Freed blocks stay in a list of the stream that freed them, and are handed out again from there, last
/// first. RMM's counterpart is `fixed_size_memory_resource`.
///
/// # Where it beats the pool
///
/// A block is taken from a list, and is never cut or joined. Where sizes alternate, this takes a part of the time of a
/// pool, and memory cannot be fragmented. Where one size is allocated and freed in turn, a [`Pool`](crate::Pool) is as
/// fast. Each request takes a whole block, and each stream keeps its own free blocks, so the pool needs less memory.
/// `benches/README.md` has the figures.
///
/// # Memory
///
/// Each new block is one block of the upstream, which is best a pool. A stream keeps at most [`keep`](Self::keep) free
/// blocks, and frees half of them to the upstream when there are more. A stream without a free block asks the upstream. If
/// the upstream is out of memory, the adaptor frees all free blocks to it, and asks once more.
///
/// Requests that are aligned to more than 256 bytes, and those on a stream that is being captured, go to the upstream.
///
/// `find::<FixedSizeState>()` returns its [`FixedSizeState`] from any stack.
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
/// let pages = CudaResource::new(&device).pool(PoolOptions::new())?.fixed_size(64 << 10)?;
/// let first = Buffer::<u8, _>::zeroed(1000, &stream, &pages)?;
/// let address = first.device_address();
/// drop(first);
/// let second = Buffer::<u8, _>::zeroed(60_000, &stream, &pages)?;
/// assert_eq!(second.device_address(), address); // the same block
/// assert!(Buffer::<u8, _>::zeroed(65_537, &stream, &pages).unwrap_err().is_out_of_memory());
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct FixedSize<U> {
    state: FixedSizeState,
    // Function pointers, because `Drop` and `Layer` have no bound `U: Upstream`.
    close: fn(&Self),
    trim: fn(&Self, usize) -> Result<usize, TrimError>,
    upstream: U,
}

impl<U> FixedSize<U> {
    /// Creates the adaptor. The block size is rounded up to a multiple of 256.
    ///
    /// # Errors
    ///
    /// Returns [`BinError::Size`] for a size of zero or of more than `isize::MAX` bytes, and [`BinError::OverScrub`] if a
    /// [`Scrub`](crate::Scrub) is beneath.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{CudaResource, Device};
    /// # use cumem_adaptors::FixedSize;
    /// # let device = Device::simulated(Profile::default())?;
    /// let stack = FixedSize::new(CudaResource::new(&device), 1 << 20)?;
    /// assert!(stack.to_string().starts_with("fixed_size(1MiB) over device"));
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn new(upstream: U, block_size: usize) -> Result<Self, BinError>
    where
        U: Upstream,
    {
        let state = FixedSizeState(Bins::new("fixed_size", &upstream, [block_size])?);
        Ok(Self { state, close: Self::close, trim: Self::trim_to, upstream })
    }

    /// Sets how many free blocks each stream keeps. The default is 128.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Buffer, CudaResource, Device, Stream};
    /// # use cumem_adaptors::ResourceExt;
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// let pages = CudaResource::new(&device).fixed_size(64 << 10)?.keep(0);
    /// drop(Buffer::<u8, _>::zeroed(1000, &stream, &pages)?);
    /// assert_eq!(pages.state().free_blocks(), 0);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn keep(mut self, blocks: usize) -> Self {
        self.state.0.keep = blocks;
        self
    }

    /// Allocates `blocks` blocks for `stream`, which then need no call of the upstream.
    ///
    /// # Errors
    ///
    /// Returns the upstream's error. The blocks before it stay.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{CudaResource, Device, Stream};
    /// # use cumem_adaptors::ResourceExt;
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// let pages = CudaResource::new(&device).fixed_size(64 << 10)?;
    /// pages.preallocate(10, &stream)?;
    /// assert_eq!(pages.state().free_blocks(), 10);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn preallocate(&self, blocks: usize, stream: &Stream) -> Result<(), AllocError>
    where
        U: Upstream,
    {
        self.state.0.preallocate(&self.upstream, stream, blocks)
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
    /// let stack = CudaResource::new(&device).limit(1 << 30).fixed_size(4096)?;
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
    /// let leaf = CudaResource::new(&device).fixed_size(4096)?.into_upstream().map_err(|_| "a block is live")?;
    /// assert!(leaf.to_string().starts_with("device"));
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn into_upstream(self) -> Result<U, Self>
    where
        U: Upstream,
    {
        self.state.0.flush(&self.upstream);
        if self.state.live_blocks() + self.state.free_blocks() > 0 {
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

    /// Returns the block size and the counts.
    pub fn state(&self) -> &FixedSizeState {
        &self.state
    }

    fn close(&self)
    where
        U: Upstream,
    {
        self.state.0.close("a fixed-size adaptor", &self.upstream);
    }

    fn trim_to(&self, keep: usize) -> Result<usize, TrimError>
    where
        U: Upstream,
    {
        self.state.0.trim(&self.upstream, keep)
    }
}

impl<U> Drop for FixedSize<U> {
    fn drop(&mut self) {
        (self.close)(self);
    }
}

cumem::adaptor_layer! {
    impl[U] Layer, Upstream for FixedSize<U> {
        upstream: U = upstream;
        describe = |fixed, f| fixed.state.describe(f);
        state = state;
        trim_layer = |fixed, keep| (fixed.trim)(fixed, keep);
    }
}

// SAFETY: a block is the beginning of a block of the upstream that holds no other live block. A block is handed out again
// only on the stream that freed it, so all earlier uses were enqueued before. Blocks that are more aligned, or have no
// bytes, are the upstream's, passed on unchanged.
unsafe impl<U: Upstream> MemoryResource for FixedSize<U> {
    type Kind = U::Kind;

    #[inline]
    fn allocate(&self, stream: &Stream, layout: Layout) -> Result<Block, AllocError> {
        match self.state.0.bin(layout) {
            Some(bin) => self.state.0.allocate(&self.upstream, stream, layout, bin),
            None => {
                self.state.check_size(layout)?;
                self.upstream.allocate(stream, layout)
            }
        }
    }

    #[inline]
    unsafe fn deallocate(&self, stream: &Stream, block: Block) -> Result<(), DeallocError> {
        // SAFETY: the caller upholds the same contract.
        unsafe { self.state.0.deallocate(&self.upstream, stream, block) }
    }
}
