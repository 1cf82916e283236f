//! The bytes: the only place where the simulator reads and writes simulated memory.

use super::mapping::POISON;
use cumem_driver::{HostKernel, KernelMemory};
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::{ptr, slice};

/// Copies, overlapping or not.
///
/// # Safety
///
/// Both ranges are valid, the first for writes, and nobody else uses them in a conflicting way.
pub(super) unsafe fn copy(dst: u64, src: u64, bytes: usize) {
    // SAFETY: as the caller vouches.
    unsafe { ptr::copy(src as *const u8, dst as *mut u8, bytes) };
}

/// Copies from a buffer of the simulator's.
///
/// # Safety
///
/// `dst` is valid for writes of as many bytes, and nobody else uses it.
pub(super) unsafe fn write(dst: u64, src: &[u8]) {
    // SAFETY: the caller vouches for `dst`, which is no memory of Rust's and hence apart from `src`.
    unsafe { ptr::copy_nonoverlapping(src.as_ptr(), dst as *mut u8, src.len()) };
}

/// A copy of what is there now.
///
/// # Safety
///
/// The range is valid and nobody writes to it.
pub(super) unsafe fn read(src: u64, bytes: usize) -> Box<[u8]> {
    // SAFETY: as the caller vouches.
    unsafe { slice::from_raw_parts(src as *const u8, bytes) }.into()
}

/// Fills with one byte.
///
/// # Safety
///
/// The range is valid for writes and nobody else uses it.
pub(super) unsafe fn fill(dst: u64, value: u8, bytes: usize) {
    // SAFETY: as the caller vouches.
    unsafe { ptr::write_bytes(dst as *mut u8, value, bytes) };
}

/// Makes memory look fresh.
///
/// # Safety
///
/// The range is valid for writes, nobody else uses it, and `bytes` is a multiple of the pattern's length.
pub(super) unsafe fn poison(dst: u64, bytes: usize) {
    // SAFETY: as the caller vouches.
    let memory = unsafe { slice::from_raw_parts_mut(dst as *mut u8, bytes) };
    for chunk in memory.chunks_exact_mut(POISON.len()) {
        chunk.copy_from_slice(&POISON);
    }
}

/// Does the work of a kernel; what it panicked with, if it did.
///
/// # Safety
///
/// Every declared range is valid and used by nobody else, and no written one overlaps another.
pub(super) unsafe fn run(kernel: HostKernel) -> Result<(), String> {
    let HostKernel { accesses, work, .. } = kernel;
    // SAFETY: the caller vouches for validity and overlap; simulated memory is initialised from the start, to poison.
    let memory = unsafe { KernelMemory::new(&accesses) };
    // What a panic leaves half-written is device memory, which makes no promises.
    catch_unwind(AssertUnwindSafe(|| work(&memory))).map_err(|payload| said(&*payload))
}

fn said(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().copied().or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("a panic without a message").into()
}
