//! [`AlignmentError`]: a number that is no alignment.
#![forbid(unsafe_code)]

/// The error of a number that should be an alignment or a rounding, and is not a power of two.
///
/// # Examples
///
/// ```
/// use cumem::sim::Profile;
/// use cumem::{CudaResource, Device};
/// use cumem_adaptors::ResourceExt;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let device = Device::simulated(Profile::default())?;
/// let error = CudaResource::new(&device).aligned(1000).unwrap_err();
/// assert_eq!(error.value, 1000);
/// assert_eq!(error.to_string(), "1000 is no alignment, which is a power of two and at most isize::MAX");
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{value} is no alignment, which is a power of two and at most isize::MAX")]
#[non_exhaustive]
pub struct AlignmentError {
    /// The number.
    pub value: usize,
}

/// Returns `value` if it can be the alignment of a layout.
pub(crate) fn checked(value: usize) -> Result<usize, AlignmentError> {
    match value.is_power_of_two() && value <= isize::MAX as usize {
        true => Ok(value),
        false => Err(AlignmentError { value }),
    }
}
