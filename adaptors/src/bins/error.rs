//! [`BinError`]: sizes or stacks that cannot have bins.
#![forbid(unsafe_code)]

use crate::scrub::ScrubState;
use cumem::layout::CUDA_ALLOCATION_ALIGNMENT;
use cumem::{LayerExt, layout};

/// A list of a stream for each bin is searched in order, so there are few.
const MOST: usize = 64;

/// The error of the constructors of [`FixedSize`](crate::FixedSize) and [`Binning`](crate::Binning).
///
/// # Examples
///
/// ```
/// use cumem::sim::Profile;
/// use cumem::{CudaResource, Device};
/// use cumem_adaptors::{BinError, ResourceExt};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let device = Device::simulated(Profile::default())?;
/// let error = CudaResource::new(&device).fixed_size(0).unwrap_err();
/// assert_eq!(error, BinError::Size { size: 0 });
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BinError {
    /// A size is zero, or larger than any memory.
    #[error("blocks cannot have a size of {size} bytes")]
    Size {
        /// The size.
        size: usize,
    },
    /// There are no sizes, or too many.
    #[error("there are {count} sizes, and 1 to {MOST} are possible")]
    Count {
        /// The number of different sizes.
        count: usize,
    },
    /// The smallest size is above the largest.
    #[error("the smallest size, {smallest} bytes, is above the largest, {largest}")]
    Order {
        /// The smallest size.
        smallest: usize,
        /// The largest size.
        largest: usize,
    },
    /// A [`Scrub`](crate::Scrub) is beneath, and would not clear the blocks that this adaptor keeps.
    #[error("`{layer}` over `scrub` would hand out memory that is not cleared: `scrub` stands over it")]
    OverScrub {
        /// The adaptor.
        layer: &'static str,
    },
}

/// Returns the sizes in order, each once, as multiples of 256.
pub(super) fn checked(sizes: impl IntoIterator<Item = usize>) -> Result<Box<[usize]>, BinError> {
    let round = |size: usize| {
        let rounded = layout::align_up(size, CUDA_ALLOCATION_ALIGNMENT);
        rounded.filter(|&rounded| rounded > 0 && rounded <= isize::MAX as usize).ok_or(BinError::Size { size })
    };
    let mut sizes = sizes.into_iter().map(round).collect::<Result<Vec<_>, _>>()?;
    sizes.sort_unstable();
    sizes.dedup();
    match sizes.len() {
        1..=MOST => Ok(sizes.into()),
        count => Err(BinError::Count { count }),
    }
}

/// Returns all powers of two from `smallest` to `largest`, which are rounded up to powers of two.
pub(crate) fn powers_of_two(smallest: usize, largest: usize) -> Result<Vec<usize>, BinError> {
    if smallest > largest {
        return Err(BinError::Order { smallest, largest });
    }
    let power = |size: usize| size.checked_next_power_of_two().filter(|_| size > 0).ok_or(BinError::Size { size });
    let (first, last) = (power(smallest)?, power(largest)?);
    Ok((first.ilog2()..=last.ilog2()).map(|shift| 1 << shift).collect())
}

pub(super) fn check_order(layer: &'static str, upstream: &impl LayerExt) -> Result<(), BinError> {
    match upstream.find::<ScrubState>() {
        Some(_) => Err(BinError::OverScrub { layer }),
        None => Ok(()),
    }
}
