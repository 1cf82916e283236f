//! [`Stream`]: an ordered queue of work on a device.

mod launch;
pub(super) mod name;
mod open;
mod order;

use super::error::DeviceError;
use super::handle::Device;
use super::stream_ids::{Ended, StreamId};
use cumem_driver::owned::OwnedStream;
use cumem_driver::{DeviceId, RawStream};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::{self, ThreadId};

/// An ordered queue of work on a device.
///
/// The type is a shared handle, so clones refer to the same CUDA stream. The CUDA stream is destroyed with the last
/// handle. A buffer or a pool keeps a handle to each stream that it uses.
///
/// # Examples
///
/// ```
/// use cumem::sim::Profile;
/// use cumem::{Buffer, CudaResource, Device, Stream};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let device = Device::simulated(Profile::default())?;
/// let stream = Stream::new(&device)?;
/// let _buffer = Buffer::<u8, _>::zeroed(64 << 20, &stream, CudaResource::new(&device))?;
/// assert!(!stream.is_idle()?); // the zeroing is enqueued, and the host does not wait for it
/// stream.synchronize()?;
/// assert!(stream.is_idle()?);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Stream {
    inner: Arc<Inner>,
}

struct Inner {
    raw: RawStream,
    id: StreamId,
    device_id: DeviceId,
    origin: Origin,
    device: Device,
    /// How many of the handles only keep the stream ([`KeptStream`](super::kept_stream::KeptStream)).
    kept: AtomicUsize,
}

#[derive(Debug)]
enum Origin {
    /// A stream that this library created and destroys with the last handle.
    Owned(#[expect(dead_code, reason = "only dropped")] OwnedStream),
    Legacy,
    PerThread(ThreadId, Ended),
    /// A stream that other code created. That code may destroy the stream when the program has no handle to it.
    Foreign(Named),
}

/// A foreign stream, as the driver names it besides its handle.
#[derive(Debug)]
struct Named {
    /// The driver's id of the stream, which is never reused, or `None` if the driver has no ids. Not set as long as the
    /// stream was only used while it was captured.
    driver_id: OnceLock<Option<u64>>,
    /// The driver has given the handle to another stream, so this one is gone.
    replaced: AtomicBool,
}

impl Stream {
    /// Returns the device of the stream.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Device, Stream};
    /// # let device = Device::simulated(Profile::default())?;
    /// let stream = Stream::new(&device)?;
    /// assert_eq!(stream.device(), &device);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn device(&self) -> &Device {
        &self.inner.device
    }

    /// Returns the id of the stream's device. Faster than `device().id()`, because the stream stores a copy of the id.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Device, Stream};
    /// # let device = Device::simulated(Profile::default())?;
    /// let stream = Stream::new(&device)?;
    /// assert_eq!(stream.device_id(), device.id());
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn device_id(&self) -> DeviceId {
        self.inner.device_id
    }

    /// Returns the id of the stream.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Device, Stream};
    /// # let device = Device::simulated(Profile::default())?;
    /// let stream = Stream::new(&device)?;
    /// assert_eq!(stream.id(), stream.clone().id()); // clones are the same stream
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn id(&self) -> StreamId {
        self.inner.id
    }

    /// Returns the driver's handle (`CUstream`), or the simulator's number. The handle is valid until the last handle
    /// to the stream is dropped.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Device, Stream};
    /// # let device = Device::simulated(Profile::default())?;
    /// let stream = Stream::new(&device)?;
    /// let handle: u64 = stream.as_raw(); // for a C library that takes a `CUstream`
    /// assert_eq!(handle, stream.clone().as_raw());
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn as_raw(&self) -> u64 {
        self.inner.raw.0
    }

    /// Returns the number of handles to this stream, without those that only [keep](Self::keep) it. If it is one, no
    /// other code can enqueue work on the stream through this library. For a default stream the result is `usize::MAX`,
    /// because any code can get a handle to it.
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
    /// let clone = stream.clone();
    /// assert_eq!(stream.handles(), 2);
    /// drop(clone);
    /// assert_eq!(stream.handles(), 1);
    /// # Ok(())
    /// # }
    /// ```
    pub fn handles(&self) -> usize {
        match self.inner.origin {
            Origin::Owned(_) | Origin::Foreign(_) => {
                Arc::strong_count(&self.inner).saturating_sub(self.inner.kept.load(Ordering::Acquire))
            }
            Origin::Legacy | Origin::PerThread(..) => usize::MAX,
        }
    }

    pub(super) fn add_kept(&self) {
        self.inner.kept.fetch_add(1, Ordering::AcqRel);
    }

    pub(super) fn remove_kept(&self) {
        self.inner.kept.fetch_sub(1, Ordering::AcqRel);
    }

    /// Reports whether no code can enqueue work on the stream any more.
    pub(super) fn has_no_users(&self) -> bool {
        match &self.inner.origin {
            Origin::Owned(_) => self.handles() == 0,
            Origin::PerThread(_, ended) => ended.has_ended(),
            Origin::Foreign(named) => named.replaced.load(Ordering::Acquire),
            Origin::Legacy => false,
        }
    }

    /// Reports whether the calling thread may use the driver's handle as long as this handle exists, also when the
    /// program has no other handle.
    pub(super) fn handle_outlives_users(&self) -> bool {
        match &self.inner.origin {
            Origin::Owned(_) | Origin::Legacy => true,
            Origin::PerThread(owner, _) => *owner == thread::current().id(),
            Origin::Foreign(_) => false,
        }
    }

    /// Returns the driver's handle, or an error if the stream is the default stream of another thread.
    #[inline]
    pub(crate) fn raw(&self) -> Result<RawStream, DeviceError> {
        match self.inner.origin {
            Origin::PerThread(owner, _) if owner != thread::current().id() => {
                Err(DeviceError::WrongThread { device: self.device_id() })
            }
            _ => Ok(self.inner.raw),
        }
    }
}

impl PartialEq for Stream {
    fn eq(&self, other: &Self) -> bool {
        self.id() == other.id()
    }
}

impl Eq for Stream {}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Stream({} {:?} on {})", self.id().as_u64(), self.inner.origin, self.device_id())
    }
}
