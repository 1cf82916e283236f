//! Uses of memory on other streams than the one on which it is freed.

use crate::entry::entry;
use crate::failure::Failure;
use crate::handles::{self, CumemStack};
use crate::stack::Stack;
use crate::status::{CumemError, CumemStatus};
use std::ffi::c_void;
use std::ptr::NonNull;

/// Records that work on `stream` uses the memory at `address`, which may be freed on another stream. When the memory is
/// freed, it is not handed out again before `stream` has passed the point of the free. In a pool neither stream waits
/// for the other, unless the pool has no other memory.
///
/// # Safety
///
/// No thread closes the stack meanwhile. `stream` is a stream of the stack's device that exists and is not captured.
/// `error` must be null or point to its type.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cumem_record_use(
    stack: *mut CumemStack,
    address: *mut c_void,
    stream: *mut c_void,
    error: *mut CumemError,
) -> CumemStatus {
    entry(error, || {
        let address = NonNull::new(address).ok_or_else(|| Failure::argument("`address` is null"))?;
        // SAFETY: the caller promises that no thread closes the stack.
        let stack = unsafe { handles::get(stack) }?;
        // SAFETY: the caller promises that the stream exists.
        unsafe { record_use(stack, address, stream) }
    })
}

/// Records a use, without the checks of an entry.
///
/// # Safety
///
/// The stream exists.
pub(crate) unsafe fn record_use(stack: &Stack, address: NonNull<c_void>, stream: *mut c_void) -> Result<(), Failure> {
    let record = |stream: &cumem::Stream| Ok(stack.memory.record_use(address.cast(), stream)?);
    // SAFETY: the caller promises that the stream exists.
    unsafe { stack.with_stream(stream, record) }
}
