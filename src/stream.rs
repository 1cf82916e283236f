//! [`Stream`]: an order of work on a device.

use crate::accounting::{self, Asked, Cause};
use crate::caller::Calling;
use crate::device::Device;
use crate::driver::RawStream;
use crate::drop_error::record_drop_error;
use crate::error::DriverError;
use crate::event::Event;
use crate::kernel::{Access, AccessMode, Function, HostKernel, KernelArg, LaunchConfig};
use crate::location::DeviceId;
use crate::per_device::PerDevice;
use std::cell::RefCell;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
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

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    Owned,
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
        let raw = device.driver().create_stream(device.ordinal(), blocking)?;
        Ok(Self::assemble(device, raw, StreamId::unique(), Origin::Owned))
    }

    /// The legacy default stream of the device (`CU_STREAM_LEGACY`).
    pub fn legacy_default(device: &Device) -> Self {
        static IDS: Mutex<PerDevice<StreamId>> = Mutex::new(PerDevice::new());
        let id = IDS.lock().unwrap_or_else(PoisonError::into_inner).of(device, StreamId::unique);
        Self::assemble(device, RawStream::LEGACY, id, Origin::Legacy)
    }

    /// The calling thread's default stream (`CU_STREAM_PER_THREAD`). The handle may travel, but only
    /// this thread may give it work: to the driver the same handle means another stream elsewhere.
    pub fn per_thread_default(device: &Device) -> Self {
        thread_local! {
            static IDS: RefCell<PerDevice<StreamId>> = const { RefCell::new(PerDevice::new()) };
        }
        let id = IDS.with_borrow_mut(|ids| ids.of(device, StreamId::unique));
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
            Origin::Owned | Origin::Foreign => Arc::strong_count(&self.inner),
            Origin::Legacy | Origin::PerThread(_) => usize::MAX,
        }
    }

    /// Waits until the stream has done all its work.
    ///
    /// # Errors
    ///
    /// What the driver answers, errors of earlier work included.
    pub fn synchronize(&self) -> Result<(), DriverError> {
        let (raw, device) = (self.raw()?, self.device());
        // SAFETY: the handle is this stream's, which is alive.
        unsafe { device.driver().synchronize_stream(device.ordinal(), raw) }
    }

    /// Whether the stream has done all its work, without waiting.
    ///
    /// # Errors
    ///
    /// What the driver answers, errors of earlier work included.
    pub fn is_idle(&self) -> Result<bool, DriverError> {
        let (raw, device) = (self.raw()?, self.device());
        // SAFETY: the handle is this stream's, which is alive.
        unsafe { device.driver().query_stream(device.ordinal(), raw) }
    }

    /// Makes work enqueued here from now on wait for the work before the last
    /// [record](Event::record) of `event`. Does not block the host.
    ///
    /// # Errors
    ///
    /// [`DriverError::WrongDevice`] if the event belongs to another simulator, or what the driver answers.
    pub fn wait(&self, event: &Event) -> Result<(), DriverError> {
        let (raw, device) = (self.raw()?, self.device());
        if !event.device().id().same_machine(device.id()) {
            device.expect("the event", event.device().id())?;
        }
        // SAFETY: both handles are alive.
        unsafe { device.driver().wait_event(device.ordinal(), raw, event.raw()) }
    }

    /// Makes work enqueued here from now on wait for the work enqueued on `other` so far.
    ///
    /// # Errors
    ///
    /// Those of [`Event::new`], [`Event::record`] and [`Stream::wait`].
    pub fn wait_for(&self, other: &Stream) -> Result<(), DriverError> {
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
    /// [`DriverError::WrongDevice`] if the function was loaded for another device, or what the driver
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
    ) -> Result<(), DriverError> {
        let (raw, device) = (self.raw()?, self.device());
        device.expect("the kernel", function.device().id())?;
        // SAFETY: the caller vouches for the arguments; both handles are alive.
        device.launch(|| unsafe { device.driver().launch(device.ordinal(), function.raw(), config, args, raw) })
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
    pub unsafe fn launch_host(&self, kernel: HostKernel) -> Result<(), DriverError> {
        let _here = Calling::here();
        let (raw, device) = (self.raw()?, self.device());
        let declared = accounting::is_open().then(|| kernel.accesses.clone());
        // SAFETY: the caller vouches for the declared ranges; the handle is alive.
        device.launch(|| unsafe { device.driver().launch_host(device.ordinal(), kernel, raw) })?;
        for Access { addr, bytes, mode, .. } in declared.into_iter().flatten() {
            let cause = if mode == AccessMode::Write { Cause::KernelWrite } else { Cause::KernelRead };
            accounting::note(device, Asked { cause, to: self.device_id().into(), addr, bytes });
        }
        Ok(())
    }

    /// The driver's handle, for use by the calling thread now.
    #[inline]
    pub(crate) fn raw(&self) -> Result<RawStream, DriverError> {
        match self.inner.origin {
            Origin::PerThread(owner) if owner != thread::current().id() => {
                Err(DriverError::WrongThread { device: self.device_id() })
            }
            _ => Ok(self.inner.raw),
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if self.origin == Origin::Owned {
            // SAFETY: the last handle is going, and this library created the stream.
            let result = unsafe { self.device.driver().destroy_stream(self.device.ordinal(), self.raw) };
            record_drop_error("a stream", result);
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
        write!(f, "Stream({} {:?} on {})", self.id().0, self.inner.origin, self.device_id())
    }
}
