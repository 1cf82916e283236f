//! [`TrackingOptions`].

use super::report::TrackingReport;
use std::fmt;

/// A function that is called with the report of live blocks.
pub(super) type OnLeak = Box<dyn Fn(&TrackingReport) + Send + Sync>;

/// What a [`Tracking`](crate::Tracking) records, and what happens to its report.
///
/// # Examples
///
/// ```
/// use cumem::sim::Profile;
/// use cumem::{Buffer, CudaResource, Device, Stream};
/// use cumem_adaptors::{ResourceExt, TrackingOptions};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let device = Device::simulated(Profile::default())?;
/// let stack = CudaResource::new(&device).tracking(TrackingOptions::new().traces_from(1 << 20));
/// let stream = Stream::new(&device)?;
/// let small = Buffer::<u8, _>::zeroed(1000, &stream, &stack)?;
/// let large = Buffer::<u8, _>::zeroed(1 << 20, &stream, &stack)?;
/// let with_traces: Vec<bool> = stack.state().live().iter().map(|block| block.trace.is_some()).collect();
/// assert_eq!(with_traces, [false, true]); // oldest first
/// # drop((small, large));
/// # Ok(())
/// # }
/// ```
#[must_use]
#[derive(Default)]
pub struct TrackingOptions {
    pub(super) traces_from: Option<usize>,
    pub(super) on_leak: Option<OnLeak>,
}

impl TrackingOptions {
    /// Creates options without stack traces.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem_adaptors::TrackingOptions;
    ///
    /// let options = TrackingOptions::new();
    /// assert!(format!("{options:?}").contains("traces_from: None"));
    /// ```
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes a stack trace of each allocation of at least `bytes`. A trace takes microseconds, and about a kilobyte per
    /// block.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{CudaResource, Device};
    /// # use cumem_adaptors::{ResourceExt, TrackingOptions};
    /// # let device = Device::simulated(Profile::default())?;
    /// let stack = CudaResource::new(&device).tracking(TrackingOptions::new().traces_from(0)); // of every block
    /// assert!(stack.to_string().starts_with("tracking(traces)"));
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn traces_from(mut self, bytes: usize) -> Self {
        self.traces_from = Some(bytes);
        self
    }

    /// Calls `report` if blocks are live when the stack is dropped, or when the process ends before. By default, a drop
    /// records the report for [`take_drop_errors`](cumem::error::take_drop_errors), and the end of the process writes
    /// the report to standard error. No lock of this library is held during the call.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{CudaResource, Device, MemoryResource, Stream, layout};
    /// # use cumem_adaptors::{ResourceExt, TrackingOptions};
    /// use std::sync::atomic::{AtomicUsize, Ordering};
    ///
    /// static LEAKED: AtomicUsize = AtomicUsize::new(0);
    /// # let device = Device::simulated(Profile::default())?;
    /// let options = TrackingOptions::new().on_leak(|report| LEAKED.store(report.bytes, Ordering::Relaxed));
    /// let stack = CudaResource::new(&device).tracking(options);
    /// let leaked = stack.allocate(&Stream::new(&device)?, layout::bytes(1000)?)?;
    /// drop(stack);
    /// assert_eq!(LEAKED.load(Ordering::Relaxed), 1000);
    /// # let _ = leaked;
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn on_leak(mut self, report: impl Fn(&TrackingReport) + Send + Sync + 'static) -> Self {
        self.on_leak = Some(Box::new(report));
        self
    }
}

impl fmt::Debug for TrackingOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TrackingOptions").field("traces_from", &self.traces_from).finish_non_exhaustive()
    }
}
