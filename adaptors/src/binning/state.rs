//! [`BinningState`]: the sizes of the bins, and the blocks.
#![forbid(unsafe_code)]

use crate::bins::{Bins, KEEP};
use crate::size::Size;
use std::fmt;

/// The sizes of the bins of a [`Binning`](super::Binning), and its blocks.
///
/// # Examples
///
/// ```
/// use cumem::sim::Profile;
/// use cumem::{AnyResource, Buffer, CudaResource, Device, LayerExt, Stream};
/// use cumem_adaptors::{BinningState, ResourceExt};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let device = Device::simulated(Profile::default())?;
/// let stream = Stream::new(&device)?;
/// let stack = AnyResource::new(CudaResource::new(&device).binning([4096, 8192])?.statistics());
/// drop(Buffer::<u8, _>::zeroed(5000, &stream, &stack)?);
/// let state = stack.find::<BinningState>().unwrap();
/// assert_eq!((state.live_blocks(), state.free_blocks(), state.free_bytes()), (0, vec![0, 1], 8192));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct BinningState(pub(super) Bins);

impl Drop for BinningState {
    fn drop(&mut self) {
        self.0.report_live("a binning adaptor");
    }
}

impl BinningState {
    /// Returns the sizes of the bins in ascending order.
    pub fn sizes(&self) -> &[usize] {
        self.0.sizes()
    }

    /// Returns how many free blocks of each size each stream keeps at most.
    pub fn keep(&self) -> usize {
        self.0.keep
    }

    /// Returns the number of blocks of the bins that are handed out.
    pub fn live_blocks(&self) -> usize {
        self.0.live().0
    }

    /// Returns the number of free blocks of each bin, of all streams.
    pub fn free_blocks(&self) -> Vec<usize> {
        self.0.cached()
    }

    /// Returns the bytes of all free blocks.
    pub fn free_bytes(&self) -> usize {
        self.0.cached_bytes()
    }

    /// Returns the most bytes of a block if the upstream has room for `room` bytes.
    pub(crate) fn largest_block(&self, room: usize) -> usize {
        self.0.largest_block(room, true)
    }

    pub(super) fn describe(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("binning(")?;
        for (i, &size) in self.0.sizes().iter().enumerate() {
            write!(f, "{}{}", if i > 0 { ", " } else { "" }, Size::Bytes(size))?;
        }
        if self.0.keep != KEEP {
            write!(f, ", keep={}", self.0.keep)?;
        }
        f.write_str(")")
    }
}
