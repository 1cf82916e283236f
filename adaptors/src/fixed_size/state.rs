//! [`FixedSizeState`]: the block size, and the blocks.
#![forbid(unsafe_code)]

use crate::bins::{Bins, KEEP};
use crate::size::Size;
use cumem::AllocError;
use std::alloc::Layout;
use std::fmt;

/// The block size of a [`FixedSize`](super::FixedSize), and its blocks.
///
/// # Examples
///
/// ```
/// use cumem::sim::Profile;
/// use cumem::{AnyResource, Buffer, CudaResource, Device, LayerExt, Stream};
/// use cumem_adaptors::{FixedSizeState, ResourceExt};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let device = Device::simulated(Profile::default())?;
/// let stream = Stream::new(&device)?;
/// let stack = AnyResource::new(CudaResource::new(&device).fixed_size(4096)?.statistics());
/// let live = Buffer::<u8, _>::zeroed(1000, &stream, &stack)?;
/// drop(Buffer::<u8, _>::zeroed(1000, &stream, &stack)?);
/// let state = stack.find::<FixedSizeState>().unwrap();
/// assert_eq!((state.block_size(), state.live_blocks(), state.free_blocks()), (4096, 1, 1));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct FixedSizeState(pub(super) Bins);

impl Drop for FixedSizeState {
    fn drop(&mut self) {
        self.0.report_live("a fixed-size adaptor");
    }
}

impl FixedSizeState {
    /// Returns the bytes of each block, which are the most bytes of a request.
    pub fn block_size(&self) -> usize {
        self.0.sizes()[0]
    }

    /// Returns how many free blocks each stream keeps at most.
    pub fn keep(&self) -> usize {
        self.0.keep
    }

    /// Returns the number of blocks that are handed out.
    pub fn live_blocks(&self) -> usize {
        self.0.live().0
    }

    /// Returns the number of free blocks of all streams.
    pub fn free_blocks(&self) -> usize {
        self.0.cached()[0]
    }

    /// Returns the most bytes of a block if the upstream has room for `room` bytes.
    pub(crate) fn largest_block(&self, room: usize) -> usize {
        self.0.largest_block(room, false)
    }

    /// Refuses a request that is larger than a block.
    #[cold]
    pub(super) fn check_size(&self, layout: Layout) -> Result<(), AllocError> {
        if layout.size() <= self.block_size() {
            return Ok(());
        }
        let (requested, limit) = (layout.size(), self.block_size());
        Err(AllocError::LimitExceeded { layer: "fixed_size".into(), requested, allocated: 0, limit })
    }

    pub(super) fn describe(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "fixed_size({}", Size::Bytes(self.block_size()))?;
        if self.0.keep != KEEP {
            write!(f, ", keep={}", self.0.keep)?;
        }
        f.write_str(")")
    }
}
