//! [`Probe`]: a way to access the memory of blocks.

use crate::broken::Outcome;
use cumem::{Block, Stream};

/// A way to access memory.
pub(super) trait Probe: Send + Sync {
    /// Writes the pattern of `serial`, before any work that is enqueued on `stream` later.
    ///
    /// # Safety
    ///
    /// The caller must ensure that:
    ///
    /// - the block is live and ready on `stream`;
    /// - its kind is one that this probe can access;
    /// - nothing else uses it meanwhile.
    unsafe fn write(&self, stream: &Stream, block: &Block, serial: u64) -> Outcome;

    /// Compares the block with the pattern of `serial`. A difference may be reported only by the next
    /// [`settle`](Self::settle).
    ///
    /// # Safety
    ///
    /// The caller must ensure the same as for `write`.
    unsafe fn verify(&self, stream: &Stream, block: &Block, serial: u64) -> Outcome;

    /// Reports the differences that verifications have found and not yet returned. All streams of the verifications
    /// must be idle.
    fn settle(&self) -> Outcome;
}
