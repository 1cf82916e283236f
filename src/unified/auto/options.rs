//! [`AutoPrefetchOptions`].
#![forbid(unsafe_code)]

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
