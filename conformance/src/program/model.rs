//! [`Model`]: what a resource's counters should say.

/// What a resource's counters should say after the operations so far: requested bytes, and blocks,
/// those of zero bytes included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Model {
    /// Live blocks.
    pub blocks: usize,
    /// Bytes of them.
    pub bytes: usize,
    /// The most live blocks there were.
    pub peak_blocks: usize,
    /// The most bytes there were.
    pub peak_bytes: usize,
    /// Blocks that were allocated.
    pub total_blocks: usize,
    /// Bytes of them.
    pub total_bytes: usize,
    /// Allocations that were refused.
    pub failures: usize,
}

impl Model {
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

    /// A block came from, or went to, another thread's program, whose total has it.
    pub(crate) fn moved_in(&mut self, bytes: usize) {
        self.blocks += 1;
        self.bytes += bytes;
        self.peak_blocks = self.peak_blocks.max(self.blocks);
        self.peak_bytes = self.peak_bytes.max(self.bytes);
    }

    /// The sum of the totals of programs that ran side by side. Their peaks need not have been at the
    /// same time, so those of the sum are upper bounds.
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
