//! [`Stitches`]: what is stitched at present.

use crate::pool::chunks::Chunks;
use crate::pool::fence::Fences;
use cumem::{Alias, CudaVirtualResource, DriverError, Stream, UnmapError};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// What is stitched at present.
#[derive(Debug, Default)]
pub(in crate::pool) struct Stitches {
    /// By where their memory begins, in units.
    pub(super) by_addr: BTreeMap<u64, Stitch>,
    /// The chunks cannot be mapped a second time: they are not the leaf's, or the driver has no such call.
    pub(super) unavailable: bool,
}

#[derive(Debug)]
pub(super) struct Stitch {
    pub(super) alias: Alias,
    /// Where the memory is at home.
    pub(super) parts: Vec<Range<u64>>,
    pub(super) units: u64,
    /// How many of them have not gone home.
    pub(super) remaining: u64,
    /// What those that have gone were used by, at the alias.
    pub(super) alias_uses: Fences,
}

impl Stitches {
    /// Gives the addresses back of the stitch at `at`, all of whose memory has gone home. While work still uses them
    /// they stay, unless the host waits for it.
    pub(super) fn unmap(
        &mut self,
        at: u64,
        leaf: &CudaVirtualResource,
        service: &Stream,
        force: bool,
    ) -> Result<(), DriverError> {
        let Some(stitch) = self.by_addr.get_mut(&at) else { return Ok(()) };
        if !stitch.alias_uses.are_reached() {
            if !force {
                return Ok(());
            }
            stitch.alias_uses.wait_on(service)?;
            service.synchronize()?;
        }
        let Some(Stitch { alias, parts, units, remaining, alias_uses }) = self.by_addr.remove(&at) else {
            return Ok(());
        };
        // SAFETY: nothing of the range is handed out any more, and the work that used it has ended.
        unsafe { leaf.unmap_alias(alias) }.map_err(|UnmapError { alias, reason, .. }| {
            self.by_addr.insert(at, Stitch { alias, parts, units, remaining, alias_uses });
            reason
        })
    }

    /// The chunks that are mapped a second time, by where they begin.
    pub(in crate::pool) fn aliased_chunks(&self, chunks: &Chunks) -> BTreeSet<u64> {
        let parts = self.by_addr.values().flat_map(|stitch| &stitch.parts);
        parts.map(|part| chunks.chunk_at(part.start).0).collect()
    }
}

impl Stitch {
    /// Where memory is at home that begins `offset` units into the stitch.
    pub(super) fn original_ranges(&self, offset: Range<u64>) -> impl Iterator<Item = Range<u64>> {
        let mut before = 0;
        self.parts.iter().filter_map(move |part| {
            let (from, len) = (before, part.end - part.start);
            before += len;
            let start = offset.start.clamp(from, before) - from;
            let end = offset.end.clamp(from, before) - from;
            (start < end).then(|| part.start + start..part.start + end)
        })
    }
}
