//! [`Expectations`]: where resources may differ without being wrong.

use cumem::CUDA_ALLOCATION_ALIGNMENT;

/// Where resources may differ without being wrong. The default suits every resource of cumem.
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
    /// Alignments up to this one, a power of two, must be given. Larger ones may be given or refused as
    /// [`UnsupportedAlignment`](cumem::AllocError::UnsupportedAlignment) in any case. Default 256.
    ///
    /// # Panics
    ///
    /// If it is no power of two.
    pub fn max_alignment(mut self, bytes: usize) -> Self {
        assert!(bytes.is_power_of_two(), "an alignment is a power of two, {bytes} is not");
        self.max_alignment = bytes;
        self
    }

    /// The largest size that is tried with the hope that it succeeds (it may still run out of memory).
    /// Default 1 GiB.
    pub fn largest(mut self, bytes: usize) -> Self {
        self.largest = bytes;
        self
    }

    /// The resource never runs out, as one that only counts: sizes that no machine has may succeed.
    pub fn never_runs_out(mut self) -> Self {
        self.runs_out = false;
        self
    }

    /// Two results of the factory share their state, so that each takes the other's blocks back.
    pub fn shares_state(mut self) -> Self {
        self.refuses_foreign = false;
        self
    }

    /// The resource keeps device memory when it is dropped, as the driver's default pool does.
    pub fn keeps_memory(mut self) -> Self {
        self.returns_all = false;
        self
    }
}
