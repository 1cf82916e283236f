//! [`DeviceUse`]: a declared use of a buffer by work on the device.
#![forbid(unsafe_code)]

use super::observer::AutoPrefetch;

/// A part of a buffer that work on the device uses. The caller enqueues that work on the buffer's stream before it
/// drops this value. With automatic prefetch, the drop prefetches the elements that are predicted next.
///
/// # Examples
///
/// ```
/// # use cumem::sim::Profile;
/// # use cumem::{Device, ManagedResource, Stream, UnifiedBuffer};
/// use cumem::unified::{AutoPrefetchOptions, DeviceUse};
///
/// # let device = Device::simulated(Profile::default())?;
/// # let stream = Stream::new(&device)?;
/// let memory = ManagedResource::new(&device)?;
/// let mut buffer = UnifiedBuffer::<u8, _>::zeroed(2 << 20, &stream, memory)?;
/// assert!(buffer.auto_prefetch(AutoPrefetchOptions::default())?.is_applied());
/// let first_half: DeviceUse<'_> = buffer.device_use(0..1 << 20)?;
/// assert_eq!(first_half.device_address(), buffer.device_address());
/// drop(first_half); // after the work has been enqueued
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
#[must_use = "enqueue the work before this value is dropped"]
pub struct DeviceUse<'a> {
    address: u64,
    observer: Option<&'a AutoPrefetch>,
}

impl<'a> DeviceUse<'a> {
    pub(crate) fn new(address: u64, observer: Option<&'a AutoPrefetch>) -> Self {
        Self { address, observer }
    }

    /// Returns the address of the first element of the part, for kernels.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Device, ManagedResource, Stream, UnifiedBuffer};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// let buffer = UnifiedBuffer::<u32, _>::zeroed(1000, &stream, ManagedResource::new(&device)?)?;
    /// let part = buffer.device_use(100..200)?;
    /// assert_eq!(part.device_address(), buffer.device_address() + 400);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn device_address(&self) -> u64 {
        self.address
    }
}

impl Drop for DeviceUse<'_> {
    fn drop(&mut self) {
        if let Some(auto) = self.observer {
            auto.prefetch_ahead();
        }
    }
}
