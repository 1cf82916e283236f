//! [`Stream`]: an ordered queue of work on a device.

use super::error::DeviceError;
use super::event::Event;
use super::handle::Device;
use super::host_gate::Closed;
use super::machine::Machine;
use super::module::Function;
use super::notice::{Interest, Notice};
use cumem_driver::call_site::CallSite;
use cumem_driver::owned::OwnedStream;
use cumem_driver::{DeviceId, DriverError, HostKernel, KernelArg, LaunchConfig, RawStream};
use std::cell::RefCell;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
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
}

#[derive(Debug)]
enum Origin {
    /// A stream that this library created and destroys with the last handle.
    Owned(#[expect(dead_code, reason = "only dropped")] OwnedStream),
    Legacy,
    PerThread(ThreadId),
    Foreign,
}

/// A number that identifies a stream within the process. It is never reused, while the driver reuses its handles.
///
/// # Examples
///
/// ```
/// use cumem::sim::Profile;
/// use cumem::{Device, Stream};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let device = Device::simulated(Profile::default())?;
/// let (stream, other) = (Stream::new(&device)?, Stream::new(&device)?);
/// assert_eq!(stream.id(), stream.clone().id());
/// assert_ne!(stream.id(), other.id());
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamId(u64);

impl StreamId {
    fn unique() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }

    /// Returns the number.
    #[inline]
    pub fn as_u64(self) -> u64 {
        self.0
    }
}

/// The ids of the legacy default streams of a machine, by device.
struct LegacyIds(Box<[OnceLock<StreamId>]>);

impl LegacyIds {
    fn new(devices: usize) -> Self {
        Self((0..devices).map(|_| OnceLock::new()).collect())
    }
}

thread_local! {
    static PER_THREAD_IDS: RefCell<PerThreadIds> = const { RefCell::new(PerThreadIds(Vec::new())) };
}

/// The ids of the per-thread default streams of one thread, by machine and device.
struct PerThreadIds(Vec<(Weak<Machine>, u32, StreamId)>);

impl PerThreadIds {
    fn of(&mut self, device: &Device) -> StreamId {
        let known = |(machine, ordinal, _): &&(Weak<Machine>, u32, _)| {
            std::ptr::eq(machine.as_ptr(), Arc::as_ptr(device.machine())) && *ordinal == device.ordinal()
        };
        if let Some((.., id)) = self.0.iter().find(known) {
            return *id;
        }
        self.0.retain(|(machine, ..)| machine.strong_count() > 0);
        let id = StreamId::unique();
        self.0.push((Arc::downgrade(device.machine()), device.ordinal(), id));
        id
    }
}

impl Stream {
    /// Creates a stream that does not synchronize with the legacy default stream (`CU_STREAM_NON_BLOCKING`).
    ///
    /// # Errors
    ///
    /// Returns the driver's error.
    pub fn new(device: &Device) -> Result<Self, DriverError> {
        Self::create(device, false)
    }

    /// Creates a stream that synchronizes with the legacy default stream (`CU_STREAM_DEFAULT`): work on either of them
    /// waits for earlier work on the other. For programs that use both.
    ///
    /// # Errors
    ///
    /// Returns the driver's error.
    pub fn blocking(device: &Device) -> Result<Self, DriverError> {
        Self::create(device, true)
    }

    fn create(device: &Device, blocking: bool) -> Result<Self, DriverError> {
        let owned = OwnedStream::new(device.raw(), blocking)?;
        Ok(Self::assemble(device, owned.raw(), StreamId::unique(), Origin::Owned(owned)))
    }

    /// Returns the legacy default stream of the device (`CU_STREAM_LEGACY`).
    pub fn legacy_default(device: &Device) -> Self {
        let ids = device.machine().slots().get(|| LegacyIds::new(device.machine().devices()));
        let id = *ids.0[device.ordinal() as usize].get_or_init(StreamId::unique);
        Self::assemble(device, RawStream::LEGACY, id, Origin::Legacy)
    }

    /// Returns the calling thread's default stream (`CU_STREAM_PER_THREAD`).
    ///
    /// Other threads may keep the result, but only the calling thread may enqueue work on it: in another thread, the
    /// driver's handle refers to that thread's stream. Calls of another thread return [`DeviceError::WrongThread`].
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
        let id = PER_THREAD_IDS.try_with(|ids| ids.borrow_mut().of(device));
        // While the thread ends, its table may already be dropped. A new number is correct then, because the thread can
        // no longer compare it with an earlier one.
        let id = id.unwrap_or_else(|_| StreamId::unique());
        let origin = Origin::PerThread(thread::current().id());
        Self::assemble(device, RawStream::PER_THREAD, id, origin)
    }

    /// Returns a handle to a stream that other code created, such as the CUDA runtime, from its `CUstream`. This
    /// library never destroys that stream. The handles 0, 1 and 2 refer to the default streams.
    ///
    /// # Safety
    ///
    /// The caller must ensure that
    /// - `handle` is a stream of `device`, created in its primary context, which the CUDA runtime and this library use,
    /// - the stream is not destroyed before the last clone of the result is dropped, nor before the buffers on the
    ///   stream and the pools that got blocks back on it are dropped,
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
            raw => Self::assemble(device, raw, StreamId::unique(), Origin::Foreign),
        }
    }

    fn assemble(device: &Device, raw: RawStream, id: StreamId, origin: Origin) -> Self {
        let device_id = device.id();
        Self { inner: Arc::new(Inner { raw, id, device_id, origin, device: device.clone() }) }
    }

    /// Returns the device of the stream.
    #[inline]
    pub fn device(&self) -> &Device {
        &self.inner.device
    }

    /// Returns the id of the stream's device. Cheaper than `device().id()`, because the stream stores the id itself.
    #[inline]
    pub fn device_id(&self) -> DeviceId {
        self.inner.device_id
    }

    /// Returns the id of the stream.
    #[inline]
    pub fn id(&self) -> StreamId {
        self.inner.id
    }

    /// Returns the driver's handle (`CUstream`), or the simulator's number. It is valid until the last handle to the
    /// stream is dropped.
    pub fn as_raw(&self) -> u64 {
        self.inner.raw.0
    }

    /// Returns the number of handles to this stream. If it is one, no other code can enqueue work on the stream through
    /// this library. For a default stream the result is `usize::MAX`, because any code can get a handle to it.
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
            Origin::Owned(_) | Origin::Foreign => Arc::strong_count(&self.inner),
            Origin::Legacy | Origin::PerThread(_) => usize::MAX,
        }
    }

    /// Waits until the stream has done all its work.
    ///
    /// # Errors
    ///
    /// Returns [`DeviceError::WrongThread`] for another thread's default stream, or the driver's error, errors of
    /// earlier work included.
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
    /// not block the host.
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

    /// Waits for the work that must be done before the host accesses memory of this stream. This is the work of the
    /// stream, or of the whole device if the device has no concurrent managed access. Such a device refuses further
    /// work until the result is dropped.
    pub(crate) fn host_access(&self) -> Result<Option<Closed<'_>>, DeviceError> {
        match self.device().host_gate() {
            None => self.synchronize().map(|()| None),
            Some(gate) => Ok(Some(gate.close(|| self.device().synchronize())?)),
        }
    }

    /// Returns the driver's handle, or an error if the stream is the default stream of another thread.
    #[inline]
    pub(crate) fn raw(&self) -> Result<RawStream, DeviceError> {
        match self.inner.origin {
            Origin::PerThread(owner) if owner != thread::current().id() => {
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
        write!(f, "Stream({} {:?} on {})", self.id().0, self.inner.origin, self.device_id())
    }
}
