//! [`Capture`]: a stream while it is captured; [`Graph`]: the captured work, which is launched as a whole.

use super::captures::CaptureUnderway;
use super::error::DeviceError;
use super::handle::Device;
use super::notice::Notice;
use super::stream::Stream;
use cumem_driver::owned::{OwnedGraph, OwnedGraphExec};
use cumem_driver::{CaptureMode, CaptureState};
use std::marker::PhantomData;

/// A stream while it is captured. Work that is enqueued on the stream becomes part of a graph, and is not executed.
///
/// A stream that [waits](Stream::wait) for an event of a captured stream is captured, too, and its work must be joined:
/// in the end, the first stream waits for it.
///
/// During a capture the driver refuses some calls, and the capture then ends with an error. Examples are waits of the
/// host for a captured stream or for the device ([`Stream::synchronize`], [`Stream::is_idle`],
/// [`Device::synchronize`]), and prefetches. Therefore a buffer cannot be read, or copied from or to ordinary memory, on
/// a captured stream. Allocations are not refused, because the library makes them in the mode that CUDA calls relaxed.
///
/// Dropping a capture discards the captured work.
///
/// # Examples
///
/// See [`Graph`].
#[derive(Debug)]
#[must_use = "dropping a capture discards the captured work"]
pub struct Capture<'s> {
    stream: Option<&'s Stream>,
    #[expect(dead_code, reason = "only dropped")]
    underway: CaptureUnderway,
    /// CUDA requires that the thread that began a capture ends it.
    _of_this_thread: PhantomData<*const ()>,
}

/// Captured work, which is launched as a whole (`CUgraphExec`).
///
/// # Examples
///
/// ```
/// use cumem::kernel::{CaptureMode, HostKernel};
/// use cumem::sim::Profile;
/// use cumem::{Buffer, CudaResource, Device, Stream};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let device = Device::simulated(Profile::default())?;
/// let stream = Stream::new(&device)?;
/// let counters = Buffer::<u32, _>::zeroed(100, &stream, CudaResource::new(&device))?;
/// let add_one =
///     HostKernel::repeatable("add one", |memory| memory.write::<u32>(0).iter_mut().for_each(|counter| *counter += 1))
///         .writes(counters.device_address(), counters.size_bytes());
///
/// // SAFETY: the program reads the buffer only after it has launched the graph.
/// let capture = unsafe { stream.begin_capture(CaptureMode::Global) }?;
/// // SAFETY: the kernel writes the buffer, which lives until `to_vec` below has waited for the launches.
/// unsafe { stream.launch_host(add_one) }?;
/// let graph = capture.end()?;
/// for _ in 0..3 {
///     // SAFETY: as above.
///     unsafe { graph.launch(&stream) }?;
/// }
/// assert_eq!(counters.to_vec()?, [3; 100]);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Graph {
    exec: OwnedGraphExec,
    device: Device,
}

impl Stream {
    /// Begins to capture this stream.
    ///
    /// # Errors
    ///
    /// Returns [`DeviceError::WrongThread`] for another thread's default stream, or the driver's error, for example
    /// `CUDA_ERROR_ILLEGAL_STATE` for a stream that is captured already, and `CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED` for
    /// the legacy default stream.
    ///
    /// # Safety
    ///
    /// The captured work is not executed before the graph is launched. Until then, the caller must not rely on its
    /// results. For example, [`Buffer::zeroed`](crate::Buffer::zeroed) on a captured stream returns a buffer that is not
    /// initialized. The caller must also ensure that memory that is used by captured work is not freed on another stream
    /// in the belief that this stream has passed that work.
    ///
    /// # Examples
    ///
    /// See [`Graph`].
    pub unsafe fn begin_capture(&self, mode: CaptureMode) -> Result<Capture<'_>, DeviceError> {
        let (raw, device) = (self.raw()?, self.device());
        let underway = device.capture_underway();
        // SAFETY: the handle is this stream's, which is alive. The caller ensures the rest.
        unsafe { device.driver().begin_capture(device.ordinal(), raw, mode) }?;
        Ok(Capture { stream: Some(self), underway, _of_this_thread: PhantomData })
    }

    /// Returns whether this stream is being captured, by this library or by other code.
    ///
    /// # Errors
    ///
    /// Returns [`DeviceError::WrongThread`] for another thread's default stream, or the driver's error.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::kernel::{CaptureMode, CaptureState};
    /// # use cumem::sim::Profile;
    /// # use cumem::{Device, Stream};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// assert_eq!(stream.capture_state()?, CaptureState::None);
    /// // SAFETY: the program enqueues no work.
    /// let capture = unsafe { stream.begin_capture(CaptureMode::Global) }?;
    /// assert!(matches!(stream.capture_state()?, CaptureState::Active { .. }));
    /// drop(capture);
    /// assert_eq!(stream.capture_state()?, CaptureState::None);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn capture_state(&self) -> Result<CaptureState, DeviceError> {
        let (raw, device) = (self.raw()?, self.device());
        // SAFETY: the handle is this stream's, which is alive.
        Ok(unsafe { device.driver().capture_state(device.ordinal(), raw) }?)
    }
}

