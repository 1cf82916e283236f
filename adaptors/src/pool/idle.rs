//! [`IdleQuery`]: which streams have done all their work.

use super::fence::Fence;
use cumem::device::KeptStream;
use cumem::{Device, Stream};

/// Queries during one search whether streams have done all their work. The work of a stream whose handle the pool cannot
/// use is known to be done only if the work of the whole device is. Once the device was found busy, it is not queried
/// again.
#[derive(Debug)]
pub(super) struct IdleQuery<'a> {
    device: &'a Device,
    device_is_busy: bool,
}

impl<'a> IdleQuery<'a> {
    pub(super) fn new(device: &'a Device) -> Self {
        Self { device, device_is_busy: false }
    }

    /// Reports whether all work that was enqueued on the stream before this call is known to be done.
    pub(super) fn is_idle(&mut self, stream: &KeptStream) -> bool {
        if let Some(stream) = stream.usable() {
            return is_idle(stream);
        }
        if self.device_is_busy {
            return false;
        }
        let fence = Fence::record_on_device(self.device, stream.id());
        let idle = fence.is_ok_and(|fence| fence.is_reached());
        self.device_is_busy = !idle;
        idle
    }
}

/// Reports whether all of a stream's work is known to be done. An error counts as "no", and so does a capture.
pub(super) fn is_idle(stream: &Stream) -> bool {
    !stream.is_captured() && matches!(stream.is_idle(), Ok(true))
}
