//! [`Aligned`] aligns blocks to more than its upstream does.

mod state;

pub use state::AlignedState;

use crate::alignment::{AlignmentError, checked};
use cumem::layout::InvalidLayout;
use cumem::resource::MakerId;
use cumem::{AllocError, Block, DeallocError, MemoryResource, Stream, Upstream};
use std::alloc::Layout;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// An adaptor that aligns blocks to a chosen power of two, as RMM's aligned resource adaptor does. A request for more
/// keeps its own alignment. GPUDirect Storage, for example, reads fastest into addresses that are multiples of 4 KiB.
///
/// A pool gives any alignment. The adaptor only asks it, and passes its blocks on. A leaf of the driver gives 256 bytes,
/// so the adaptor allocates more bytes, and hands out the first aligned address within them. Such a block is the
/// adaptor's own: it must be freed through the adaptor.
///
/// Blocks of fewer bytes than the [threshold](Self::threshold) pass through.
///
/// `find::<AlignedState>()` returns its [`AlignedState`] from any stack.
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
/// let memory = CudaResource::new(&device).aligned(4096)?.threshold(1000);
/// let page = Buffer::<u8, _>::zeroed(5000, &stream, &memory)?;
/// assert!(page.device_address().is_multiple_of(4096));
/// let _small = Buffer::<u8, _>::zeroed(999, &stream, &memory)?;
/// assert_eq!(memory.state().padded_blocks(), 1);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Aligned<U> {
    state: AlignedState,
    maker: MakerId,
    /// The upstream's larger blocks, by the addresses that were handed out.
    padded: Mutex<HashMap<u64, Padded>>,
    upstream: U,
}

/// A block of the upstream that holds a handed out block at an aligned address.
#[derive(Debug)]
struct Padded {
    upstream: Block,
    size: usize,
}

impl<U> Aligned<U> {
    /// Creates the adaptor, which aligns blocks to multiples of `alignment` bytes.
    ///
    /// # Errors
    ///
    /// Returns [`AlignmentError`] if `alignment` is not a power of two.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{CudaResource, Device};
    /// # use cumem_adaptors::Aligned;
    /// # let device = Device::simulated(Profile::default())?;
    /// let stack = Aligned::new(CudaResource::new(&device), 4096)?;
    /// assert!(stack.to_string().starts_with("aligned(4KiB) over device"));
    /// assert!(Aligned::new(stack, 4095).is_err());
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn new(upstream: U, alignment: usize) -> Result<Self, AlignmentError>
    where
        U: Upstream,
    {
        let state = AlignedState::new(checked(alignment)?);
        Ok(Self { state, maker: MakerId::unique(), padded: Mutex::default(), upstream })
    }

    /// Sets the bytes from which blocks are aligned. Smaller blocks pass through, because the padding would be large
    /// beside them. The default is 0.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{CudaResource, Device};
    /// # use cumem_adaptors::ResourceExt;
    /// # let device = Device::simulated(Profile::default())?;
    /// let stack = CudaResource::new(&device).aligned(4096)?.threshold(1 << 20);
    /// assert!(stack.to_string().starts_with("aligned(4KiB, threshold=1MiB) over device"));
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn threshold(mut self, bytes: usize) -> Self {
        self.state.threshold = bytes;
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
    /// let stack = CudaResource::new(&device).limit(1 << 30).aligned(4096)?;
    /// assert_eq!(stack.upstream().state().bytes(), 1 << 30); // the limit
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn upstream(&self) -> &U {
        &self.upstream
    }

    /// Removes this adaptor and returns the upstream.
    ///
    /// # Errors
    ///
    /// Returns the adaptor itself while a block is live that only this adaptor can free
    /// ([`AlignedState::padded_blocks`]).
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{CudaResource, Device};
    /// # use cumem_adaptors::ResourceExt;
    /// # let device = Device::simulated(Profile::default())?;
    /// let leaf = CudaResource::new(&device).aligned(4096)?.into_upstream().map_err(|_| "a block is live")?;
    /// assert!(leaf.to_string().starts_with("device"));
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    #[expect(clippy::result_large_err, reason = "the caller owned the adaptor and gets it back")]
    pub fn into_upstream(self) -> Result<U, Self> {
        if self.padded().is_empty() { Ok(self.upstream) } else { Err(self) }
    }

    /// Returns the alignment, the threshold and the counts.
    pub fn state(&self) -> &AlignedState {
        &self.state
    }

    fn padded(&self) -> MutexGuard<'_, HashMap<u64, Padded>> {
        self.padded.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Enters a block of the upstream, and returns the block at the first aligned address in it.
    fn hand_out(&self, upstream: Block, layout: Layout) -> Block {
        let start = upstream.as_non_null();
        let offset = start.as_ptr().addr().wrapping_neg() & (layout.align() - 1);
        // SAFETY: the upstream's block is larger than the request by the alignment less the upstream's alignment, of
        // which its address is a multiple. The offset is at most that.
        let aligned = unsafe { start.add(offset) };
        self.state.add_padded(upstream.size() - layout.size());
        self.padded().insert(aligned.as_ptr() as u64, Padded { upstream, size: layout.size() });
        Block::new(self.maker, aligned, layout, 0)
    }
}

impl<U: Upstream> Aligned<U> {
    /// Allocates a larger block of the upstream, which aligns to `native` bytes only.
    #[cold]
    fn allocate_padded(&self, stream: &Stream, layout: Layout, native: usize) -> Result<Block, AllocError> {
        let invalid = InvalidLayout { size: layout.size(), alignment: layout.align() };
        let size = layout.size().checked_add(layout.align() - native).ok_or(invalid)?;
        let larger = Layout::from_size_align(size, native).map_err(|_| invalid)?;
        Ok(self.hand_out(self.upstream.allocate(stream, larger)?, layout))
    }

