//! [`CaptureUnderway`]: that a stream of a device is being captured, and what the library must not do meanwhile.

use super::handle::Device;
use super::stream::Stream;
use cumem_driver::CaptureState;

/// A mark that a stream of a device is being captured, until the mark is dropped.
///
/// Some calls of this library would end the capture of a stream with an error, for example a pool's query whether that
/// stream has done its work. While a mark exists, pools first ask the driver which streams are captured, and leave the
/// memory of those streams alone. [`Stream::begin_capture`] makes a mark. For a capture of other code, call
/// [`Device::capture_underway`] before the capture begins.
///
/// # Examples
///
/// ```
/// use cumem::Device;
/// use cumem::sim::Profile;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let device = Device::simulated(Profile::default())?;
/// let mark = device.capture_underway();
/// // Another library captures one of its streams here.
/// assert!(device.has_captures());
/// drop(mark);
/// assert!(!device.has_captures());
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "the capture counts as ended when the mark is dropped"]
pub struct CaptureUnderway(Device);

impl Device {
    /// Marks that a stream of this device is being captured, until the result is dropped.
    ///
    /// # Examples
    ///
    /// See [`CaptureUnderway`].
    pub fn capture_underway(&self) -> CaptureUnderway {
        self.captures().begin();
        CaptureUnderway(self.clone())
    }

    /// Reports whether a stream of this device is marked as being captured.
    ///
    /// # Examples
    ///
    /// See [`CaptureUnderway`].
    #[inline]
    pub fn has_captures(&self) -> bool {
        self.captures().any()
    }
}

impl Drop for CaptureUnderway {
    fn drop(&mut self) {
        self.0.captures().end();
    }
}

impl Stream {
    /// Reports whether this stream is being captured, or may be. The driver is asked only while a capture of the device is
    /// [marked](CaptureUnderway).
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::kernel::CaptureMode;
    /// # use cumem::sim::Profile;
    /// # use cumem::{Device, Stream};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let streams = [Stream::new(&device)?, Stream::new(&device)?];
    /// // SAFETY: the program enqueues no work.
    /// let capture = unsafe { streams[0].begin_capture(CaptureMode::Global) }?;
    /// assert_eq!([streams[0].is_captured(), streams[1].is_captured()], [true, false]);
    /// # drop(capture);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn is_captured(&self) -> bool {
        self.device().has_captures() && !matches!(self.capture_state(), Ok(CaptureState::None))
    }
}
