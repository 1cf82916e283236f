//! [`CaptureCount`]: how many captures of a device are underway.

use std::sync::atomic::{AtomicUsize, Ordering};

/// The number of captures that are underway.
#[derive(Debug, Default)]
pub(crate) struct CaptureCount(AtomicUsize);

impl CaptureCount {
    pub(super) fn begin(&self) {
        self.0.fetch_add(1, Ordering::AcqRel);
    }

    pub(super) fn end(&self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }

    #[inline]
    pub(super) fn any(&self) -> bool {
        self.0.load(Ordering::Acquire) > 0
    }
}
