//! Access to the bytes of simulated memory. No other module of the simulator reads or writes them.

use super::poison::POISON;
use cumem_driver::panics::{drop_caught, panic_message};
use cumem_driver::{HostKernel, KernelMemory};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::{ptr, slice};

/// Copies bytes. The ranges may overlap.
///
/// # Safety
///
/// The caller must ensure that both ranges are valid, `dst` for writes,
/// and that nothing else uses them in a conflicting way.
pub(super) unsafe fn copy(dst: u64, src: u64, bytes: usize) {
    // SAFETY: the caller ensures that both ranges are valid and have no conflicting use.
    unsafe { ptr::copy(src as *const u8, dst as *mut u8, bytes) };
}

/// Copies bytes from a buffer of the simulator.
///
/// # Safety
///
/// The caller must ensure that `dst` is valid for writes of `src.len()` bytes, and that nothing else uses it.
pub(super) unsafe fn write(dst: u64, src: &[u8]) {
    // SAFETY: the caller ensures that `dst` is valid and that nothing else uses it,
    // so it does not overlap `src`, a buffer of the simulator.
    unsafe { ptr::copy_nonoverlapping(src.as_ptr(), dst as *mut u8, src.len()) };
}

/// Returns a copy of the bytes at `src`.
///
/// # Safety
///
/// The caller must ensure that the range is valid and that nothing writes to it.
pub(super) unsafe fn read(src: u64, bytes: usize) -> Box<[u8]> {
    // SAFETY: the caller ensures that the range is valid and that nothing writes to it.
    unsafe { slice::from_raw_parts(src as *const u8, bytes) }.into()
}

/// The value of a fill, and the size in which the driver writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FillValue {
    Byte(u8),
    Word(u32),
}

impl FillValue {
    /// Returns the name of the driver's call.
    pub(super) fn call(self) -> &'static str {
        match self {
            Self::Byte(_) => "cuMemsetD8Async",
            Self::Word(_) => "cuMemsetD32Async",
        }
    }

    /// Returns the alignment of the range in bytes.
    pub(super) fn alignment(self) -> u64 {
        match self {
            Self::Byte(_) => 1,
            Self::Word(_) => 4,
        }
    }
}

/// Fills a range with one value.
///
/// # Safety
///
/// The caller must ensure that the range is valid for writes and that nothing else uses it.
pub(super) unsafe fn fill(dst: u64, value: FillValue, bytes: usize) {
    match value {
        // SAFETY: the caller ensures that the range is valid for writes and otherwise unused.
        FillValue::Byte(value) => unsafe { ptr::write_bytes(dst as *mut u8, value, bytes) },
        FillValue::Word(word) => {
            // SAFETY: as above.
            let memory = unsafe { slice::from_raw_parts_mut(dst as *mut u8, bytes) };
            memory.chunks_exact_mut(4).for_each(|to| to.copy_from_slice(&word.to_ne_bytes()));
        }
    }
}

/// Fills a range with the pattern of fresh memory.
///
/// # Safety
///
/// The caller must ensure that:
/// - the range is valid for writes, and nothing else uses it;
/// - `bytes` is a multiple of the pattern's length.
pub(super) unsafe fn poison(dst: u64, bytes: usize) {
    // SAFETY: the caller ensures that the range is valid for writes and otherwise unused.
    let memory = unsafe { slice::from_raw_parts_mut(dst as *mut u8, bytes) };
    for chunk in memory.chunks_exact_mut(POISON.len()) {
        chunk.copy_from_slice(&POISON);
    }
}

/// Runs the host function of a kernel. Returns the panic message if it panics.
///
/// # Safety
///
/// The caller must ensure that:
/// - every declared range is valid, and nothing else uses it;
/// - no written range overlaps another declared range.
pub(super) unsafe fn run(kernel: HostKernel) -> Result<(), String> {
    let HostKernel { name, accesses, work, .. } = kernel;
    // SAFETY: the caller ensures validity and no overlap; simulated memory is initialized from the start,
    // with the pattern.
    let memory = unsafe { KernelMemory::new(name, &accesses) };
    // A panic may leave device memory half-written. That is safe, because its contents have no invariants.
    catch_unwind(AssertUnwindSafe(|| work(&memory))).map_err(|payload| {
        let message = panic_message(&*payload).unwrap_or("a panic without a message").into();
        drop_caught(payload);
        message
    })
}
