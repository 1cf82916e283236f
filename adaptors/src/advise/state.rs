//! [`AdviseState`]: a policy, and counts of the blocks that have its advice.
#![forbid(unsafe_code)]

use crate::size::Size;
use cumem::unified::{Advice, MigrationPolicy};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The policy of an [`Advise`](super::Advise), and counts of its blocks.
///
/// # Examples
///
/// ```
/// use cumem::sim::Profile;
/// use cumem::unified::MigrationPolicy;
/// use cumem::{AnyResource, Buffer, Device, LayerExt, ManagedResource, Stream};
/// use cumem_adaptors::{AdviseState, ResourceExt};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let device = Device::simulated(Profile::default())?;
/// let stream = Stream::new(&device)?;
/// let stack = AnyResource::new(ManagedResource::new(&device)?.advise(MigrationPolicy::ReadMostly)?.statistics());
/// let _table = Buffer::<u8, _>::zeroed(1000, &stream, &stack)?;
/// let state = stack.find::<AdviseState>().unwrap();
/// assert_eq!((state.blocks(), state.bytes(), state.skipped(), state.kept()), (1, 1000, 0, 0));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct AdviseState {
    policy: MigrationPolicy,
    pub(super) threshold: usize,
    passes_through: bool,
    blocks: AtomicU64,
    bytes: AtomicU64,
    skipped: AtomicU64,
    kept: AtomicU64,
}

impl AdviseState {
    pub(super) fn new(policy: MigrationPolicy, passes_through: bool) -> Self {
        let (blocks, bytes, skipped, kept) = Default::default();
        Self { policy, threshold: 0, passes_through, blocks, bytes, skipped, kept }
    }

    /// Returns the policy.
    pub fn policy(&self) -> &MigrationPolicy {
        &self.policy
    }

    /// Returns the bytes from which blocks are advised.
    pub fn threshold(&self) -> usize {
        self.threshold
    }

    /// Reports whether blocks are returned without advice, because advice has no effect on the device.
    pub fn passes_through(&self) -> bool {
        self.passes_through
    }

    /// Returns the number of blocks that were advised, also of those that have been freed since.
    pub fn blocks(&self) -> u64 {
        self.blocks.load(Relaxed)
    }

    /// Returns the bytes of those blocks.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Relaxed)
    }

    /// Returns the number of blocks that the driver was not advised about, although they are as large as the
    /// [threshold](Self::threshold).
    pub fn skipped(&self) -> u64 {
        self.skipped.load(Relaxed)
    }

    /// Returns the number of freed blocks whose pages kept advice, because the driver refused to take it back.
    pub fn kept(&self) -> u64 {
        self.kept.load(Relaxed)
    }

    /// Reports whether a block of `size` bytes is advised. Counts a block that is not, because of the device.
    pub(super) fn applies_to(&self, size: usize) -> bool {
        if size < self.threshold || size == 0 {
            return false;
        }
        if self.passes_through {
            self.count_skipped();
        }
        !self.passes_through
    }

    pub(super) fn count_advised(&self, bytes: usize) {
        self.blocks.fetch_add(1, Relaxed);
        self.bytes.fetch_add(bytes as u64, Relaxed);
    }

    pub(super) fn count_skipped(&self) {
        self.skipped.fetch_add(1, Relaxed);
    }

    pub(super) fn count_kept(&self) {
        self.kept.fetch_add(1, Relaxed);
    }

    pub(super) fn describe(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("advise(")?;
        for (i, advice) in self.policy.advices().into_iter().enumerate() {
            f.write_str(if i > 0 { ", " } else { "" })?;
            match advice {
                Advice::SetPreferredLocation(at) => write!(f, "prefer={at}")?,
                Advice::SetAccessedBy(by) => write!(f, "accessed_by={by}")?,
                Advice::SetReadMostly => f.write_str("read_mostly")?,
                // A policy gives no other advice.
                other => write!(f, "{other}")?,
            }
        }
        if self.threshold > 0 {
            write!(f, ", threshold={}", Size::Bytes(self.threshold))?;
        }
        f.write_str(if self.passes_through { ", passing through)" } else { ")" })
    }
}
