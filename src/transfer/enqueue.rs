//! Enqueuing a copy, and waiting for a transfer.

use super::request::Ends;
use crate::device::error::DeviceError;
use crate::device::stream::Stream;
use cumem_driver::RawStream;

/// Enqueues a copy on `raw`, a stream of the device of `stream`.
///
/// # Safety
///
/// Both ends are valid, and used by nothing in conflict, until the stream has passed the copy.
pub(crate) unsafe fn enqueue_copy(ends: Ends, raw: RawStream, stream: &Stream) -> Result<(), DeviceError> {
    let device = stream.device();
    // SAFETY: by this function's contract; both streams are alive.
    device.enqueue(|| unsafe { device.driver().copy_async(device.ordinal(), ends.to, ends.from, ends.bytes, raw) })
}

/// Waits for a transfer from or to memory of the caller: page-locked memory is read and written until it is done.
///
/// A synchronisation that fails reports earlier work, after the wait. Should it have failed before, the device is
/// waited for; where that fails too, the context is lost, and nothing is written any more.
pub(crate) fn settle(stream: &Stream) -> Result<(), DeviceError> {
    stream.synchronize().or_else(|error| stream.device().synchronize().map_err(DeviceError::from).and(Err(error)))
}
