//! [`StreamPool`]: a number of streams that code takes in turn.
#![forbid(unsafe_code)]

use super::error::DeviceError;
use super::handle::Device;
use super::stream::Stream;
use super::stream_options::StreamOptions;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A fixed number of streams of one device. Creating a stream takes the driver microseconds; a pool creates all of its
/// streams at once and then returns them in turn.
///
/// Any number of threads may use a pool. Two calls may return the same stream, so callers must not expect that a stream
/// of a pool is theirs alone. A stream is a shared handle: a clone remains usable after the pool was dropped.
///
/// # Examples
///
/// ```
/// use cumem::sim::Profile;
/// use cumem::{Buffer, CudaResource, Device, StreamPool};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let device = Device::simulated(Profile::default())?;
/// let streams = StreamPool::new(&device, 4)?;
/// let mut parts = Vec::new();
/// for _ in 0..8 {
///     // Each part on the next stream, so that the zeroing of four parts overlaps.
///     parts.push(Buffer::<u8, _>::zeroed(1 << 20, streams.get(), CudaResource::new(&device))?);
/// }
/// streams.synchronize()?;
/// assert_eq!(parts[0].stream(), parts[4].stream());
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct StreamPool {
    /// Never empty.
    streams: Box<[Stream]>,
    next: AtomicUsize,
}

impl StreamPool {
    /// The size of RMM's pools, for callers without a better number.
    pub const DEFAULT_SIZE: usize = 16;

    /// Creates a pool of `size` streams that do not synchronize with the legacy default stream.
    ///
    /// # Errors
    ///
    /// - Returns [`DeviceError::NoStreams`] if `size` is 0.
    /// - Returns the driver's error if a stream cannot be created. The streams that were created are destroyed.
    pub fn new(device: &Device, size: usize) -> Result<Self, DeviceError> {
        Self::with_options(device, size, StreamOptions::new())
    }

    /// Creates a pool of `size` streams with flags and a priority.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`new`](Self::new).
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem::device::StreamOptions;
    /// use cumem::sim::Profile;
    /// use cumem::{Device, StreamPool};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let device = Device::simulated(Profile::default())?;
    /// let greatest = *device.stream_priorities()?.start();
    /// let options = StreamOptions::new().blocking(true).priority(greatest);
    /// let urgent = StreamPool::with_options(&device, 2, options)?;
    /// assert_eq!(urgent.len(), 2);
    /// # Ok(())
    /// # }
    /// ```
    pub fn with_options(device: &Device, size: usize, options: StreamOptions) -> Result<Self, DeviceError> {
        if size == 0 {
            return Err(DeviceError::NoStreams { device: device.id() });
        }
        let streams: Result<_, _> = (0..size).map(|_| Stream::with_options(device, options)).collect();
        Ok(Self { streams: streams?, next: AtomicUsize::new(0) })
    }

    /// Returns the next stream, in turn.
    #[inline]
    pub fn get(&self) -> &Stream {
        self.at(self.next.fetch_add(1, Ordering::Relaxed))
    }

    /// Returns stream `index` modulo the size. Equal indices always mean the same stream, for example one per thread or
    /// per request.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Device, StreamPool};
    /// # let device = Device::simulated(Profile::default())?;
    /// let streams = StreamPool::new(&device, 4)?;
    /// assert_eq!(streams.at(1), streams.at(5));
    /// assert_ne!(streams.at(1), streams.at(2));
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn at(&self, index: usize) -> &Stream {
        &self.streams[index % self.streams.len()]
    }

    /// Returns the number of streams, at least 1.
    #[expect(clippy::len_without_is_empty, reason = "a pool is never empty")]
    pub fn len(&self) -> usize {
        self.streams.len()
    }

    /// Returns all streams.
    pub fn streams(&self) -> &[Stream] {
        &self.streams
    }

    /// Waits until all streams have done all their work.
    ///
    /// # Errors
    ///
    /// Returns the first error of [`Stream::synchronize`], after it has waited for all streams.
    pub fn synchronize(&self) -> Result<(), DeviceError> {
        self.streams.iter().map(Stream::synchronize).fold(Ok(()), Result::and)
    }
}
