//! Handles to new streams, to the default streams, and to streams of other code.

use super::{Inner, Origin, Stream};
use crate::device::handle::Device;
use crate::device::interned::{Recent, Registry};
use crate::device::stream_ids::{LegacyIds, PerThreadIds, StreamId};
use crate::device::stream_options::StreamOptions;
use cumem_driver::owned::OwnedStream;
use cumem_driver::{DriverError, RawStream};
use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::thread;

thread_local! {
    static RECENT: RefCell<Recent<Inner>> = const { RefCell::new(Recent::new()) };
}

impl Stream {
    /// Creates a stream that does not synchronize with the legacy default stream (`CU_STREAM_NON_BLOCKING`).
    ///
    /// # Errors
    ///
    /// Returns the driver's error.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Device, Stream};
    /// # let device = Device::simulated(Profile::default())?;
    /// let (one, two) = (Stream::new(&device)?, Stream::new(&device)?);
    /// assert_ne!(one, two); // work on one does not wait for work on the other
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn new(device: &Device) -> Result<Self, DriverError> {
        Ok(Self::of_owned(device, OwnedStream::new(device.raw(), false)?))
    }

    /// Creates a stream that synchronizes with the legacy default stream (`CU_STREAM_DEFAULT`): work on either of them
    /// waits for earlier work on the other. Use it in a program that also uses the legacy default stream.
    ///
    /// # Errors
    ///
    /// Returns the driver's error.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Device, Stream};
    /// # let device = Device::simulated(Profile::default())?;
    /// let stream = Stream::blocking(&device)?;
    /// assert_ne!(stream, Stream::legacy_default(&device)); // another stream, ordered with the default stream
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn blocking(device: &Device) -> Result<Self, DriverError> {
        Ok(Self::of_owned(device, OwnedStream::new(device.raw(), true)?))
    }

