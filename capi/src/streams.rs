//! Streams for programs that have no other library for them, for example on a simulated device.

use crate::entry::entry;
use crate::failure::Failure;
use crate::handles::{self, CumemStack};
use crate::out::place;
use crate::status::{CumemError, CumemStatus};
use cumem::Stream;
use std::collections::HashMap;
use std::ffi::c_void;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The streams that the library has created, by the device's id and the handle.
static CREATED: Mutex<Option<HashMap<(String, u64), Stream>>> = Mutex::new(None);

fn created<'a>() -> MutexGuard<'a, Option<HashMap<(String, u64), Stream>>> {
    CREATED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Creates a stream on the stack's device. On a GPU, the stream is a `CUstream`, as any other.
///
/// # Safety
///
/// No thread closes the stack meanwhile. `stream` and `error` must be null or point to their types.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cumem_stream_create(
    stack: *mut CumemStack,
    stream: *mut *mut c_void,
    error: *mut CumemError,
) -> CumemStatus {
    entry(error, || {
        // SAFETY: the caller upholds the contract.
        let place = unsafe { place(stream, "stream") }?;
        *place = std::ptr::null_mut();
        // SAFETY: the caller promises that no thread closes the stack.
        let stack = unsafe { handles::get(stack) }?;
        let created_stream = Stream::new(&stack.device)?;
        let handle = created_stream.as_raw();
        created().get_or_insert_default().insert((stack.device.id().to_string(), handle), created_stream);
        *place = std::ptr::without_provenance_mut(handle as usize);
        Ok(())
    })
}

/// Destroys a stream that `cumem_stream_create` created. Work that was enqueued before still completes.
///
/// # Safety
///
/// No thread closes the stack meanwhile. `error` must be null or point to its type.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cumem_stream_destroy(
    stack: *mut CumemStack,
    stream: *mut c_void,
    error: *mut CumemError,
) -> CumemStatus {
    entry(error, || {
        // SAFETY: the caller promises that no thread closes the stack.
        let stack = unsafe { handles::get(stack) }?;
        let key = (stack.device.id().to_string(), stream.addr() as u64);
        let destroyed = created().get_or_insert_default().remove(&key);
        let refused = || Failure::argument(format!("{stream:p} is no stream of `cumem_stream_create`"));
        destroyed.map(drop).ok_or_else(refused)
    })
}

/// Waits until a stream of the stack's device has done all its work.
///
/// # Safety
///
/// No thread closes the stack meanwhile. `stream` exists. `error` must be null or point to its type.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cumem_stream_synchronize(
    stack: *mut CumemStack,
    stream: *mut c_void,
    error: *mut CumemError,
) -> CumemStatus {
    entry(error, || {
        // SAFETY: the caller promises that no thread closes the stack.
        let stack = unsafe { handles::get(stack) }?;
        // SAFETY: the caller promises that the stream exists.
        unsafe { stack.with_stream(stream, |stream| Ok(stream.synchronize()?)) }
    })
}
