//! The class `Stream`, and the streams of other packages.

use crate::device::Device;
use crate::failure::Failure;
use crate::opened::Opened;
use crate::parent_only::ParentOnly;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::PyInt;

/// A stream that this package created.
#[pyclass(frozen, module = "cumem")]
#[derive(Debug)]
pub(crate) struct Stream(ParentOnly<cumem::Stream>);

#[pymethods]
impl Stream {
    #[new]
    fn new(py: Python<'_>, device: &Device) -> PyResult<Self> {
        if cumem_c::rust::is_forked_child() {
            return Err(Failure::Forked.into());
        }
        let stream = py.detach(|| cumem::Stream::new(device.inner())).map_err(Failure::from)?;
        Ok(Self(ParentOnly::new(stream)))
    }

    /// The stream as a `CUstream`.
    #[getter]
    fn handle(&self) -> u64 {
        self.0.as_raw()
    }

    #[getter]
    fn device(&self) -> Device {
        Device::over(self.0.device().clone())
    }

    /// The protocol of cuda.core: a version and the handle.
    fn __cuda_stream__(&self) -> (u32, u64) {
        (0, self.0.as_raw())
    }

    /// Waits until the stream has done all its work.
    fn synchronize(&self, py: Python<'_>) -> PyResult<()> {
        Ok(py.detach(|| self.0.synchronize()).map_err(Failure::from)?)
    }

    /// Makes the later work of this stream wait for the work of another one so far.
    fn wait_for(&self, py: Python<'_>, other: &Bound<'_, PyAny>) -> PyResult<()> {
        let other = resolve(self.0.device(), other)?;
        Ok(py.detach(|| self.0.wait_for(&other)).map_err(Failure::from)?)
    }

    fn __eq__(&self, other: &Self) -> bool {
        self.0.id() == other.0.id()
    }

    fn __hash__(&self) -> u64 {
        self.0.id().as_u64()
    }

    fn __repr__(&self) -> String {
        format!("<cumem.Stream {:#x} of {}>", self.0.as_raw(), self.0.device_id())
    }
}

/// Returns the stream of an argument: the default stream of the stack for `None`.
pub(crate) fn argument(stack: &Opened, stream: Option<&Bound<'_, PyAny>>) -> PyResult<cumem::Stream> {
    match stream {
        None => Ok(stack.default.clone()),
        Some(stream) => resolve(&stack.device, stream),
    }
}

/// Returns the stream that an object of any package describes.
pub(crate) fn resolve(device: &cumem::Device, object: &Bound<'_, PyAny>) -> PyResult<cumem::Stream> {
    if let Ok(own) = object.cast::<Stream>() {
        if cumem_c::rust::is_forked_child() {
            return Err(Failure::Forked.into());
        }
        let stream = &*own.get().0;
        device.check_device("the stream", stream.device_id()).map_err(Failure::from)?;
        return Ok(stream.clone());
    }
    let handle = handle_of(object)?;
    // SAFETY: who passes a stream promises that it exists, as in every package that takes a handle.
    Ok(unsafe { cumem::Stream::from_raw(device, handle) })
}

/// Returns the handle of a stream: a number, an object with the protocol `__cuda_stream__`, or a stream of PyTorch
/// (`cuda_stream`), CuPy (`ptr`) or Numba (`handle`).
fn handle_of(object: &Bound<'_, PyAny>) -> PyResult<u64> {
    if object.is_exact_instance_of::<PyInt>() {
        return object.extract();
    }
    if let Some(protocol) = object.getattr_opt("__cuda_stream__")? {
        let described = if protocol.is_callable() { protocol.call0()? } else { protocol };
        let (_version, handle): (u64, u64) = described.extract()?;
        return Ok(handle);
    }
    for name in ["cuda_stream", "ptr", "handle"] {
        let Some(value) = object.getattr_opt(name)? else { continue };
        let value = value.getattr_opt("value")?.unwrap_or(value);
        // The default stream of Numba has `None`.
        return if value.is_none() { Ok(0) } else { value.extract() };
    }
    let class = object.get_type().name()?;
    Err(PyTypeError::new_err(format!(
        "`{class}` is no stream: pass a cumem.Stream, an object with `__cuda_stream__`, a stream of PyTorch, CuPy or Numba, \
         or the handle as an int"
    )))
}
