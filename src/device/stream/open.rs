//! Handles to new streams, to the default streams, and to streams of other code.

use super::{Inner, Named, Origin, Stream};
use crate::device::handle::Device;
use crate::device::interned::{Recent, Registry};
use crate::device::stream_ids::{LegacyIds, PerThreadIds, StreamId};
use crate::device::stream_options::StreamOptions;
use cumem_driver::owned::OwnedStream;
use cumem_driver::{CudaErrorCode, DriverError, RawStream};
use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
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
    /// no result: that costs a few nanoseconds. A handle that the driver has given to a new stream is another stream:
    /// the driver's ids tell the two apart (`cuStreamGetId`, CUDA 12.0).
    ///
    /// A pool may still have memory of a stream that its owner has destroyed. The pool never uses the handle of such a
    /// stream. Before another stream gets the memory, that stream waits for all work that the device has at that time.
    ///
    /// # Safety
    ///
    /// The caller must ensure that
    /// - `handle` is a stream of `device`, created in its primary context, which the CUDA runtime and this library use,
    /// - the stream is not destroyed before the last clone of the result and the buffers on the stream are dropped,
    /// - with a driver before CUDA 12.0: when the stream is destroyed, its work with memory of this library is done,
    ///   because the driver gives the handle to the next stream that is created,
    /// - while the stream is captured into a graph, the program relies on no result of captured work, as for
    ///   [`begin_capture`](Self::begin_capture), and marks the capture ([`Device::capture_underway`]).
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
            raw => {
                // SAFETY: the caller promises that the stream exists.
                let asked = unsafe { Asked::for_id(device, raw) };
                let recent = Self::recent(device, raw).filter(|stream| stream.inner.origin.is_named(asked));
                recent.unwrap_or_else(|| Self::foreign(device, raw, asked))
            }
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
    fn foreign(device: &Device, raw: RawStream, asked: Asked) -> Self {
        let streams = device.machine().slots().get(Registry::<Inner>::new);
        let create = || {
            let driver_id = match asked {
                Asked::Answered(id) => OnceLock::from(id),
                Asked::Captured => OnceLock::new(),
            };
            let origin = Origin::Foreign(Named { driver_id, replaced: AtomicBool::new(false) });
            Self::assemble(device, raw, StreamId::unique(), origin).inner
        };
        let is_same = |inner: &Inner| inner.origin.is_named(asked);
        Self { inner: streams.get(device.ordinal(), raw.0, is_same, create) }.remembered()
    }

    /// Reports whether `handle` is a handle of this stream: for a foreign stream, the driver has not given the handle to
    /// another stream since.
    ///
    /// # Safety
    ///
    /// The caller must ensure that `handle` is a stream of the stream's device that exists, or 0, 1 or 2.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Device, Stream};
    /// # let device = Device::simulated(Profile::default())?;
    /// let owned = Stream::new(&device)?;
    /// // SAFETY: `owned` exists.
    /// let stream = unsafe { Stream::from_raw(&device, owned.as_raw()) };
    /// // SAFETY: as above.
    /// assert!(unsafe { stream.is_named(owned.as_raw()) });
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub unsafe fn is_named(&self, handle: u64) -> bool {
        let legacy = handle == 0 && self.inner.raw == RawStream::LEGACY;
        if self.inner.raw.0 != handle {
            return legacy;
        }
        match &self.inner.origin {
            // SAFETY: the caller promises that the stream exists.
            Origin::Foreign(named) => named.is(unsafe { Asked::for_id(self.device(), self.inner.raw) }),
            Origin::PerThread(owner, _) => *owner == thread::current().id(),
            Origin::Owned(_) | Origin::Legacy => true,
        }
    }

    fn assemble(device: &Device, raw: RawStream, id: StreamId, origin: Origin) -> Self {
        let device_id = device.id();
        Self {
            inner: Arc::new(Inner { raw, id, device_id, origin, device: device.clone(), kept: AtomicUsize::new(0) }),
        }
    }
}

/// The driver's answer to the question for the id of a stream.
#[derive(Debug, Clone, Copy)]
pub(super) enum Asked {
    /// The id, or `None` if the driver has no ids.
    Answered(Option<u64>),
    /// The driver does not answer for a captured stream.
    Captured,
}

