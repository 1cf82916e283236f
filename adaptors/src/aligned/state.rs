//! [`AlignedState`]: an alignment, and the blocks that needed padding for it.
#![forbid(unsafe_code)]

use crate::size::Size;
use cumem::layout::CUDA_ALLOCATION_ALIGNMENT;
use std::alloc::Layout;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// The upstream has not refused an alignment yet.
const UNKNOWN: usize = usize::MAX;

/// The alignment of an [`Aligned`](super::Aligned), and the blocks that are larger in the upstream because of it.
///
/// # Examples
///
/// ```
/// use cumem::sim::Profile;
/// use cumem::{AnyResource, CudaResource, Device, LayerExt};
/// use cumem_adaptors::{AlignedState, ResourceExt};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let device = Device::simulated(Profile::default())?;
/// let stack = AnyResource::new(CudaResource::new(&device).aligned(4096)?.statistics());
/// assert_eq!(stack.find::<AlignedState>().unwrap().alignment(), 4096);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct AlignedState {
    alignment: usize,
    pub(super) threshold: usize,
    /// The largest alignment of the upstream, or `UNKNOWN`. Learned from its first refusal, so that layers between count
    /// only one.
    native: AtomicUsize,
    blocks: AtomicUsize,
    padding: AtomicUsize,
}

impl AlignedState {
    pub(super) fn new(alignment: usize) -> Self {
        let (blocks, padding) = Default::default();
        Self { alignment, threshold: 0, native: AtomicUsize::new(UNKNOWN), blocks, padding }
    }

    /// Returns the alignment in bytes.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{CudaResource, Device};
    /// # use cumem_adaptors::ResourceExt;
    /// # let device = Device::simulated(Profile::default())?;
    /// assert_eq!(CudaResource::new(&device).aligned(4096)?.state().alignment(), 4096);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn alignment(&self) -> usize {
        self.alignment
    }

    /// Returns the bytes from which blocks are aligned.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{CudaResource, Device};
    /// # use cumem_adaptors::ResourceExt;
    /// # let device = Device::simulated(Profile::default())?;
    /// assert_eq!(CudaResource::new(&device).aligned(4096)?.state().threshold(), 0);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn threshold(&self) -> usize {
        self.threshold
    }

    /// Returns the number of live blocks that the adaptor aligned. Only the adaptor can free them.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Buffer, CudaResource, Device, Stream};
    /// # use cumem_adaptors::{PoolOptions, ResourceExt};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// let stack = CudaResource::new(&device).pool(PoolOptions::new())?.aligned(4096)?;
    /// let _page = Buffer::<u8, _>::zeroed(5000, &stream, &stack)?;
    /// assert_eq!((stack.state().blocks(), stack.state().padding()), (1, 0)); // the pool aligns by itself
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn blocks(&self) -> usize {
        self.blocks.load(Relaxed)
    }

    /// Returns the bytes that those blocks take beyond what was requested.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Buffer, CudaResource, Device, Stream};
    /// # use cumem_adaptors::ResourceExt;
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// let stack = CudaResource::new(&device).aligned(4096)?;
    /// let _page = Buffer::<u8, _>::zeroed(4096, &stream, &stack)?;
    /// assert_eq!(stack.state().padding(), 4096 - 256); // the leaf aligns to 256 bytes
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn padding(&self) -> usize {
        self.padding.load(Relaxed)
    }

    /// Returns the alignment of a block that the adaptor aligns, or `None` for a block that passes through.
    #[inline]
    pub(super) fn alignment_for(&self, layout: Layout) -> Option<usize> {
        let (size, own) = (layout.size(), layout.align());
        let wanted = if size >= self.threshold { own.max(self.alignment) } else { own };
        // Every upstream gives 256 bytes of device memory. Whether it gives more is known after its first refusal.
        let given = self.native().min(CUDA_ALLOCATION_ALIGNMENT);
        (size > 0 && (wanted > own || wanted > given)).then_some(wanted)
    }

    #[inline]
    pub(super) fn native(&self) -> usize {
        self.native.load(Relaxed)
    }

    pub(super) fn learn_native(&self, alignment: usize) {
        self.native.fetch_min(alignment, Relaxed);
    }

    pub(super) fn add_own(&self, padding: usize) {
        self.blocks.fetch_add(1, Relaxed);
        self.padding.fetch_add(padding, Relaxed);
    }

    pub(super) fn remove_own(&self, padding: usize) {
        self.blocks.fetch_sub(1, Relaxed);
        self.padding.fetch_sub(padding, Relaxed);
    }

    /// Returns the most bytes of a block in `room` bytes of the upstream. Until the upstream has refused an alignment,
    /// the result allows for padding.
    pub(crate) fn largest_block(&self, room: usize) -> usize {
        let native = match self.native() {
            UNKNOWN => CUDA_ALLOCATION_ALIGNMENT,
            native => native,
        };
        room.saturating_sub(self.alignment.saturating_sub(native))
    }

    pub(super) fn describe(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "aligned({}", Size::Bytes(self.alignment))?;
        if self.threshold > 0 {
            write!(f, ", threshold={}", Size::Bytes(self.threshold))?;
        }
        f.write_str(")")
    }
}
