//! Enqueuing a copy on a stream, and waiting for a stream.

use super::request::Ends;
use crate::device::error::DeviceError;
use crate::device::stream::Stream;
use cumem_driver::RawStream;

/// Enqueues a copy on `raw`, a stream of the device of `stream`.
///
/// # Safety
///
/// - `raw` is a live stream of that device.
/// - Both ends are valid, and nothing uses them in a conflicting way, until `raw` has passed the copy.
pub(crate) unsafe fn enqueue_copy(ends: Ends, raw: RawStream, stream: &Stream) -> Result<(), DeviceError> {
    let device = stream.device();
    // SAFETY: the caller ensures that the stream is live and that both ends stay valid.
    device.enqueue(|| unsafe { device.driver().copy_async(device.ordinal(), ends.to, ends.from, ends.bytes, raw) })
}

/// Waits until the work on `stream` is done, also if it fails: the device uses pinned memory of the caller until then.
///
/// An error usually reports earlier work, after the wait. It may also have come before the wait, so this function then
/// synchronizes the device. If that fails too, the context is lost, and the device writes nothing any more.
pub(crate) fn wait_for_stream(stream: &Stream) -> Result<(), DeviceError> {
    stream.synchronize().or_else(|error| stream.device().synchronize().map_err(DeviceError::from).and(Err(error)))
}
