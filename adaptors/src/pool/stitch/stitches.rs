//! [`Stitches`]: the stitches that exist at present.

use crate::pool::chunks::Chunks;
use crate::pool::fence::Fences;
use cumem::resources::{Alias, AliasError, UnmapError};
use cumem::{CudaVirtualResource, DeviceError, Stream};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// The stitches that exist at present.
#[derive(Debug, Default)]
pub(in crate::pool) struct Stitches {
    /// The stitches by the address, in units, where their memory begins.
    pub(super) by_addr: BTreeMap<u64, Stitch>,
    /// The chunks cannot be mapped a second time: they are not the leaf's, or the driver does not have that call.
    pub(super) unavailable: bool,
}

#[derive(Debug)]
pub(super) struct Stitch {
    pub(super) alias: Alias,
    /// The original addresses of the memory.
    pub(super) parts: Vec<Range<u64>>,
    pub(super) units: u64,
    /// Units that have not returned to their original address.
    pub(super) remaining: u64,
    /// The uses, at the alias, of the units that have returned.
    pub(super) alias_uses: Fences,
}

impl Stitches {
    pub(in crate::pool) fn is_empty(&self) -> bool {
        self.by_addr.is_empty()
    }

    /// Unmaps the stitch at `at`, all of whose memory has returned. If work still uses its addresses, the stitch stays
    /// mapped; with `force`, the host waits for that work.
    pub(super) fn unmap(
        &mut self,
        at: u64,
        leaf: &CudaVirtualResource,
        service: &Stream,
        force: bool,
    ) -> Result<(), DeviceError> {
        let Some(stitch) = self.by_addr.get_mut(&at) else { return Ok(()) };
        if !stitch.alias_uses.are_reached() {
            if !force {
                return Ok(());
            }
            stitch.alias_uses.finish_before(service)?;
            service.synchronize()?;
        }
        let Some(Stitch { alias, parts, units, remaining, alias_uses }) = self.by_addr.remove(&at) else {
            return Ok(());
        };
        // SAFETY: no memory of the range is allocated, and the work that used it has ended.
        unsafe { leaf.unmap_alias(alias) }.map_err(|UnmapError { alias, reason, .. }| {
            self.by_addr.insert(at, Stitch { alias, parts, units, remaining, alias_uses });
            match reason {
                AliasError::Driver(error) => error.into(),
                other => unreachable!("the pool unmaps its own aliases: {other}"),
            }
        })
    }

    /// Returns the start of each chunk that is mapped a second time.
    pub(in crate::pool) fn aliased_chunks(&self, chunks: &Chunks) -> BTreeSet<u64> {
        let parts = self.by_addr.values().flat_map(|stitch| &stitch.parts);
        parts.map(|part| chunks.chunk_at(part.start).0).collect()
    }
}

impl Stitch {
    /// Returns the original addresses of the memory at `offset` units into the stitch.
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
