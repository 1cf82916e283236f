//! [`DeviceUse`]: a declared use of a buffer by work on the device.
#![forbid(unsafe_code)]

use super::observer::AutoPrefetch;

/// A part of a buffer in use by the device: work that uses it is enqueued on the buffer's stream while this is there.
/// When it goes, what comes next is brought.
#[derive(Debug)]
#[must_use = "work is enqueued while it is there"]
pub struct DeviceUse<'a> {
    address: u64,
    observer: Option<&'a AutoPrefetch>,
}

impl<'a> DeviceUse<'a> {
    pub(crate) fn new(address: u64, observer: Option<&'a AutoPrefetch>) -> Self {
        Self { address, observer }
    }

    /// The address of the first element, for kernels.
    pub fn device_address(&self) -> u64 {
        self.address
    }
}

impl Drop for DeviceUse<'_> {
    fn drop(&mut self) {
        if let Some(auto) = self.observer {
            auto.bring_ahead();
        }
    }
}