    /// Frees a block that this adaptor cut out of a larger one.
    ///
    /// # Safety
    ///
    /// The caller must uphold the contract of [`deallocate`](MemoryResource::deallocate).
    #[cold]
    unsafe fn deallocate_padded(&self, stream: &Stream, block: Block) -> Result<(), DeallocError> {
        let addr = block.addr();
        // Removed before the upstream is called, because the upstream may give the same memory to another thread at
        // once.
        let found = {
            let mut padded = self.padded();
            let is_same = padded.get(&addr).is_some_and(|found| found.size == block.size());
            if is_same { padded.remove(&addr) } else { None }
        };
        let Some(Padded { upstream, size }) = found else { return Err(DeallocError::foreign("aligned", block)) };
        let padding = upstream.size() - size;
        // SAFETY: the upstream made this block, and the caller gave up the only block in it.
        match unsafe { self.upstream.deallocate(stream, upstream) } {
            Ok(()) => {
                self.state.remove_padded(padding);
                Ok(())
            }
            Err(DeallocError { block: upstream, reason, .. }) => {
                self.padded().insert(addr, Padded { upstream, size });
                Err(DeallocError::new(block, reason))
            }
        }
    }
}

cumem::adaptor_layer! {
    impl[U] Layer, Upstream for Aligned<U> {
        upstream: U = upstream;
        describe = |aligned, f| aligned.state.describe(f);
        state = state;
    }
}

// SAFETY: a block is the upstream's and is passed on unchanged, or it is a part of a block of the upstream that has no
// other part and lives as long.
unsafe impl<U: Upstream> MemoryResource for Aligned<U> {
    type Kind = U::Kind;

    #[inline]
    fn allocate(&self, stream: &Stream, layout: Layout) -> Result<Block, AllocError> {
        let layout = self.state.raise(layout);
        let native = self.state.native();
        if layout.align() > native && layout.size() > 0 {
            return self.allocate_padded(stream, layout, native);
        }
        match self.upstream.allocate(stream, layout) {
            Err(AllocError::UnsupportedAlignment { maximum, .. })
                if layout.size() > 0 && maximum.is_power_of_two() && maximum < layout.align() =>
            {
                self.state.learn_native(maximum);
                self.allocate_padded(stream, layout, maximum)
            }
            allocated => allocated,
        }
    }

    #[inline]
    unsafe fn deallocate(&self, stream: &Stream, block: Block) -> Result<(), DeallocError> {
        if block.maker() == self.maker {
            // SAFETY: the caller upholds the same contract.
            return unsafe { self.deallocate_padded(stream, block) };
        }
        // SAFETY: the caller upholds the contract of this method, which is the upstream's.
        unsafe { self.upstream.deallocate(stream, block) }
    }
}
