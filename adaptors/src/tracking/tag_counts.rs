//! [`TagCounts`]: the figures of one tag.
#![forbid(unsafe_code)]

use crate::profile::ProfileRow;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

#[derive(Debug, Default)]
pub(super) struct TagCounts {
    bytes: u64,
    blocks: u64,
    peak_bytes: u64,
    peak_blocks: u64,
    total_bytes: u64,
    total_blocks: u64,
}

/// Returns the number that decides in which part the counts of a tag are.
pub(super) fn tag_hash(tag: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    tag.hash(&mut hasher);
    hasher.finish()
}

impl TagCounts {
    pub(super) fn allocated(&mut self, bytes: u64) {
        self.total_bytes += bytes;
        self.total_blocks += 1;
        self.live_again(bytes);
    }

    pub(super) fn live_again(&mut self, bytes: u64) {
        self.bytes += bytes;
        self.blocks += 1;
        self.peak_bytes = self.peak_bytes.max(self.bytes);
        self.peak_blocks = self.peak_blocks.max(self.blocks);
    }

    pub(super) fn freed(&mut self, bytes: u64) {
        self.bytes -= bytes;
        self.blocks -= 1;
    }

    pub(super) fn row((name, counts): (&Arc<str>, &Self)) -> ProfileRow {
        ProfileRow {
            name: (&**name).into(),
            calls: counts.total_blocks,
            total_bytes: counts.total_bytes,
            peak_bytes: counts.peak_bytes,
            total_blocks: counts.total_blocks,
            peak_blocks: counts.peak_blocks,
            failures: 0,
        }
    }
}
