//! Prefetch that follows from how a buffer is used: what [`Buffer::auto_prefetch`](crate::Buffer::auto_prefetch) turns
//! on.
//!
//! It sees the [uses](crate::Buffer::device_use) of a buffer that are declared, prefetches of it by the user, the
//! host's guards over it, and what the library knows of where pages are; on a simulated device also the page faults of
//! work that nobody declared, which a GPU's driver does not tell ([`faults`]). Of the uses it learns what comes next
//! ([`predictor`]), and brings that on a stream of its own while the present work runs, so far ahead as its budget
//! goes. Where its guesses are not used it stops bringing and only guesses, until they come true again.
#![forbid(unsafe_code)]

mod ahead;
mod arrival;
mod faults;
mod guesses;
mod observer;
mod predictor;
mod report;
mod stack;

pub(crate) use observer::AutoPrefetch;
pub use report::AutoPrefetchReport;
pub use stack::AutoPrefetched;

use crate::block::Block;
use std::ops::Range;

/// What [`Buffer::auto_prefetch`](crate::Buffer::auto_prefetch) may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct AutoPrefetchOptions {
    /// Bytes that may be on the device or on their way without having been used; of a stack, for all its buffers
    /// together.
    pub budget: usize,
    /// Uses that it may be ahead; 256 and more are the same.
    pub uses_ahead: usize,
}

impl Default for AutoPrefetchOptions {
    fn default() -> Self {
        Self { budget: 256 << 20, uses_ahead: 4 }
    }
}

impl AutoPrefetchOptions {
    /// With another budget, in bytes.
    #[must_use]
    pub fn budget(mut self, bytes: usize) -> Self {
        self.budget = bytes;
        self
    }

    /// With another number of uses to be ahead.
    #[must_use]
    pub fn uses_ahead(mut self, uses: usize) -> Self {
        self.uses_ahead = uses;
        self
    }
}

/// A part of a buffer in use by the device: work that uses it is enqueued on the buffer's stream while this is there.
/// When it goes, what comes next is brought.
#[derive(Debug)]
#[must_use = "work is enqueued while it is there"]
pub struct DeviceUse<'a> {
    address: u64,
    observer: Option<(&'a AutoPrefetch, &'a Block)>,
}

impl<'a> DeviceUse<'a> {
    pub(crate) fn new(address: u64, observer: Option<(&'a AutoPrefetch, &'a Block)>) -> Self {
        Self { address, observer }
    }

    /// The address of the first element, for kernels.
    pub fn device_address(&self) -> u64 {
        self.address
    }
}

impl Drop for DeviceUse<'_> {
    fn drop(&mut self) {
        if let Some((auto, block)) = self.observer {
            auto.bring_ahead(block);
        }
    }
}

fn overlap(a: &Range<usize>, b: &Range<usize>) -> usize {
    a.end.min(b.end).saturating_sub(a.start.max(b.start))
}
