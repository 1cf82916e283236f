//! [`AdvisedParts`]: the ends of the ranges that were advised through this library.
//!
//! The driver reports only advice that holds for all pages of a range. If the parts of a range have different advice,
//! each part must be queried by itself. This type stores the ends of the parts, and the driver stores their advice.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The size of the smallest pages, in bytes. The driver advises whole pages.
const PAGE: u64 = 4096;

/// The addresses at which advice changes, or has changed before.
#[derive(Debug, Default)]
pub(crate) struct AdvisedParts(Mutex<BTreeSet<u64>>);

impl AdvisedParts {
    /// Records that advice was given about these bytes.
    pub(crate) fn advised(&self, addr: u64, bytes: usize) {
        let end = addr.saturating_add(bytes as u64);
        self.lock().extend([addr - addr % PAGE, end.next_multiple_of(PAGE)]);
    }

    /// Removes the addresses in these bytes, because the memory was freed to the driver and its advice ended.
    pub(crate) fn remove(&self, addr: u64, bytes: usize) {
        let mut ends = self.lock();
        if !ends.is_empty() {
            let removed: Vec<u64> = ends.range(addr..=addr.saturating_add(bytes as u64)).copied().collect();
            for end in removed {
                ends.remove(&end);
            }
        }
    }

    /// Divides `range` (bytes from `addr`) into parts, so that all advice covered either all pages of a part or none.
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
    fn parts_end_where_advice_did_and_are_removed_with_their_memory() {
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
        parts.remove(0x11000, 1);
        assert_eq!(within(0, 9000), [(0, 8192), (8192, 9000)]);
        parts.remove(0x10000, 0x2000);
        assert_eq!(within(0, 9000), [(0, 9000)]);
    }
}
