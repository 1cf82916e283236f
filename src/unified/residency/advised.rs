//! [`AdvisedParts`]: where advice that went through this library began and ended.
//!
//! The driver says of a range only what all of its pages have been told. To learn what parts of it have been told, it
//! is asked about each part by itself; this knows where they end, and the driver what they were told.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The driver takes advice for whole pages, of at least so many bytes.
const PAGE: u64 = 4096;

/// Addresses at which advice changes, or did.
#[derive(Debug, Default)]
pub(crate) struct AdvisedParts(Mutex<BTreeSet<u64>>);

impl AdvisedParts {
    /// Advice was given about these bytes.
    pub(crate) fn advised(&self, addr: u64, bytes: usize) {
        let end = addr.saturating_add(bytes as u64);
        self.lock().extend([addr - addr % PAGE, end.next_multiple_of(PAGE)]);
    }

    /// These bytes went back to the driver, which forgets what it was told about them.
    pub(crate) fn forget(&self, addr: u64, bytes: usize) {
        let mut ends = self.lock();
        if !ends.is_empty() {
            let gone: Vec<u64> = ends.range(addr..=addr.saturating_add(bytes as u64)).copied().collect();
            for end in gone {
                ends.remove(&end);
            }
        }
    }

    /// The parts of `range` (bytes from `addr`) whose pages were always told the same.
    pub(crate) fn within(&self, addr: u64, range: Range<usize>) -> Vec<Range<usize>> {
        if range.is_empty() {
            return vec![range];
        }
        let inner = addr + range.start as u64 + 1..addr + range.end as u64;
        let ends: Vec<usize> = self.lock().range(inner).map(|end| (end - addr) as usize).collect();
        let starts = [range.start].into_iter().chain(ends.iter().copied());
        starts.zip(ends.iter().copied().chain([range.end])).map(|(start, end)| start..end).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeSet<u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_end_where_advice_did_and_are_forgotten_with_their_memory() {
        let parts = AdvisedParts::default();
        let within = |start, end| {
            let parts = parts.within(0x10000, start..end);
            parts.into_iter().map(|part| (part.start, part.end)).collect::<Vec<_>>()
        };
        assert_eq!(within(0, 100), [(0, 100)]);
        parts.advised(0x10000 + 5000, 10);
        assert_eq!(within(0, 9000), [(0, 4096), (4096, 8192), (8192, 9000)], "whole pages");
        assert_eq!(within(4096, 8192), [(4096, 8192)]);
        assert_eq!(within(7, 7), [(7, 7)]);
        parts.forget(0x11000, 1);
        assert_eq!(within(0, 9000), [(0, 8192), (8192, 9000)]);
        parts.forget(0x10000, 0x2000);
        assert_eq!(within(0, 9000), [(0, 9000)]);
    }
}
