//! [`Expectations`]: where a resource may differ without breaking its contract.

use cumem::layout::CUDA_ALLOCATION_ALIGNMENT;

/// Where a resource may differ without breaking its contract. The default suits every resource of cumem.
///
/// ```
/// use cumem::HostResource;
/// use cumem_conformance::{Expectations, Place, Suite};
///
/// // Host memory can have larger alignments than CUDA's 256 bytes.
/// let expectations = Expectations::default().max_alignment(1 << 20);
/// let suite = Suite::new(|device| Ok(HostResource::new(device))).expecting(expectations);
/// suite.run(&Place::simulated()).assert();
/// ```
#[derive(Debug, Clone)]
pub struct Expectations {
    pub(crate) max_alignment: usize,
    pub(crate) largest: usize,
    pub(crate) runs_out: bool,
    pub(crate) refuses_foreign: bool,
    pub(crate) returns_all: bool,
}

impl Default for Expectations {
    fn default() -> Self {
        Self {
            max_alignment: CUDA_ALLOCATION_ALIGNMENT,
            largest: 1 << 30,
            runs_out: true,
            refuses_foreign: true,
            returns_all: true,
        }
    }
}

impl Expectations {
    /// Sets the largest alignment, a power of two, that must be given. In any case a larger one may be given, or
    /// refused as [`UnsupportedAlignment`](cumem::AllocError::UnsupportedAlignment). Default 256.
    ///
    /// # Panics
    ///
    /// Panics if `bytes` is not a power of two.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::HostResource;
    /// # use cumem_conformance::{Expectations, Place, Suite};
    /// let expectations = Expectations::default().max_alignment(4096);
    /// let suite = Suite::new(|device| Ok(HostResource::new(device))).expecting(expectations);
    /// suite.run(&Place::simulated()).assert();
    /// ```
    pub fn max_alignment(mut self, bytes: usize) -> Self {
        assert!(bytes.is_power_of_two(), "an alignment is a power of two, {bytes} is not");
        self.max_alignment = bytes;
        self
    }

    /// Sets the largest size that is requested in the expectation that it succeeds; it may still run out of memory.
    /// Default 1 GiB.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # use cumem::HostResource;
    /// # use cumem_conformance::{Expectations, Place, Suite};
    /// let expectations = Expectations::default().largest(64 << 20);
    /// let suite = Suite::new(|device| Ok(HostResource::new(device))).expecting(expectations);
    /// suite.run(&Place::simulated()).assert();
    /// ```
    pub fn largest(mut self, bytes: usize) -> Self {
        self.largest = bytes;
        self
    }

    /// Allows requests of sizes that no machine has to succeed. Use it for a resource that never runs out of memory,
    /// for example one that only counts.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # use cumem::HostResource;
    /// # use cumem_conformance::{Expectations, Place, Suite};
    /// let expectations = Expectations::default().never_runs_out();
    /// let suite = Suite::new(|device| Ok(HostResource::new(device))).expecting(expectations);
    /// suite.run(&Place::simulated()).assert();
    /// ```
    pub fn never_runs_out(mut self) -> Self {
        self.runs_out = false;
        self
    }

    /// Allows a resource to accept blocks of another one from the same factory, because the two share their state.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem_conformance::Expectations;
    /// // For a resource whose instances use one pool of the driver: each accepts the blocks of the others.
    /// let expectations = Expectations::default().shares_state();
    /// # assert!(format!("{expectations:?}").contains("refuses_foreign: false"));
    /// ```
    pub fn shares_state(mut self) -> Self {
        self.refuses_foreign = false;
        self
    }

    /// Allows the resource to keep device memory when it is dropped, as the driver's default pool does.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem_conformance::Expectations;
    /// // For a resource over the driver's default pool, which outlives the resource.
    /// let expectations = Expectations::default().keeps_memory();
    /// # assert!(format!("{expectations:?}").contains("returns_all: false"));
    /// ```
    pub fn keeps_memory(mut self) -> Self {
        self.returns_all = false;
        self
    }
}
