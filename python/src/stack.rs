//! The class `Stack`.

use crate::buffer::Buffer;
use crate::counters::Counters;
use crate::device::Device;
use crate::failure::Failure;
use crate::opened::Opened;
use crate::stream;
use cumem::{LayerExt, layout};
use cumem_adaptors::LimiterState;
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, PoisonError};

/// A stack of memory resources. Locked only for a moment and with the GIL.
#[pyclass(frozen, module = "cumem", weakref)]
#[derive(Debug)]
pub(crate) struct Stack {
    opened: Mutex<Option<Arc<Opened>>>,
}

impl Stack {
    fn new_over(opened: Opened) -> Self {
        Self { opened: Mutex::new(Some(Arc::new(opened))) }
    }

    /// Returns the open stack.
    pub(crate) fn opened(&self) -> Result<Arc<Opened>, Failure> {
        if cumem_c::rust::is_forked_child() {
            return Err(Failure::Forked);
        }
        let opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        opened.clone().ok_or(Failure::Closed("stack"))
    }
}

/// The `device` argument: a number or a `Device`.
#[derive(FromPyObject)]
enum DeviceArgument {
    Ordinal(i32),
    Device(Device),
}

#[pymethods]
impl Stack {
    #[new]
    #[pyo3(signature = (text, device=None, *, simulated=None))]
    fn new(py: Python<'_>, text: &str, device: Option<DeviceArgument>, simulated: Option<&str>) -> PyResult<Self> {
        let device = match (device, simulated) {
            (Some(DeviceArgument::Device(_)), Some(_)) => {
                return Err(PyTypeError::new_err("`device` is a device already: pass it or `simulated`, not both"));
            }
            (Some(DeviceArgument::Device(device)), None) => device,
            (Some(DeviceArgument::Ordinal(ordinal)), simulated) => Device::open(py, ordinal, simulated)?,
            (None, simulated) => Device::open(py, 0, simulated)?,
        };
        Ok(Self::new_over(py.detach(|| Opened::open(text, &device.0))?))
    }

    /// Returns the default stack of a device, which the C interface and PyTorch's functions use.
    #[staticmethod]
    #[pyo3(signature = (device=0))]
    fn default(py: Python<'_>, device: i32) -> PyResult<Self> {
        Ok(Self::new_over(py.detach(|| Opened::default_of(device))?))
    }

    #[getter]
    fn handle(&self) -> PyResult<usize> {
        Ok(self.opened()?.handle().addr())
    }

    #[getter]
    fn text(&self) -> PyResult<String> {
        Ok(self.opened()?.text())
    }

    #[getter]
    fn kind(&self) -> PyResult<&'static str> {
        Ok(self.opened()?.kind.name())
    }

    #[getter]
    fn is_host_accessible(&self) -> PyResult<bool> {
        Ok(self.opened()?.kind.is_host_accessible())
    }

    #[getter]
    fn is_device_accessible(&self) -> PyResult<bool> {
        Ok(self.opened()?.kind.is_device_accessible())
    }

    #[getter]
    fn device(&self) -> PyResult<Device> {
        Ok(Device(self.opened()?.device.clone()))
    }

    #[getter]
    fn closed(&self) -> bool {
        self.opened.lock().unwrap_or_else(PoisonError::into_inner).is_none()
    }

    #[pyo3(signature = (size, stream=None))]
    fn allocate(&self, py: Python<'_>, size: usize, stream: Option<&Bound<'_, PyAny>>) -> PyResult<Buffer> {
        let stack = self.opened()?;
        let stream = stream::argument(&stack, stream)?;
        let bytes = py.detach(|| stack.allocate(size, &stream))?;
        Ok(Buffer::new(bytes, stack))
    }

    #[pyo3(signature = (size, stream=None, align=1))]
    fn allocate_raw(
        &self,
        py: Python<'_>,
        size: usize,
        stream: Option<&Bound<'_, PyAny>>,
        align: usize,
    ) -> PyResult<usize> {
        let stack = self.opened()?;
        let stream = stream::argument(&stack, stream)?;
        let layout = layout::aligned(size, align).map_err(|error| PyValueError::new_err(error.to_string()))?;
        if size == 0 {
            return Ok(0);
        }
        Ok(py.detach(|| {
            let allocated = stack.by_address()?.allocate_address(&stream, layout);
            allocated.map(|ptr| ptr.as_ptr().addr()).map_err(|error| Failure::Alloc(error, stack.kind.name()))
        })?)
    }

    #[pyo3(signature = (ptr, stream=None, size=None))]
    fn free_raw(
        &self,
        py: Python<'_>,
        ptr: usize,
        stream: Option<&Bound<'_, PyAny>>,
        size: Option<usize>,
    ) -> PyResult<()> {
        let stack = self.opened()?;
        let stream = stream::argument(&stack, stream)?;
        let Some(ptr) = NonNull::new(std::ptr::with_exposed_provenance_mut::<u8>(ptr)) else { return Ok(()) };
        let ptr = ptr.addr();
        Ok(py.detach(|| {
            let ptr = NonNull::with_exposed_provenance(ptr);
            // SAFETY: the caller promises that all work with the memory is ordered before this point of the stream.
            Ok::<_, Failure>(unsafe { stack.by_address()?.deallocate_address(&stream, ptr, size) }?)
        })?)
    }

    /// Records that work on `stream` uses the memory at an address of `allocate_raw`.
    fn record_use_raw(&self, py: Python<'_>, ptr: usize, stream: &Bound<'_, PyAny>) -> PyResult<()> {
        let stack = self.opened()?;
        let stream = stream::resolve(&stack.device, stream)?;
        let Some(ptr) = std::num::NonZero::new(ptr) else { return Ok(()) };
        Ok(py.detach(|| {
            Ok::<_, Failure>(stack.by_address()?.record_use(NonNull::with_exposed_provenance(ptr), &stream)?)
        })?)
    }

    #[getter]
    fn counters(&self, py: Python<'_>) -> PyResult<Counters> {
        let stack = self.opened()?;
        Ok(py.detach(|| Counters::of(&stack))?)
    }

    #[getter]
    fn limit(&self) -> PyResult<Option<usize>> {
        let stack = self.opened()?;
        Ok(stack.layers().find::<LimiterState>().map(LimiterState::bytes))
    }

    #[pyo3(signature = (keep=0))]
    fn trim(&self, py: Python<'_>, keep: usize) -> PyResult<usize> {
        let stack = self.opened()?;
        Ok(py.detach(|| stack.layers().trim_stack(keep).map_err(Failure::from))?)
    }

    fn close(&self, py: Python<'_>) -> PyResult<()> {
        let opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner).take();
        py.detach(|| drop(opened));
        Ok(())
    }

    fn __enter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    #[pyo3(signature = (*_exception))]
    fn __exit__(&self, py: Python<'_>, _exception: &Bound<'_, pyo3::types::PyTuple>) -> PyResult<()> {
        self.close(py)
    }

    fn __repr__(&self) -> String {
        match self.opened() {
            Ok(stack) => format!("<cumem.Stack {}>", stack.text()),
            Err(_) => "<cumem.Stack closed>".into(),
        }
    }
}
