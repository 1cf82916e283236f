//! [`Stream`]: an order of work on a device.

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

/// An order of work on a device. A shared handle: clones are the same stream, and the CUDA stream
/// lives until the last of them is gone, so whoever keeps one (a buffer, a pool's free list) can rely on it.
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
    /// Destroyed with the last handle.
    Owned(#[expect(dead_code, reason = "only dropped")] OwnedStream),
    Legacy,
    PerThread(ThreadId),
    Foreign,
}

/// A number that no other stream of this process has or will have, unlike the handle of the driver,
/// which it reuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamId(u64);

impl StreamId {
    fn unique() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }

    /// The number.
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

/// The ids of the default streams of one thread, by machine and device.
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
    /// A new stream that does not synchronise with the legacy default stream
    /// (`CU_STREAM_NON_BLOCKING`).
    ///
    /// # Errors
    ///
    /// What the driver answers.
    pub fn new(device: &Device) -> Result<Self, DriverError> {
        Self::create(device, false)
    }

    /// A new stream that waits for the legacy default stream and is waited for by it
    /// (`CU_STREAM_DEFAULT`), for programs that mix both.
    ///
    /// # Errors
    ///
    /// What the driver answers.
    pub fn blocking(device: &Device) -> Result<Self, DriverError> {
        Self::create(device, true)
    }

    fn create(device: &Device, blocking: bool) -> Result<Self, DriverError> {
        let owned = OwnedStream::new(device.raw(), blocking)?;
        Ok(Self::assemble(device, owned.raw(), StreamId::unique(), Origin::Owned(owned)))
    }

    /// The legacy default stream of the device (`CU_STREAM_LEGACY`).
    pub fn legacy_default(device: &Device) -> Self {
        let ids = device.machine().slots().get(|| LegacyIds::new(device.machine().devices()));
        let id = *ids.0[device.ordinal() as usize].get_or_init(StreamId::unique);
        Self::assemble(device, RawStream::LEGACY, id, Origin::Legacy)
    }

    /// The calling thread's default stream (`CU_STREAM_PER_THREAD`). The handle may travel, but only
    /// this thread may give it work: to the driver the same handle means another stream elsewhere.
    pub fn per_thread_default(device: &Device) -> Self {
        let id = PER_THREAD_IDS.try_with(|ids| ids.borrow_mut().of(device));
        // While the thread ends its table may be gone; a new number is then as good, because the thread cannot have
        // compared it with an earlier one.
        let id = id.unwrap_or_else(|_| StreamId::unique());
        let origin = Origin::PerThread(thread::current().id());
        Self::assemble(device, RawStream::PER_THREAD, id, origin)
    }

    /// A stream that somebody else owns, by its `CUstream`. Never destroyed by this library. The handles of the default
    /// streams (0, 1, 2) give those.
    ///
    /// # Safety
    ///
    /// - `handle` is a stream of `device`, made in its primary context, which the CUDA runtime and this library use.
    /// - It stays one until the last clone of the result, the buffers made on it, and the pools that blocks were given
    ///   back to on it are gone.
    /// - It is not being captured into a graph while this library uses it.
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

    /// Its device.
    #[inline]
    pub fn device(&self) -> &Device {
        &self.inner.device
    }

    /// The id of its device, without the way to it.
    #[inline]
    pub fn device_id(&self) -> DeviceId {
        self.inner.device_id
    }

    /// Which stream this is.
    #[inline]
    pub fn id(&self) -> StreamId {
        self.inner.id
    }

    /// The driver's handle (`CUstream`), or the simulator's number. It is good as long as this stream is.
    pub fn as_raw(&self) -> u64 {
        self.inner.raw.0
    }

    /// How many handles of this library to this stream there are. At one, nobody else can give it work through this
    /// library any more. A default stream can be named by anybody at any time, so it always counts as held by many.
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
    /// What the driver answers, errors of earlier work included.
    pub fn synchronize(&self) -> Result<(), DeviceError> {
        let (raw, device) = (self.raw()?, self.device());
        // SAFETY: the handle is this stream's, which is alive.
        Ok(unsafe { device.driver().synchronize_stream(device.ordinal(), raw) }?)
    }

    /// Whether the stream has done all its work, without waiting.
    ///
    /// # Errors
    ///
    /// What the driver answers, errors of earlier work included.
    pub fn is_idle(&self) -> Result<bool, DeviceError> {
        let (raw, device) = (self.raw()?, self.device());
        // SAFETY: the handle is this stream's, which is alive.
        Ok(unsafe { device.driver().query_stream(device.ordinal(), raw) }?)
    }

    /// Makes work enqueued here from now on wait for the work before the last
    /// [record](Event::record) of `event`. Does not block the host.
    ///
    /// # Errors
    ///
    /// [`DeviceError::WrongDevice`] if the event belongs to another simulator, or what the driver answers.
    pub fn wait(&self, event: &Event) -> Result<(), DeviceError> {
        let (raw, device) = (self.raw()?, self.device());
        if !event.device().id().same_machine(device.id()) {
            device.check_device("the event", event.device().id())?;
        }
        // SAFETY: both handles are alive, and belong to one machine.
        Ok(unsafe { device.driver().wait_event(device.ordinal(), raw, event.owned().raw()) }?)
    }

    /// Makes work enqueued here from now on wait for the work enqueued on `other` so far.
    ///
    /// # Errors
    ///
    /// Those of [`Event::new`], [`Event::record`] and [`Stream::wait`].
    pub fn wait_for(&self, other: &Stream) -> Result<(), DeviceError> {
        if self.id() == other.id() {
            return Ok(());
        }
        let event = Event::new(other.device())?;
        event.record(other)?;
        self.wait(&event)
    }

    /// Launches a kernel.
    ///
    /// # Errors
    ///
    /// [`DeviceError::WrongDevice`] if the function was loaded for another device, or what the driver
    /// answers.
    ///
    /// # Safety
    ///
    /// `args` are what the kernel takes, in number and type, and everything that the kernel touches is
    /// valid, and used in no conflicting way, until the stream has passed it.
    pub unsafe fn launch_kernel(
        &self,
        function: &Function,
        config: LaunchConfig,
        args: &[KernelArg],
    ) -> Result<(), DeviceError> {
        let (raw, device) = (self.raw()?, self.device());
        device.check_device("the kernel", function.device().id())?;
        // SAFETY: the caller vouches for the arguments; both handles are alive.
        device.enqueue(|| unsafe { device.driver().launch(device.ordinal(), function.raw(), config, args, raw) })?;
        device.tell(&Notice::Launched { accesses: &[] });
        Ok(())
    }

    /// Enqueues work of a simulated device, which the host does when its turn comes.
    ///
    /// # Errors
    ///
    /// [`DriverError::NotSupported`] on a GPU; what the simulator finds wrong.
    ///
    /// # Safety
    ///
    /// The ranges that the kernel declares stay valid, hold initialised bytes, and are used in no conflicting way,
    /// until the stream has passed it.
    #[track_caller]
    pub unsafe fn launch_host(&self, kernel: HostKernel) -> Result<(), DeviceError> {
        let _site = CallSite::here();
        let (raw, device) = (self.raw()?, self.device());
        let heard = device.wants(Interest::LAUNCHED);
        let accesses = if heard { kernel.accesses.clone() } else { Default::default() };
        // SAFETY: the caller vouches for the declared ranges; the handle is alive.
        device.enqueue(|| unsafe { device.driver().launch_host(device.ordinal(), kernel, raw) })?;
        device.tell(&Notice::Launched { accesses: &accesses });
        Ok(())
    }

    /// Waits for the work that a host access to memory of this stream must wait for: the work of the stream, or of the
    /// device if it has no concurrent managed access. Such a device refuses other work for as long as the result lives.
    pub(crate) fn host_access(&self) -> Result<Option<Closed<'_>>, DeviceError> {
        match self.device().host_gate() {
            None => self.synchronize().map(|()| None),
            Some(gate) => Ok(Some(gate.close(|| self.device().synchronize())?)),
        }
    }

    /// The driver's handle, for use by the calling thread now.
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
    /// Marks the end of the work enqueued on `stream` so far; the earlier mark is forgotten.
    ///
    /// # Errors
    ///
    /// [`DeviceError::WrongDevice`] if the stream belongs to another device, or what the driver answers.
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
