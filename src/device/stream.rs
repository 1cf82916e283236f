//! [`Stream`]: an ordered queue of work on a device.

use super::error::DeviceError;
use super::event::Event;
use super::handle::Device;
use super::host_gate::Closed;
use super::interned::{Recent, Registry};
use super::module::Function;
use super::notice::{Interest, Notice};
use super::stream_ids::{Ended, LegacyIds, PerThreadIds, StreamId};
use cumem_driver::call_site::CallSite;
use cumem_driver::owned::OwnedStream;
use cumem_driver::{DeviceId, DriverError, HostKernel, KernelArg, LaunchConfig, RawStream};
use std::borrow::Cow;
use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
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
    Foreign,
}

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
        Self::create(device, false)
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
        Self::create(device, true)
    }

    fn create(device: &Device, blocking: bool) -> Result<Self, DriverError> {
        let owned = OwnedStream::new(device.raw(), blocking)?;
        Ok(Self::assemble(device, owned.raw(), StreamId::unique(), Origin::Owned(owned)))
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
    /// driver's handle refers to that thread's stream. Calls of another thread return [`DeviceError::WrongThread`].
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
            Origin::Owned(_) | Origin::Foreign => {
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
            Origin::Legacy | Origin::Foreign => false,
        }
    }

    /// Reports whether the calling thread may use the driver's handle as long as this handle exists, also when the
    /// program has no other handle.
    pub(super) fn handle_outlives_users(&self) -> bool {
        match &self.inner.origin {
            Origin::Owned(_) | Origin::Legacy => true,
            Origin::PerThread(owner, _) => *owner == thread::current().id(),
            Origin::Foreign => false,
        }
    }

    /// Waits until the stream has done all its work.
    ///
    /// # Errors
    ///
    /// Returns [`DeviceError::WrongThread`] for another thread's default stream, or the driver's error, errors of
    /// earlier work included.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Buffer, CudaResource, Device, Stream};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// let _zeros = Buffer::<u8, _>::zeroed(64 << 20, &stream, CudaResource::new(&device))?; // only enqueued
    /// stream.synchronize()?;
    /// assert!(stream.is_idle()?);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn synchronize(&self) -> Result<(), DeviceError> {
        let (raw, device) = (self.raw()?, self.device());
        // SAFETY: the handle is this stream's, which is alive.
        Ok(unsafe { device.driver().synchronize_stream(device.ordinal(), raw) }?)
    }

    /// Reports whether the stream has done all its work, without waiting.
    ///
    /// # Errors
    ///
    /// Returns [`DeviceError::WrongThread`] for another thread's default stream, or the driver's error, errors of
    /// earlier work included.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Buffer, CudaResource, Device, Stream};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// let _zeros = Buffer::<u8, _>::zeroed(64 << 20, &stream, CudaResource::new(&device))?;
    /// assert!(!stream.is_idle()?); // the host can do other work meanwhile
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn is_idle(&self) -> Result<bool, DeviceError> {
        let (raw, device) = (self.raw()?, self.device());
        // SAFETY: the handle is this stream's, which is alive.
        Ok(unsafe { device.driver().query_stream(device.ordinal(), raw) }?)
    }

    /// Makes the work that is enqueued on this stream from now on wait for `event`, as it was
    /// [recorded](Event::record) last. Does not block the host.
    ///
    /// # Errors
    ///
    /// Returns [`DeviceError::WrongDevice`] if the event belongs to another simulator or driver, or the driver's error.
    ///
    /// # Examples
    ///
    /// See [`Event`].
    pub fn wait(&self, event: &Event) -> Result<(), DeviceError> {
        let (raw, device) = (self.raw()?, self.device());
        if !event.device().id().same_machine(device.id()) {
            device.check_device("the event", event.device().id())?;
        }
        // SAFETY: both handles are alive, and belong to one machine.
        Ok(unsafe { device.driver().wait_event(device.ordinal(), raw, event.owned().raw()) }?)
    }

    /// Makes the work that is enqueued on this stream from now on wait for the work enqueued on `other` so far. Does
    /// not block the host, unless one of the two streams is another thread's default stream. The calling thread cannot
    /// enqueue a wait there, so the host waits instead.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Event::new`], [`Event::record`] and [`Stream::wait`].
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem::sim::Profile;
    /// use cumem::{Buffer, CudaResource, Device, Stream};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let device = Device::simulated(Profile::default())?;
    /// let (producer, consumer) = (Stream::new(&device)?, Stream::new(&device)?);
    /// let _buffer = Buffer::<u8, _>::zeroed(64 << 20, &producer, CudaResource::new(&device))?;
    /// consumer.wait_for(&producer)?;
    /// consumer.synchronize()?;
    /// assert!(producer.is_idle()?);
    /// # Ok(())
    /// # }
    /// ```
    pub fn wait_for(&self, other: &Stream) -> Result<(), DeviceError> {
        if self.id() == other.id() {
            return Ok(());
        }
        if self.raw().is_err() || other.raw().is_err() {
            return other.finish();
        }
        let event = Event::new(other.device())?;
        event.record(other)?;
        self.wait(&event)
    }

    /// Launches a kernel. For an example, see [`Module`](crate::kernel::Module).
    ///
    /// # Errors
    ///
    /// Returns
    /// - [`DeviceError::WrongDevice`] if the function was loaded for another device,
    /// - [`DeviceError::HostAccess`] while a host guard over managed memory is open on a device without concurrent
    ///   managed access,
    /// - [`DeviceError::WrongThread`] for another thread's default stream,
    /// - otherwise the driver's error.
    ///
    /// # Safety
    ///
    /// The caller must ensure that
    /// - `args` match the kernel's parameters in number and types,
    /// - all memory that the kernel uses stays valid, and is not used in a conflicting way, until the stream has passed
    ///   the kernel.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem::kernel::{KernelArg, LaunchConfig, Module};
    /// use cumem::{Buffer, CudaResource, Device, DeviceError, MemoryResource, Stream};
    ///
    /// /// Launches the kernel `fill(numbers, count, value)` of some PTX on all elements of a buffer.
    /// fn fill<R>(ptx: &str, numbers: &Buffer<u32, R>, stream: &Stream) -> Result<(), DeviceError>
    /// where
    ///     R: MemoryResource<Kind: cumem::kind::DeviceAccessible>,
    /// {
    ///     let kernel = Module::from_ptx(stream.device(), ptx)?.function("fill")?;
    ///     let count = numbers.len() as u32;
    ///     let args = [KernelArg::new(numbers.device_address()), KernelArg::new(count), KernelArg::new(7_u32)];
    ///     // SAFETY: the arguments are those of `fill`, which writes `count` elements of the buffer.
    ///     unsafe { stream.launch_kernel(&kernel, LaunchConfig::for_elements(count, 256), &args) }
    /// }
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub unsafe fn launch_kernel(
        &self,
        function: &Function,
        config: LaunchConfig,
        args: &[KernelArg],
    ) -> Result<(), DeviceError> {
        let (raw, device) = (self.raw()?, self.device());
        device.check_device("the kernel", function.device().id())?;
        // SAFETY: the caller ensures that the arguments match; both handles are alive.
        device.enqueue(|| unsafe { device.driver().launch(device.ordinal(), function.raw(), config, args, raw) })?;
        device.tell(&Notice::Launched { accesses: &[] });
        Ok(())
    }

    /// Enqueues a kernel of a simulated device. The kernel is a closure, which the host runs when the stream reaches
    /// it.
    ///
    /// The closure may own buffers and other handles of the device. They keep the device alive until the kernel has run,
    /// so a program that drops its own handles first waits for the kernel, for example with
    /// [`Device::run_all_kernels`].
    ///
    /// # Errors
    ///
    /// Returns
    /// - [`DriverError::NotSupported`] if the device is a GPU,
    /// - [`DeviceError::HostAccess`] while a host guard over managed memory is open on a device without concurrent
    ///   managed access,
    /// - [`DeviceError::WrongThread`] for another thread's default stream,
    /// - otherwise the simulator's error.
    ///
    /// # Safety
    ///
    /// The caller must ensure that the ranges that the kernel declares stay valid, hold initialized bytes, and are not
    /// used in a conflicting way until the stream has passed the kernel.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem::kernel::HostKernel;
    /// use cumem::sim::Profile;
    /// use cumem::{Buffer, CudaResource, Device, Stream};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let device = Device::simulated(Profile::default())?;
    /// let stream = Stream::new(&device)?;
    /// let numbers = Buffer::<u32, _>::zeroed(3, &stream, CudaResource::new(&device))?;
    /// let fill = HostKernel::new("fill", |memory| memory.write::<u32>(0).fill(7));
    /// let fill = fill.writes(numbers.device_address(), numbers.size_bytes());
    /// // SAFETY: the kernel writes the buffer, which lives until `to_vec` has waited for the kernel.
    /// unsafe { stream.launch_host(fill) }?;
    /// assert_eq!(numbers.to_vec()?, [7, 7, 7]);
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub unsafe fn launch_host(&self, kernel: HostKernel) -> Result<(), DeviceError> {
        let _site = CallSite::here();
        let (raw, device) = (self.raw()?, self.device());
        let heard = device.wants(Interest::LAUNCHED);
        let accesses = if heard { kernel.accesses.clone() } else { Default::default() };
        // SAFETY: the caller ensures that the declared ranges are valid; the handle is alive.
        device.enqueue(|| unsafe { device.driver().launch_host(device.ordinal(), kernel, raw) })?;
        device.tell(&Notice::Launched { accesses: &accesses });
        Ok(())
    }

    /// Waits for the work that must be done before the host accesses `memory` of this stream. This is the work of the
    /// stream, or for managed memory of all devices of the machine without concurrent managed access, if the stream's
    /// device is one. Such devices refuse further work until the result is dropped.
    pub(crate) fn host_access(&self, memory: *const u8) -> Result<Option<Closed<'_>>, DeviceError> {
        match self.device().host_gate() {
            Some(gate) if self.device().is_managed(memory)? => {
                Ok(Some(gate.close(|| self.device().synchronize_gated())?))
            }
            _ => self.finish().map(|()| None),
        }
    }

    /// Waits for the stream's work, from any thread. For another thread's default stream, waits for the whole device,
    /// because the driver's handle refers to another stream in the calling thread.
    pub(crate) fn finish(&self) -> Result<(), DeviceError> {
        match self.raw() {
            Ok(_) => self.synchronize(),
            Err(_) => Ok(self.device().synchronize()?),
        }
    }

    /// Returns a stream that the calling thread may use, and on which all work of this stream so far is ordered before
    /// later work. This is the stream itself. For another thread's default stream, the host waits for the device, and
    /// the result is the calling thread's default stream.
    #[inline]
    pub(crate) fn usable_here(&self) -> Result<Cow<'_, Self>, DeviceError> {
        match self.raw() {
            Ok(_) => Ok(Cow::Borrowed(self)),
            Err(_) => self.replaced(),
        }
    }

    #[cold]
    fn replaced(&self) -> Result<Cow<'_, Self>, DeviceError> {
        self.device().synchronize()?;
        Ok(Cow::Owned(Self::per_thread_default(self.device())))
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

impl Event {
    /// Records the event: it is done when the work enqueued on `stream` so far is done. A later record replaces an
    /// earlier one.
    ///
    /// # Errors
    ///
    /// Returns [`DeviceError::WrongDevice`] if the stream belongs to another device, [`DeviceError::WrongThread`] for
    /// another thread's default stream, or the driver's error.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem::sim::Profile;
    /// use cumem::{Buffer, CudaResource, Device, Event, Stream};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let device = Device::simulated(Profile::default())?;
    /// let (stream, event) = (Stream::new(&device)?, Event::new(&device)?);
    /// assert!(event.is_done()?); // never recorded
    /// let _buffer = Buffer::<u8, _>::zeroed(64 << 20, &stream, CudaResource::new(&device))?;
    /// event.record(&stream)?;
    /// assert!(!event.is_done()?);
    /// # Ok(())
    /// # }
    /// ```
    pub fn record(&self, stream: &Stream) -> Result<(), DeviceError> {
        self.device().check_device("the stream", stream.device_id())?;
        let raw = stream.raw()?;
        // SAFETY: the stream is alive, and belongs to the event's device.
        Ok(unsafe { self.owned().record(raw) }?)
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
