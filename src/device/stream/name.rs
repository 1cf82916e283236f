//! [`StreamName`]: what tells a stream apart, for code that keeps no handle to it.

use super::open::Asked;
use super::{Origin, Stream};
use crate::device::handle::Device;
use crate::device::stream_ids::StreamId;
use cumem_driver::RawStream;

/// What tells a stream apart from all others: the driver's handle, and the numbers that the driver and this library have
/// for the stream. It keeps nothing alive, so a cache may hold it.
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
/// let name = stream.name();
/// // SAFETY: the stream exists, and belongs to the device.
/// assert!(unsafe { name.is_of(&device, stream.as_raw()) });
/// assert_eq!(name.id(), stream.id());
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamName {
    raw: RawStream,
    id: StreamId,
    driver_id: DriverId,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum DriverId {
    /// The handle is a default stream's, which always exists.
    NotNeeded,
    Known(u64),
    /// The driver has no ids, or does not tell this one, because the stream is captured.
    Unknown,
}

impl Stream {
    /// Returns the name of the stream. In another thread than the calling one, the name of a per-thread default stream is
    /// the name of another stream.
    ///
    /// # Examples
    ///
    /// See [`StreamName`].
    pub fn name(&self) -> StreamName {
        let known = |id: Option<u64>| id.map_or(DriverId::Unknown, DriverId::Known);
        let driver_id = match &self.inner.origin {
            Origin::Legacy | Origin::PerThread(..) => DriverId::NotNeeded,
            Origin::Foreign(named) => known(named.driver_id.get().copied().flatten()),
            // SAFETY: the stream is alive.
            Origin::Owned(_) => known(match unsafe { Asked::for_id(self.device(), self.inner.raw) } {
                Asked::Answered(id) => id,
                Asked::Captured => None,
            }),
        };
        StreamName { raw: self.inner.raw, id: self.inner.id, driver_id }
    }
}

impl StreamName {
    /// Reports whether `handle` is a handle of the named stream. Returns false if that cannot be told from the name alone,
    /// for example while the stream is captured.
    ///
    /// # Safety
    ///
    /// The caller must ensure that
    /// - `handle` is a stream of `device` that exists, or 0, 1 or 2,
    /// - the name is that of a stream of `device`, and if `handle` is 2, of the calling thread's.
    ///
    /// # Examples
    ///
    /// See [`StreamName`].
    #[inline]
    pub unsafe fn is_of(&self, device: &Device, handle: u64) -> bool {
        self.raw.0 == handle
            && match self.driver_id {
                DriverId::NotNeeded => true,
                // SAFETY: the caller ensures that the stream exists.
                DriverId::Known(known) => unsafe { Asked::is_id(device, self.raw, known) },
                DriverId::Unknown => false,
            }
    }

    /// Returns the id of the stream.
    #[inline]
    pub fn id(&self) -> StreamId {
        self.id
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::CaptureMode;
    use cumem_sim::Profile;

    #[test]
    fn a_name_is_of_its_stream_only() {
        let device = Device::simulated(Profile::default()).unwrap();
        let [owned, other] = [(); 2].map(|()| Stream::new(&device).unwrap());
        // SAFETY: the stream exists.
        let foreign = unsafe { Stream::from_raw(&device, owned.as_raw()) };
        let is_of = |stream: &Stream, handle| {
            // SAFETY: the handles are those of streams that exist, and of this thread.
            unsafe { stream.name().is_of(&device, handle) }
        };
        assert!(is_of(&owned, owned.as_raw()) && is_of(&foreign, owned.as_raw()) && !is_of(&foreign, other.as_raw()));
        assert!(is_of(&Stream::legacy_default(&device), 1) && is_of(&Stream::per_thread_default(&device), 2));
        // SAFETY: the program enqueues no work.
        let capture = unsafe { owned.begin_capture(CaptureMode::Global) }.unwrap();
        assert!(!is_of(&foreign, owned.as_raw()), "the driver does not tell the id of a captured stream");
        drop(capture);
        let renamed = StreamName { driver_id: DriverId::Known(u64::MAX), ..foreign.name() };
        // SAFETY: the stream exists.
        assert!(!unsafe { renamed.is_of(&device, owned.as_raw()) }, "the handle is another stream's now");
    }
}