    /// Creates a stream with options, for example with a priority.
    ///
    /// # Errors
    ///
    /// Returns the driver's error.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Device, Stream};
    /// use cumem::device::StreamOptions;
    ///
    /// # let device = Device::simulated(Profile::default())?;
    /// let greatest = *device.stream_priorities()?.start();
    /// let urgent = Stream::with_options(&device, StreamOptions::new().priority(greatest))?;
    /// # drop(urgent);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn with_options(device: &Device, options: StreamOptions) -> Result<Self, DriverError> {
        let owned = match options.priority {
            None => OwnedStream::new(device.raw(), options.blocking)?,
            Some(priority) => OwnedStream::with_priority(device.raw(), options.blocking, priority)?,
        };
        Ok(Self::of_owned(device, owned))
    }

    fn of_owned(device: &Device, owned: OwnedStream) -> Self {
        Self::assemble(device, owned.raw(), StreamId::unique(), Origin::Owned(owned))
    }

    /// Returns the legacy default stream of the device (`CU_STREAM_LEGACY`).
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Device, Stream};
    /// # let device = Device::simulated(Profile::default())?;
    /// let stream = Stream::legacy_default(&device);
    /// assert_eq!(stream.as_raw(), 1); // CU_STREAM_LEGACY
    /// assert_eq!(stream, Stream::legacy_default(&device)); // there is one for each device
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn legacy_default(device: &Device) -> Self {
        Self::recent(device, RawStream::LEGACY).unwrap_or_else(|| {
            let stream = Self::assemble(device, RawStream::LEGACY, LegacyIds::of(device), Origin::Legacy);
            stream.remembered()
        })
    }

    /// Returns the calling thread's default stream (`CU_STREAM_PER_THREAD`).
    ///
    /// Other threads may keep the result, but only the calling thread may enqueue work on it: in another thread, the
    /// driver's handle refers to that thread's stream. Calls of another thread return
    /// [`DeviceError::WrongThread`](crate::DeviceError::WrongThread).
    /// A buffer on such a stream can be used by all threads: in another thread, the host waits for the device first.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem::sim::Profile;
    /// use cumem::{Device, DeviceError, Stream};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let device = Device::simulated(Profile::default())?;
    /// let stream = Stream::per_thread_default(&device);
    /// stream.synchronize()?;
    /// let elsewhere = std::thread::scope(|scope| scope.spawn(|| stream.synchronize()).join().unwrap());
    /// assert_eq!(elsewhere, Err(DeviceError::WrongThread { device: device.id() }));
    /// # Ok(())
    /// # }
    /// ```
    pub fn per_thread_default(device: &Device) -> Self {
        Self::recent(device, RawStream::PER_THREAD).unwrap_or_else(|| {
            let (id, ended) = PerThreadIds::current(device);
            let origin = Origin::PerThread(thread::current().id(), ended);
            Self::assemble(device, RawStream::PER_THREAD, id, origin).remembered()
        })
    }

    /// Returns a handle to a stream that other code created, such as the CUDA runtime, from its `CUstream`. This
    /// library never destroys that stream. The handles 0, 1 and 2 refer to the default streams.
    ///
    /// All results for one handle are the same stream, with one [`id`](Self::id), as long as one of them exists or a
    /// pool has memory of the stream. A program may therefore call this function at each allocation and free, and keep
    /// no result: that costs a few nanoseconds.
    ///
    /// A pool may still have memory of a stream that its owner has destroyed. The pool never uses the handle of such a
    /// stream. Before another stream gets the memory, that stream waits for all work that the device has at that time.
    ///
    /// # Safety
    ///
    /// The caller must ensure that
    /// - `handle` is a stream of `device`, created in its primary context, which the CUDA runtime and this library use,
    /// - the stream is not destroyed before the last clone of the result and the buffers on the stream are dropped,
    /// - when the stream is destroyed, its work with memory of this library is done, because the driver gives the
    ///   handle to the next stream that is created,
    /// - the stream is not captured into a graph while this library uses it.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem::sim::Profile;
    /// use cumem::{Device, Stream};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let device = Device::simulated(Profile::default())?;
    /// // SAFETY: 1 is the handle of the legacy default stream, which always exists.
    /// let stream = unsafe { Stream::from_raw(&device, 1) };
    /// assert_eq!(stream, Stream::legacy_default(&device));
    /// # Ok(())
    /// # }
    /// ```
    pub unsafe fn from_raw(device: &Device, handle: u64) -> Self {
        match RawStream(handle) {
            RawStream(0) | RawStream::LEGACY => Self::legacy_default(device),
            RawStream::PER_THREAD => Self::per_thread_default(device),
            raw => Self::recent(device, raw).unwrap_or_else(|| Self::foreign(device, raw)),
        }
    }

    /// Returns the stream of a handle that the calling thread used lately, if that stream still exists.
    #[inline]
    fn recent(device: &Device, raw: RawStream) -> Option<Self> {
        let same = |inner: &Inner| inner.device_id == device.id();
        let found = RECENT.try_with(|recent| recent.borrow().find(raw.0, same));
        // While the thread ends, its table may already be dropped.
        found.ok().flatten().map(|inner| Self { inner })
    }

    /// Makes [`recent`](Self::recent) return the stream.
    fn remembered(self) -> Self {
        let remember = |recent: &RefCell<Recent<Inner>>| recent.borrow_mut().remember(self.inner.raw.0, &self.inner);
        // While the thread ends, its table may already be dropped. The next call then searches again.
        let _ = RECENT.try_with(remember);
        self
    }

    #[cold]
    fn foreign(device: &Device, raw: RawStream) -> Self {
        let streams = device.machine().slots().get(Registry::<Inner>::new);
        let create = || Self::assemble(device, raw, StreamId::unique(), Origin::Foreign).inner;
        Self { inner: streams.get(device.ordinal(), raw.0, create) }.remembered()
    }

    fn assemble(device: &Device, raw: RawStream, id: StreamId, origin: Origin) -> Self {
        let device_id = device.id();
        Self {
            inner: Arc::new(Inner { raw, id, device_id, origin, device: device.clone(), kept: AtomicUsize::new(0) }),
        }
    }
}
