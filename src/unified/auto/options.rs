//! [`AutoPrefetchOptions`]: the limits of automatic prefetch.
#![forbid(unsafe_code)]

/// The limits of automatic prefetch: a budget in bytes, and how many uses it predicts ahead.
///
/// # Examples
///
/// ```
/// use cumem::unified::AutoPrefetchOptions;
///
/// let options = AutoPrefetchOptions::default().budget(64 << 20).uses_ahead(2);
/// assert_eq!((options.get_budget(), options.get_uses_ahead()), (64 << 20, 2));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AutoPrefetchOptions {
    budget: usize,
    uses_ahead: usize,
}

/// A budget of 256 MiB, and 4 uses ahead.
impl Default for AutoPrefetchOptions {
    fn default() -> Self {
        Self { budget: 256 << 20, uses_ahead: 4 }
    }
}

impl AutoPrefetchOptions {
    /// Sets the most bytes that may have been prefetched ahead, or be migrating, without having been used. The buffers
    /// of a stack share one budget.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem::unified::AutoPrefetchOptions;
    ///
    /// let options = AutoPrefetchOptions::default().budget(64 << 20);
    /// assert_eq!(options.get_budget(), 64 << 20);
    /// ```
    #[must_use]
    pub fn budget(mut self, bytes: usize) -> Self {
        self.budget = bytes;
        self
    }

    /// Sets how many uses ahead of the latest one are predicted and prefetched. More than 256 act like 256.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem::unified::AutoPrefetchOptions;
    ///
    /// let options = AutoPrefetchOptions::default().uses_ahead(8);
    /// assert_eq!(options.get_uses_ahead(), 8);
    /// ```
    #[must_use]
    pub fn uses_ahead(mut self, uses: usize) -> Self {
        self.uses_ahead = uses;
        self
    }

    /// Returns the budget, in bytes.
    pub fn get_budget(&self) -> usize {
        self.budget
    }

    /// Returns how many uses ahead are predicted.
    pub fn get_uses_ahead(&self) -> usize {
        self.uses_ahead
    }
}
