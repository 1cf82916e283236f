//! Free blocks go back to the upstream: those that are too many, all of them when memory runs out, and at the end.

use super::kept::Kept;
use super::{Bins, CELLS};
use crate::unfreed::Unfreed;
use cumem::error::{DeallocReason, DropError, ErrorReport, TrimError, catch_drop_panic, record_drop_error};
use cumem::sim::declare_released;
use cumem::{DeallocError, DeviceError, Stream, Upstream};
use std::fmt;

/// The result of a flush.
#[derive(Debug, Default)]
pub(crate) struct Freed {
    pub(crate) bytes: usize,
    /// The first reason why a block was not freed. The block is in its list again.
    pub(crate) refused: Option<DeallocReason>,
}

/// Blocks that are being freed. If the upstream panics at one of them, the others go back into their lists.
struct Leaving<'a> {
    bins: &'a Bins,
    blocks: Vec<Kept>,
}

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        std::mem::take(&mut self.blocks).into_iter().for_each(|kept| self.bins.keep_on(kept));
    }
}

impl Leaving<'_> {
    fn free(mut self, upstream: &impl Upstream, stream: &Stream, freed: &mut Freed) {
        while let Some(kept) = self.blocks.pop() {
            self.bins.free_one(upstream, stream, kept, freed);
        }
    }
}

impl Bins {
    /// Frees all free blocks to the upstream.
    ///
    /// A block is freed on the stream in whose list it is. If this thread cannot use that stream, for example because it
    /// is another thread's default stream, the host waits for the device, and the block is freed on a stream of its own.
    pub(crate) fn flush(&self, upstream: &impl Upstream) -> Freed {
        let mut freed = Freed::default();
        let mut unusable = Leaving { bins: self, blocks: Vec::new() };
        for cell in 0..CELLS {
            let (taken, _streams) = self.cells[cell].lock().take_all();
            let mut taken = Leaving { bins: self, blocks: taken };
            while let Some(kept) = taken.blocks.pop() {
                match kept.stream.usable().filter(|stream| !stream.is_captured()).cloned() {
                    Some(stream) => self.free_one(upstream, &stream, kept, &mut freed),
                    None => unusable.blocks.push(kept),
                }
            }
        }
        if unusable.blocks.is_empty() {
            return freed;
        }
        match self.after_all_work() {
            Ok(stream) => unusable.free(upstream, &stream, &mut freed),
            Err(error) => {
                freed.refused.get_or_insert(error.into());
            }
        }
        freed
    }

    /// Frees all free blocks if they have more than `keep` bytes.
    pub(crate) fn trim(&self, upstream: &impl Upstream, keep: usize) -> Result<usize, TrimError> {
        if self.cached_bytes() <= keep {
            return Ok(0);
        }
        let Freed { bytes, refused } = self.flush(upstream);
        refused.map_or(Ok(bytes), |reason| Err(TrimError::new(bytes, reason)))
    }

    /// Frees all free blocks because the adaptor is dropped. If the upstream panics at a block, the others are freed all
    /// the same. Records blocks that stay.
    pub(crate) fn close(&self, what: &'static str, upstream: &impl Upstream) {
        let (device, mut left) = (self.device.id(), usize::MAX);
        let mut refused = None;
        while !catch_drop_panic(what, Some(device), || refused = self.flush(upstream).refused) {
            // A block whose free panics is no longer in a list. If none went, another round would not help.
            let cached = self.cached_bytes();
            if cached >= left {
                break;
            }
            left = cached;
        }
        record_drop_error(what, refused.map_or(Ok(()), |reason| Err(Refused(reason))));
    }

    /// Records the blocks that are live when the adaptor is dropped.
    pub(crate) fn report_live(&self, what: &str) {
        let (blocks, bytes) = self.live();
        Unfreed { device: self.device.id(), blocks: Some(blocks as u64), bytes: bytes as u64 }.report(what);
    }

    /// Waits for the work of the device, and returns a new stream. Everything is ordered before its work.
    fn after_all_work(&self) -> Result<Stream, DeviceError> {
        if self.device.has_captures() {
            return Err(DeviceError::Captured { device: self.device.id(), what: "a wait for the whole device" });
        }
        let stream = Stream::new(&self.device)?;
        self.device.synchronize()?;
        Ok(stream)
    }

    /// Frees blocks to the upstream on a stream that the thread uses now. A block that the upstream refuses stays.
    pub(super) fn free_on(&self, upstream: &impl Upstream, stream: &Stream, blocks: Vec<Kept>) {
        Leaving { bins: self, blocks }.free(upstream, stream, &mut Freed::default());
    }

    fn free_one(&self, upstream: &impl Upstream, stream: &Stream, kept: Kept, freed: &mut Freed) {
        let Kept { block, bin, stream: of } = kept;
        if self.detects_races() {
            declare_released(&block, stream);
        }
        let bytes = block.size();
        // SAFETY: the upstream made the block, which is free. All its uses were enqueued before the present point of the
        // stream in whose list it was: `stream` is that stream, or the work of the whole device is done.
        match unsafe { upstream.deallocate(stream, block) } {
            Ok(()) => freed.bytes += bytes,
            Err(DeallocError { block, reason, .. }) => {
                freed.refused.get_or_insert(reason);
                self.keep_on(Kept { block, bin, stream: of });
            }
        }
    }

    /// Puts a block back into the list of its stream, however long the list is.
    fn keep_on(&self, kept: Kept) {
        self.insert_free(kept, usize::MAX);
    }
}

/// The reason why a dropped adaptor could not free a block.
struct Refused(DeallocReason);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "free blocks stay allocated: {}", ErrorReport::of(&self.0))
    }
}

impl DropError for Refused {
    fn is_driver_shut_down(&self) -> bool {
        matches!(&self.0, DeallocReason::Device(error) if error.is_driver_shut_down())
    }
}
