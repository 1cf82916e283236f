//! [`Aligned`] aligns blocks to more than its upstream does.

mod state;

pub use state::AlignedState;

use crate::alignment::{AlignmentError, checked};
use crate::parts::Parts;
use cumem::layout::InvalidLayout;
use cumem::resource::MakerId;
use cumem::{AllocError, Block, DeallocError, MemoryResource, Stream, Upstream};
use std::alloc::Layout;
use std::collections::HashMap;

/// An adaptor that aligns blocks to a chosen power of two, as RMM's aligned resource adaptor does. A request for more
/// keeps its own alignment. GPUDirect Storage, for example, reads fastest into addresses that are multiples of 4 KiB.
///
/// A pool gives any alignment, if it is asked. A leaf of the driver gives 256 bytes, so the adaptor allocates more bytes,
/// and hands out the first aligned address within them. Either way an aligned block is the adaptor's own: it must be
/// freed through the adaptor.
///
/// Blocks of fewer bytes than the [threshold](Self::threshold) pass through, and so do those whose own alignment is
/// enough.
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
/// assert_eq!(memory.state().blocks(), 1);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Aligned<U> {
    state: AlignedState,
    maker: MakerId,
    /// The upstream's blocks, by the addresses that were handed out.
    own: Parts<HashMap<u64, Whole>>,
    upstream: U,
}

/// A block of the upstream that holds a handed out block of `size` bytes at an aligned address.
#[derive(Debug)]
struct Whole {
    block: Block,
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
        Ok(Self { state, maker: MakerId::unique(), own: Parts::default(), upstream })
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
    /// ([`AlignedState::blocks`]).
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
    pub fn into_upstream(self) -> Result<U, Self> {
        if self.state.blocks() == 0 { Ok(self.upstream) } else { Err(self) }
    }

    /// Returns the alignment, the threshold and the counts.
    pub fn state(&self) -> &AlignedState {
        &self.state
    }

    /// Enters a block of the upstream, and returns the block of `layout` at the first aligned address in it.
    fn hand_out(&self, block: Block, layout: Layout, alignment: usize) -> Block {
        let start = block.as_non_null();
        let offset = start.as_ptr().addr().wrapping_neg() & (alignment - 1);
        // SAFETY: the upstream's block is larger than the request by the alignment less the upstream's own, of which its
        // address is a multiple. The offset is at most that.
        let aligned = unsafe { start.add(offset) };
        self.state.add_own(block.size() - layout.size());
        let addr = aligned.as_ptr() as u64;
        self.own.of(addr).insert(addr, Whole { block, size: layout.size() });
        Block::new(self.maker, aligned, layout, 0)
    }
}

impl<U: Upstream> Aligned<U> {
    /// Allocates a block of `layout` at a multiple of `alignment`, which is more than that of the layout or of the
    /// upstream.
    fn allocate_aligned(&self, stream: &Stream, layout: Layout, alignment: usize) -> Result<Block, AllocError> {
        let invalid = InvalidLayout { size: layout.size(), alignment };
        let native = self.state.native();
        if alignment <= native {
            let raised = layout.align_to(alignment).map_err(|_| invalid)?;
            match self.upstream.allocate(stream, raised) {
                Err(AllocError::UnsupportedAlignment { maximum, .. })
                    if maximum.is_power_of_two() && maximum < alignment =>
                {
                    self.state.learn_native(maximum);
                }
                allocated => return Ok(self.hand_out(allocated?, layout, alignment)),
            }
        }
        let native = self.state.native();
        let size = layout.size().checked_add(alignment - native).ok_or(invalid)?;
        let larger = Layout::from_size_align(size, native).map_err(|_| invalid)?;
        Ok(self.hand_out(self.upstream.allocate(stream, larger)?, layout, alignment))
    }

    /// Frees a block of this adaptor.
    ///
    /// # Safety
    ///
    /// The caller must uphold the contract of [`deallocate`](MemoryResource::deallocate).
    unsafe fn deallocate_own(&self, stream: &Stream, block: Block) -> Result<(), DeallocError> {
        let addr = block.addr();
        // Removed before the upstream is called, because the upstream may give the same memory to another thread at
        // once.
        let found = {
            let mut own = self.own.of(addr);
            let is_same = own.get(&addr).is_some_and(|found| found.size == block.size());
            if is_same { own.remove(&addr) } else { None }
        };
        let Some(Whole { block: whole, size }) = found else { return Err(DeallocError::foreign("aligned", block)) };
        let padding = whole.size() - size;
        // SAFETY: the upstream made this block, and the caller gave up the only block in it.
        match unsafe { self.upstream.deallocate(stream, whole) } {
            Ok(()) => {
                self.state.remove_own(padding);
                Ok(())
            }
            Err(DeallocError { block: whole, reason, .. }) => {
                self.own.of(addr).insert(addr, Whole { block: whole, size });
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
        match self.state.alignment_for(layout) {
            Some(alignment) => self.allocate_aligned(stream, layout, alignment),
            None => self.upstream.allocate(stream, layout),
        }
    }

    #[inline]
    unsafe fn deallocate(&self, stream: &Stream, block: Block) -> Result<(), DeallocError> {
        if block.maker() == self.maker {
            // SAFETY: the caller upholds the same contract.
            return unsafe { self.deallocate_own(stream, block) };
        }
        // SAFETY: the caller upholds the contract of this method, which is the upstream's.
        unsafe { self.upstream.deallocate(stream, block) }
    }
}
