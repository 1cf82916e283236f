//! [`assert_counts!`](crate::assert_counts!): a budget of memory for a part of a test.

use super::{Counts, Scope, StatisticsState};
use cumem::sim::assertions::Expected;
use cumem::{Layer, LayerExt};

/// Asserts what a block of code allocates through a stack with [`Statistics`](crate::Statistics). Each `field = figure`
/// names a field of [`Counts`](crate::Counts). A figure is a `u64`, or one of the ranges `a..=b`, `..=b` and `a..`. The
/// value of the macro is the block's value.
///
/// The counts are those of all threads within the block. The macro reads the counters of the outermost `Statistics` of
/// the stack, so it works on GPUs and on simulated devices.
///
/// # Examples
///
/// ```
/// use cumem::sim::Profile;
/// use cumem::{Buffer, CudaResource, Device, Stream};
/// use cumem_adaptors::{ResourceExt, assert_counts};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let device = Device::simulated(Profile::default())?;
/// let stream = Stream::new(&device)?;
/// let memory = CudaResource::new(&device).statistics();
/// let sum: u32 = assert_counts!(memory, peak_bytes = ..=4096, total_blocks = 1, current_blocks = 0, {
///     Buffer::from_slice(&[1_u32, 2, 3], &stream, &memory)?.to_vec()?.iter().sum()
/// });
/// assert_eq!(sum, 6);
/// # Ok(())
/// # }
/// ```
///
/// # Panics
///
/// Panics with all counts if a figure is not as expected, or if the stack has no `Statistics`.
#[macro_export]
macro_rules! assert_counts {
    ($stack:expr, $($field:ident = $expected:expr),+, $body:block $(,)?) => {{
        let scope = $crate::statistics::assertion::scope(&$stack);
        let value = $body;
        let counts = scope.end();
        $($crate::statistics::assertion::figure(&counts, stringify!($field), counts.$field as i64, &$expected);)+
        value
    }};
}

#[doc(hidden)] // for the macro
#[track_caller]
pub fn scope(stack: &dyn Layer) -> Scope<'_> {
    match stack.find::<StatisticsState>() {
        Some(statistics) => statistics.scope(),
        None => panic!("the stack has no statistics, so its memory cannot be counted"),
    }
}

#[doc(hidden)] // for the macro
#[track_caller]
pub fn figure(counts: &Counts, name: &str, found: i64, expected: &impl Expected) {
    let allowed = u64::try_from(found).is_ok_and(|found| expected.allows(found));
    assert!(allowed, "{name} is {found}, expected {expected:?}; all in all: {counts}");
}