impl Asked {
    /// Reports whether the driver answers with this id.
    ///
    /// # Safety
    ///
    /// The caller must ensure that `raw` is a stream of the device that exists.
    #[inline]
    pub(super) unsafe fn is_id(device: &Device, raw: RawStream, id: u64) -> bool {
        // SAFETY: the caller ensures that the stream exists.
        matches!(unsafe { device.driver().stream_id(device.ordinal(), raw) }, Ok(found) if found == id)
    }

    /// # Safety
    ///
    /// The caller must ensure that `raw` is a stream of the device that exists.
    #[inline]
    pub(super) unsafe fn for_id(device: &Device, raw: RawStream) -> Self {
        // SAFETY: the caller ensures that the stream exists.
        match unsafe { device.driver().stream_id(device.ordinal(), raw) } {
            Ok(id) => Self::Answered(Some(id)),
            Err(error) if error.code() == Some(CudaErrorCode::STREAM_CAPTURE_UNSUPPORTED) => Self::Captured,
            Err(_) => Self::Answered(None),
        }
    }
}

impl Named {
    /// Reports whether the stream has this id. While a stream is captured, its owner has not destroyed it, so its handle is
    /// taken for its name. A stream that was first used while it was captured gets its id later.
    #[inline]
    fn is(&self, asked: Asked) -> bool {
        match asked {
            Asked::Answered(id) => *self.driver_id.get_or_init(|| id) == id,
            Asked::Captured => true,
        }
    }
}

impl Origin {
    /// Reports whether the origin is a foreign stream with this id of the driver. A foreign stream with another id is
    /// gone, because the driver has given its handle to the stream with this id.
    #[inline]
    fn is_named(&self, asked: Asked) -> bool {
        let Self::Foreign(named) = self else { return false };
        let same = named.is(asked);
        if !same {
            named.replaced.store(true, Ordering::Release);
        }
        same
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cumem_sim::Profile;

    #[test]
    fn a_handle_with_another_id_is_another_stream_and_the_old_one_is_gone() {
        let device = Device::simulated(Profile::default()).unwrap();
        let named = |id| Stream::foreign(&device, RawStream(0x1000), Asked::Answered(id));
        let first = named(Some(1));
        let kept = first.keep();
        assert_eq!(first, named(Some(1)));
        assert!(!kept.is_abandoned());
        let second = named(Some(2));
        assert!(first != second && kept.is_abandoned() && !second.keep().is_abandoned());
        assert_eq!(second, named(Some(2)));
        // A driver without ids cannot tell them apart.
        let third = named(None);
        assert_eq!((third == second, third == named(None)), (false, true));
    }

    /// The driver refuses the question for the id of a captured stream.
    #[test]
    fn a_captured_stream_is_the_same_stream_before_and_after() {
        use crate::kernel::{CaptureMode, CaptureState};
        let device = Device::simulated(Profile::default()).unwrap();
        for known in [true, false] {
            let owned = Stream::new(&device).unwrap();
            // SAFETY: the stream exists.
            let foreign = || unsafe { Stream::from_raw(&device, owned.as_raw()) };
            let before = known.then(foreign);
            // SAFETY: the program enqueues no work.
            let capture = unsafe { owned.begin_capture(CaptureMode::Global) }.unwrap();
            let within = foreign();
            assert!(before.is_none_or(|before| before == within));
            assert!(matches!(owned.capture_state(), Ok(CaptureState::Active { .. })));
            capture.end().unwrap();
            assert_eq!(foreign(), within);
        }
    }

    #[test]
    fn a_stream_is_named_by_its_own_handle() {
        let device = Device::simulated(Profile::default()).unwrap();
        let owned = Stream::new(&device).unwrap();
        // SAFETY: the stream exists.
        let foreign = unsafe { Stream::from_raw(&device, owned.as_raw()) };
        let named = |stream: &Stream, handle| {
            // SAFETY: the handles are those of streams that exist.
            unsafe { stream.is_named(handle) }
        };
        assert!(named(&foreign, owned.as_raw()) && named(&owned, owned.as_raw()) && !named(&foreign, 0));
        let legacy = Stream::legacy_default(&device);
        assert!(named(&legacy, 0) && named(&legacy, 1) && !named(&legacy, 2));
        assert!(named(&Stream::per_thread_default(&device), 2) && !named(&foreign, 2));
    }
}
