//! The class `Counters`.

use crate::failure::Failure;
use crate::opened::Opened;
use cumem_c::{CumemCounters, CumemError, CumemStatus};
use pyo3::prelude::*;

/// Counts of a stack, in bytes unless stated otherwise. They are those of `cumem_get_counters`.
#[pyclass(frozen, module = "cumem", get_all)]
#[derive(Debug)]
pub(crate) struct Counters {
    live_bytes: u64,
    live_blocks: u64,
    peak_live_bytes: u64,
    rounded_bytes: u64,
    reserved_bytes: u64,
    peak_reserved_bytes: u64,
    failures: u64,
}

impl Counters {
    pub(crate) fn of(stack: &Opened) -> Result<Self, Failure> {
        let (mut counters, mut error) = (CumemCounters::default(), Box::new(CumemError::NONE));
        // SAFETY: the handle is open while the stack exists, and both pointers refer to values of this function.
        let status = unsafe { cumem_c::cumem_get_counters(stack.handle(), &raw mut counters, &raw mut *error) };
        if status != CumemStatus::Success {
            return Err(error.into());
        }
        let CumemCounters {
            live_bytes,
            live_blocks,
            peak_live_bytes,
            rounded_bytes,
            reserved_bytes,
            peak_reserved_bytes,
            failures,
        } = counters;
        Ok(Self {
            live_bytes,
            live_blocks,
            peak_live_bytes,
            rounded_bytes,
            reserved_bytes,
            peak_reserved_bytes,
            failures,
        })
    }
}

#[pymethods]
impl Counters {
    fn __repr__(&self) -> String {
        format!(
            "Counters(live_bytes={}, live_blocks={}, peak_live_bytes={}, rounded_bytes={}, reserved_bytes={}, \
             peak_reserved_bytes={}, failures={})",
            self.live_bytes,
            self.live_blocks,
            self.peak_live_bytes,
            self.rounded_bytes,
            self.reserved_bytes,
            self.peak_reserved_bytes,
            self.failures
        )
    }
}
