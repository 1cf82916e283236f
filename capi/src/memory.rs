//! Memory is allocated and freed.

use crate::entry::entry;
use crate::failure::Failure;
use crate::handles::{self, CumemStack};
use crate::out::place;
use crate::stack::Stack;
use crate::status::{CumemError, CumemStatus};
use std::alloc::Layout;
use std::ffi::c_void;
use std::ptr::{self, NonNull};

/// Allocates `size` bytes that are ready for work on `stream`, which is a `CUstream` or a `cudaStream_t`.
///
/// The address is a multiple of `align` (0 or a power of two) and of 256. A request for zero bytes succeeds with a null
/// address. `address` receives null if the function fails.
///
/// # Safety
///
/// No thread closes the stack meanwhile. `stream` is a stream of the stack's device that exists. If it is captured, the stack has a layer `graph_pools`.
/// `address` and `error` must be null or point to their types.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cumem_allocate(
    stack: *mut CumemStack,
    size: usize,
    align: usize,
    stream: *mut c_void,
    address: *mut *mut c_void,
    error: *mut CumemError,
) -> CumemStatus {
    entry(error, || {
        // SAFETY: the caller upholds the contract.
        let place = unsafe { place(address, "address") }?;
        *place = ptr::null_mut();
        // SAFETY: the caller promises that no thread closes the stack.
        let stack = unsafe { handles::get(stack) }?;
        // SAFETY: the caller promises that the stream exists.
        *place = unsafe { allocate(stack, size, align, stream) }?;
        Ok(())
    })
}

/// Frees the memory at an address. Work that is enqueued on `stream` later may reuse it. `size` is the size of the
/// request, or 0 if it is not known. Nothing happens if `address` is null.
///
/// A double free, an address that is no start of a block, and memory of others are errors, and change nothing.
///
/// # Safety
///
/// No thread closes the stack meanwhile. `stream` is a stream of the stack's device that exists. If it is captured, the stack has a layer `graph_pools`.
/// All work with the memory is enqueued on `stream` before this call, or on a stream that waits for it. `error` must
/// be null or point to its type.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cumem_free(
    stack: *mut CumemStack,
    address: *mut c_void,
    size: usize,
    stream: *mut c_void,
    error: *mut CumemError,
) -> CumemStatus {
    entry(error, || {
        // SAFETY: the caller promises that no thread closes the stack.
        let stack = unsafe { handles::get(stack) }?;
        // SAFETY: the caller promises the rest.
        unsafe { free(stack, address, size, stream) }
    })
}

/// Allocates, without the checks of an entry.
///
/// # Safety
///
/// The stream exists.
#[inline]
pub(crate) unsafe fn allocate(
    stack: &Stack,
    size: usize,
    align: usize,
    stream: *mut c_void,
) -> Result<*mut c_void, Failure> {
    if size == 0 {
        return Ok(ptr::null_mut());
    }
    let layout = Layout::from_size_align(size, align.max(1)).map_err(|_| no_layout(size, align))?;
    // SAFETY: the caller promises that the stream exists.
    if let Some(id) = unsafe { stack.known_id(stream) }
        && let Some(address) = stack.memory.allocate_at_once(id, layout)
    {
        return Ok(address.as_ptr().cast());
    }
    // SAFETY: as above.
    unsafe { allocate_slow(stack, layout, stream) }
}

/// # Safety
///
/// The stream exists.
#[inline(never)]
unsafe fn allocate_slow(stack: &Stack, layout: Layout, stream: *mut c_void) -> Result<*mut c_void, Failure> {
    // SAFETY: the caller promises that the stream exists.
    let address = unsafe { stack.with_stream(stream, |stream| Ok(stack.memory.allocate_address(stream, layout)?)) }?;
    Ok(address.as_ptr().cast())
}

/// Frees, without the checks of an entry.
///
/// # Safety
///
/// As [`cumem_free`].
#[inline]
pub(crate) unsafe fn free(
    stack: &Stack,
    address: *mut c_void,
    size: usize,
    stream: *mut c_void,
) -> Result<(), Failure> {
    let Some(address) = NonNull::new(address.cast()) else { return Ok(()) };
    let size = (size != 0).then_some(size);
    // SAFETY: the caller promises that the stream exists.
    if let Some(id) = unsafe { stack.known_id(stream) }
        // SAFETY: the caller promises that all work with the memory is ordered before this point of the stream.
        && unsafe { stack.memory.deallocate_at_once(id, address, size) }
    {
        return Ok(());
    }
    // SAFETY: the caller upholds the contract, which is the same.
    unsafe { free_slow(stack, address, size, stream) }
}

/// # Safety
///
/// As [`cumem_free`].
#[inline(never)]
unsafe fn free_slow(
    stack: &Stack,
    address: NonNull<u8>,
    size: Option<usize>,
    stream: *mut c_void,
) -> Result<(), Failure> {
    let free = |stream: &cumem::Stream| {
        // SAFETY: the caller promises that all work with the memory is ordered before this point of the stream.
        Ok(unsafe { stack.memory.deallocate_address(stream, address, size) }?)
    };
    // SAFETY: the caller promises that the stream exists.
    unsafe { stack.with_stream(stream, free) }
}

#[cold]
fn no_layout(size: usize, align: usize) -> Failure {
    Failure::argument(match align.max(1).is_power_of_two() {
        true => format!("no memory can have {size} bytes at a multiple of {align}"),
        false => format!("the alignment {align} is no power of two"),
    })
}
