//! [`KeptStream`]: a handle that keeps a stream for memory that was freed on it.

use super::stream::Stream;
use super::stream_ids::StreamId;
use std::fmt;

/// A handle that keeps a stream without using it, for a memory resource that has free memory of the stream.
///
/// An owned stream is not destroyed while it is kept. The handle does not count among the stream's
/// [`handles`](Stream::handles).
///
/// # Examples
///
/// ```
/// use cumem::sim::Profile;
/// use cumem::{Device, Stream};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let device = Device::simulated(Profile::default())?;
/// let stream = Stream::new(&device)?;
/// let kept = stream.keep();
/// assert!(!kept.is_abandoned());
/// drop(stream);
/// assert!(kept.is_abandoned());
/// assert!(kept.usable().unwrap().is_idle()?); // the CUDA stream still exists
/// # Ok(())
/// # }
/// ```
pub struct KeptStream(Stream);

impl Stream {
    /// Returns a handle that keeps the stream without using it. For an example, see [`KeptStream`].
    pub fn keep(&self) -> KeptStream {
        // The new handle exists before it counts as one that only keeps the stream, and until after it has counted as
        // one. The stream therefore never seems to have fewer users than it has.
        let kept = self.clone();
        kept.add_kept();
        KeptStream(kept)
    }
}

impl KeptStream {
    /// Returns the id of the stream.
    pub fn id(&self) -> StreamId {
        self.0.id()
    }

    /// Reports whether no code can enqueue work on the stream any more: the program has dropped all its handles, or the
    /// stream is the default stream of a thread that has ended. Always false for the legacy default stream, and for a
    /// stream of [`Stream::from_raw`], to which the program can get a handle again.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem::sim::Profile;
    /// use cumem::{Device, Stream};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let device = Device::simulated(Profile::default())?;
    /// let thread = std::thread::spawn(move || Stream::per_thread_default(&device).keep());
    /// let kept = thread.join().expect("the thread does not panic");
    /// assert!(kept.is_abandoned());
    /// # Ok(())
    /// # }
    /// ```
    pub fn is_abandoned(&self) -> bool {
        self.0.has_no_users()
    }

    /// Returns the stream if the calling thread may use its driver handle. This is not so for another thread's default
    /// stream, and for a stream of [`Stream::from_raw`], which its owner may have destroyed. To wait for the work of
    /// such a stream, record an event [on the device](crate::Event::record_on_device).
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem::sim::Profile;
    /// use cumem::{Device, Stream};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let device = Device::simulated(Profile::default())?;
    /// let kept = Stream::per_thread_default(&device).keep();
    /// assert!(kept.usable().is_some());
    /// let elsewhere = std::thread::scope(|scope| scope.spawn(|| kept.usable().is_some()).join());
    /// assert!(!elsewhere.expect("the thread does not panic"));
    /// # Ok(())
    /// # }
    /// ```
    pub fn usable(&self) -> Option<&Stream> {
        self.0.handle_outlives_users().then_some(&self.0)
    }
}

impl Clone for KeptStream {
    fn clone(&self) -> Self {
        self.0.keep()
    }
}

impl Drop for KeptStream {
    fn drop(&mut self) {
        self.0.remove_kept();
    }
}

impl fmt::Debug for KeptStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Kept{:?}", self.0)
    }
}