impl Capture<'_> {
    /// Ends the capture, and returns the captured work.
    ///
    /// # Errors
    ///
    /// Returns the driver's error, for example `CUDA_ERROR_STREAM_CAPTURE_INVALIDATED` after a refused call, and
    /// `CUDA_ERROR_STREAM_CAPTURE_UNJOINED` if the work of another stream was not joined. The stream is not captured any
    /// more.
    ///
    /// # Examples
    ///
    /// See [`Graph`].
    pub fn end(mut self) -> Result<Graph, DeviceError> {
        let Some(stream) = self.stream.take() else { unreachable!("only `end` and the drop take the stream") };
        let captured = Self::captured(stream)?;
        Ok(Graph { exec: captured.instantiate()?, device: stream.device().clone() })
    }

    /// Ends the capture of a stream. If the driver refuses the call itself, the stream is still captured, and no wait for
    /// the device would succeed any more. The call is then made once more, and the error is that of the first call.
    fn captured(stream: &Stream) -> Result<OwnedGraph, DeviceError> {
        let end = || -> Result<OwnedGraph, DeviceError> {
            // SAFETY: the stream is alive, and belongs to the device.
            Ok(unsafe { OwnedGraph::end_capture(stream.device().raw(), stream.raw()?) }?)
        };
        end().inspect_err(|_| {
            if stream.is_captured() {
                drop(end());
            }
        })
    }
}

impl Drop for Capture<'_> {
    fn drop(&mut self) {
        // A capture that a refused call has invalidated fails here, too. The program has seen the error of that call.
        self.stream.take().into_iter().for_each(|stream| drop(Self::captured(stream)));
    }
}

impl Graph {
    /// Launches the captured work on a stream. Launches of one graph run one after the other.
    ///
    /// # Errors
    ///
    /// Returns [`DeviceError::WrongDevice`] for a stream of another device, [`DeviceError::WrongThread`] for another
    /// thread's default stream, [`DeviceError::HostAccess`] while a host guard over managed memory is open on a device
    /// without concurrent managed access, or the driver's error.
    ///
    /// # Safety
    ///
    /// All memory that the captured work uses stays allocated, and is not used in a conflicting way, until the stream has
    /// passed the launch.
    ///
    /// # Examples
    ///
    /// See [`Graph`].
    pub unsafe fn launch(&self, stream: &Stream) -> Result<(), DeviceError> {
        let (raw, device) = (stream.raw()?, stream.device());
        device.check_device("the graph", self.device.id())?;
        // SAFETY: graph and stream are alive and belong to one device. The caller ensures the rest.
        device.enqueue(|| unsafe { self.exec.launch(raw) })?;
        device.tell(&Notice::Launched { accesses: &[] });
        Ok(())
    }

    /// Returns the device of the graph.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::kernel::CaptureMode;
    /// # use cumem::sim::Profile;
    /// # use cumem::{Device, Stream};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// // SAFETY: the program enqueues no work.
    /// let graph = unsafe { stream.begin_capture(CaptureMode::Relaxed) }?.end()?; // a graph without work
    /// assert_eq!(graph.device(), &device);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn device(&self) -> &Device {
        &self.device
    }
}
