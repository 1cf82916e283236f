//! [`NamedScope`]: a scope whose counts are added to the profile under a name.
#![forbid(unsafe_code)]

use super::scope::Scope;
use crate::profile::{ProfileRow, ProfileRows};
use cumem::error::HumanBytes;
use std::fmt;
use std::sync::Arc;

/// A count of the calling thread's calls, which is added to the [profile](super::StatisticsState::profile) when it is
/// dropped. [`StatisticsState::named_scope`](super::StatisticsState::named_scope) returns it.
///
/// # Examples
///
/// ```
/// # use cumem::sim::Profile;
/// # use cumem::{CudaResource, Device, Buffer, Stream};
/// # use cumem_adaptors::ResourceExt;
/// # let device = Device::simulated(Profile::default())?;
/// # let stream = Stream::new(&device)?;
/// let memory = CudaResource::new(&device).statistics();
/// let scope = memory.state().named_scope("load");
/// drop(Buffer::<u8, _>::zeroed(1000, &stream, &memory)?);
/// assert!(memory.state().profile().rows.is_empty()); // the scope has not ended
/// drop(scope);
/// assert_eq!(memory.state().profile().rows[0].total_bytes, 1000);
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[must_use = "the scope ends as soon as this guard is dropped"]
pub struct NamedScope<'a> {
    pub(super) scope: Scope<'a>,
    pub(super) name: Arc<str>,
    pub(super) rows: &'a ProfileRows,
}

impl Drop for NamedScope<'_> {
    fn drop(&mut self) {
        let counts = self.scope.counts();
        let row = ProfileRow {
            name: String::new(),
            calls: 1,
            total_bytes: counts.total_bytes,
            peak_bytes: counts.peak_bytes.unsigned_abs(),
            total_blocks: counts.total_blocks,
            peak_blocks: counts.peak_blocks.unsigned_abs(),
            failures: counts.failures,
        };
        self.rows.add(&self.name, &row);
    }
}

impl fmt::Debug for NamedScope<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NamedScope({}, {})", self.name, HumanBytes(self.scope.counts().total_bytes as usize))
    }
}
