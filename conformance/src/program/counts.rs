//! [`ExpectedCounts`]: the expected values of a resource's counters.

/// The expected values of a resource's counters after the operations so far: requested bytes, and blocks including
/// those of zero bytes.
///
/// ```
/// use cumem::sim::Profile;
/// use cumem::{Device, ManagedResource, Stream};
/// use cumem_conformance::{BlockLedger, Contents, Program};
///
/// let device = Device::simulated(Profile::default())?;
/// let ledger = BlockLedger::new(ManagedResource::new(&device)?);
/// Program::new(1).operations(50).run(&ledger, &[Stream::new(&device)?], &Contents::untouched(), |expected| {
///     assert_eq!(ledger.book().outstanding_bytes(), expected.bytes);
/// })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct ExpectedCounts {
    /// Live blocks.
    pub blocks: usize,
    /// Bytes of the live blocks.
    pub bytes: usize,
    /// The most blocks that were live at once.
    pub peak_blocks: usize,
    /// The most bytes that were live at once.
    pub peak_bytes: usize,
    /// Blocks that were allocated.
    pub total_blocks: usize,
    /// Bytes of all blocks that were allocated.
    pub total_bytes: usize,
    /// Allocations that were refused.
    pub failures: usize,
}

impl ExpectedCounts {
    pub(crate) fn allocated(&mut self, bytes: usize) {
        self.blocks += 1;
        self.bytes += bytes;
        self.total_blocks += 1;
        self.total_bytes += bytes;
        self.peak_blocks = self.peak_blocks.max(self.blocks);
        self.peak_bytes = self.peak_bytes.max(self.bytes);
    }

    pub(crate) fn freed(&mut self, bytes: usize) {
        self.blocks -= 1;
        self.bytes -= bytes;
    }

    /// Counts a block that was allocated by another thread's program, or that passed through the exchange.
    /// The totals of the allocating program contain it.
    pub(crate) fn moved_in(&mut self, bytes: usize) {
        self.blocks += 1;
        self.bytes += bytes;
        self.peak_blocks = self.peak_blocks.max(self.blocks);
        self.peak_bytes = self.peak_bytes.max(self.bytes);
    }

    /// Returns the sum of the counts of programs that ran at the same time. Their peaks need not have coincided, so the
    /// sum's peaks are upper bounds.
    pub(crate) fn merge(self, other: Self) -> Self {
        Self {
            blocks: self.blocks + other.blocks,
            bytes: self.bytes + other.bytes,
            peak_blocks: self.peak_blocks + other.peak_blocks,
            peak_bytes: self.peak_bytes + other.peak_bytes,
            total_blocks: self.total_blocks + other.total_blocks,
            total_bytes: self.total_bytes + other.total_bytes,
            failures: self.failures + other.failures,
        }
    }
}
