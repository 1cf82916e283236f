//! [`ProfileReport`]: calls, total and peak by name.
#![forbid(unsafe_code)]

use cumem::error::HumanBytes;
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The figures of one name.
///
/// # Examples
///
/// ```
/// # use cumem::sim::Profile;
/// # use cumem::{CudaResource, Device};
/// # use cumem_adaptors::ResourceExt;
/// # let device = Device::simulated(Profile::default())?;
/// let memory = CudaResource::new(&device).statistics();
/// drop(memory.state().named_scope("idle"));
/// let row = &memory.state().profile().rows[0];
/// assert_eq!((&*row.name, row.calls, row.total_bytes), ("idle", 1, 0));
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct ProfileRow {
    /// The name of a scope or of a tag.
    pub name: String,
    /// The number of scopes that have ended, or of allocations with the tag.
    pub calls: u64,
    /// Bytes of all allocations.
    pub total_bytes: u64,
    /// The most bytes that were live at once: within one scope, or with the tag.
    pub peak_bytes: u64,
    /// All allocations.
    pub total_blocks: u64,
    /// The most blocks that were live at once.
    pub peak_blocks: u64,
    /// Allocations that failed. Always 0 for a tag.
    pub failures: u64,
}

/// The order of the rows of a [`ProfileReport`].
///
/// # Examples
///
/// ```
/// # use cumem::sim::Profile;
/// # use cumem::{CudaResource, Device};
/// # use cumem_adaptors::{ProfileOrder, ResourceExt};
/// # let device = Device::simulated(Profile::default())?;
/// let memory = CudaResource::new(&device).statistics();
/// ["b", "a", "b"].map(|name| drop(memory.state().named_scope(name)));
/// assert_eq!(memory.state().profile().sorted_by(ProfileOrder::Calls).rows[0].name, "b");
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ProfileOrder {
    /// The largest peak first.
    PeakBytes,
    /// The largest total first.
    TotalBytes,
    /// The most calls first.
    Calls,
    /// By name.
    Name,
}

/// Figures by name, like the report of RMM's profiler. [`StatisticsState::profile`](crate::StatisticsState::profile)
/// returns the figures of named scopes, and [`TrackingState::profile`](crate::TrackingState::profile) those of tags.
///
/// # Examples
///
/// ```
/// use cumem::sim::Profile;
/// use cumem::{Buffer, CudaResource, Device, Stream};
/// use cumem_adaptors::{ProfileOrder, ResourceExt};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let device = Device::simulated(Profile::default())?;
/// let stream = Stream::new(&device)?;
/// let memory = CudaResource::new(&device).statistics();
/// for bytes in [4096, 1024] {
///     let _scope = memory.state().named_scope("load");
///     drop(Buffer::<u8, _>::zeroed(bytes, &stream, &memory)?);
/// }
/// drop(memory.state().named_scope("idle"));
/// let report = memory.state().profile();
/// let load = &report.rows[0]; // the largest peak is first
/// assert_eq!((&*load.name, load.calls, load.total_bytes, load.peak_bytes), ("load", 2, 5120, 4096));
/// assert_eq!(report.sorted_by(ProfileOrder::Name).rows[0].name, "idle");
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct ProfileReport {
    /// One row for each name, the largest peak first.
    pub rows: Vec<ProfileRow>,
}

impl ProfileReport {
    pub(crate) fn new(rows: Vec<ProfileRow>) -> Self {
        Self { rows }.sorted_by(ProfileOrder::PeakBytes)
    }

    /// Returns the report with its rows in an order. Rows that are equal in it are in the order of their names.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{CudaResource, Device};
    /// # use cumem_adaptors::{ProfileOrder, ResourceExt};
    /// # let device = Device::simulated(Profile::default())?;
    /// let memory = CudaResource::new(&device).statistics();
    /// ["b", "a"].map(|name| drop(memory.state().named_scope(name)));
    /// assert_eq!(memory.state().profile().sorted_by(ProfileOrder::Name).rows[0].name, "a");
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn sorted_by(mut self, order: ProfileOrder) -> Self {
        self.rows.sort_by(|a, b| a.name.cmp(&b.name));
        match order {
            ProfileOrder::PeakBytes => self.rows.sort_by_key(|row| Reverse(row.peak_bytes)),
            ProfileOrder::TotalBytes => self.rows.sort_by_key(|row| Reverse(row.total_bytes)),
            ProfileOrder::Calls => self.rows.sort_by_key(|row| Reverse(row.calls)),
            ProfileOrder::Name => {}
        }
        self
    }
}

/// A table with a line for each name.
impl fmt::Display for ProfileReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.rows.iter().map(|row| row.name.chars().count()).max().unwrap_or(0).max(4);
        write!(f, "{:<width$}  {:>10}  {:>12}  {:>12}", "name", "calls", "peak", "total")?;
        for row in &self.rows {
            let [peak, total] = [row.peak_bytes, row.total_bytes].map(|bytes| HumanBytes(bytes as usize).to_string());
            write!(f, "\n{:<width$}  {:>10}  {peak:>12}  {total:>12}", row.name, row.calls)?;
        }
        Ok(())
    }
}

/// Rows that threads add to.
#[derive(Debug, Default)]
pub(crate) struct ProfileRows(Mutex<BTreeMap<Arc<str>, ProfileRow>>);

impl ProfileRows {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, ProfileRow>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds the figures of one call to the row of its name. Totals add up, and of peaks the largest counts.
    pub(crate) fn add(&self, name: &Arc<str>, call: &ProfileRow) {
        let mut rows = self.lock();
        let row = rows.entry(Arc::clone(name)).or_default();
        row.calls += call.calls;
        row.total_bytes += call.total_bytes;
        row.total_blocks += call.total_blocks;
        row.failures += call.failures;
        row.peak_bytes = row.peak_bytes.max(call.peak_bytes);
        row.peak_blocks = row.peak_blocks.max(call.peak_blocks);
    }

    pub(crate) fn report(&self) -> ProfileReport {
        let rows = self.lock().iter().map(|(name, row)| ProfileRow { name: (&**name).into(), ..row.clone() }).collect();
        ProfileReport::new(rows)
    }

    pub(crate) fn clear(&self) {
        let rows = std::mem::take(&mut *self.lock());
        drop(rows);
    }
}
