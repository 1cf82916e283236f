//! [`StreamOptions`]: the flags and the priority of a new stream.
#![forbid(unsafe_code)]

/// The flags and the priority of a new stream, for [`Stream::with_options`](crate::Stream::with_options) and
/// [`StreamPool::with_options`](crate::StreamPool::with_options).
///
/// # Examples
///
/// ```
/// use cumem::device::StreamOptions;
///
/// let options = StreamOptions::new().blocking(true).priority(-1);
/// assert_ne!(options, StreamOptions::default());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StreamOptions {
    pub(super) blocking: bool,
    pub(super) priority: Option<i32>,
}

impl StreamOptions {
    /// Creates the options of [`Stream::new`](crate::Stream::new): no synchronization with the legacy default stream, and
    /// the driver's default priority.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes the stream synchronize with the legacy default stream (`CU_STREAM_DEFAULT`), or not
    /// (`CU_STREAM_NON_BLOCKING`).
    #[must_use]
    pub fn blocking(self, blocking: bool) -> Self {
        Self { blocking, ..self }
    }

    /// Sets the priority. Smaller numbers are greater priorities. The driver replaces a priority outside of
    /// [`Device::stream_priorities`](crate::Device::stream_priorities) by the nearest one inside. The model of a
    /// simulated device has no priorities, so there this option changes nothing.
    #[must_use]
    pub fn priority(self, priority: i32) -> Self {
        Self { priority: Some(priority), ..self }
    }
}
